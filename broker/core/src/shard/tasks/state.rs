//! State of tasks that is in the state store only: what is not loaded, read back, and removed.
//!
//! ```text
//! open:    rows --> Stored: the first of them, and where the others are
//! step:    the task misses entries --> ReadState --> StateRead --> step again
//! full:    the state store takes what has changed --> what it has can be let go --> step again
//! forget:  ReadState --> keys to remove --> the state store removes them --> ReadState ...
//! ```

use super::{Entry, Running, Tasks};
use crate::input::Now;
use crate::output::{Outbox, Output};
use crate::shard::Shard;
use crate::shard::materialize::task_key;
use flowstone_processor::{Found, LeftOut, Wanted};
use flowstone_storage::{Error, StateStore};

/// Bytes of a task's state that are loaded when the shard is opened; the rest is read when it is needed.
const LOAD_BYTES: usize = 64 << 20;
/// Bytes that one answer has before it is cut short, and bytes of one range of it.
const READ_BYTES: usize = 16 << 20;
const RANGE_BYTES: usize = 4 << 20;
/// Entries of a pipeline that is gone which are removed at once.
const REMOVE_MOST: usize = 4096;

/// What is stored of a pipeline that does not run.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) entries: Vec<Entry>,
    pub(super) left_out: LeftOut,
    bytes: usize,
}

impl Stored {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.bytes > LOAD_BYTES && self.left_out.note(key, value) {
            return;
        }
        self.bytes += key.len() + value.len();
        self.entries.push((key.to_vec(), value.to_vec()));
    }
}

/// Reads what the state store has of a pipeline's state: of each range in turn, until there are
/// 16 MiB of them.
///
/// # Errors
/// [`Error::State`].
pub fn read_state(state: &StateStore, id: u32, wanted: &[Wanted]) -> Result<Vec<Found>, Error> {
    let prefix = task_key(id, &[]).len();
    let (mut all, mut bytes) = (Vec::new(), 0);
    for wanted in wanted {
        if bytes > READ_BYTES {
            break;
        }
        let range = task_key(id, &wanted.from)..task_key(id, &wanted.to);
        let most_bytes = match wanted.most {
            usize::MAX => usize::MAX,
            _ => RANGE_BYTES,
        };
        let (mut entries, complete) = state.entries(range, wanted.most, most_bytes)?;
        for (key, value) in &mut entries {
            key.drain(..prefix);
            bytes += key.len() + value.len();
        }
        all.push(Found { entries, complete });
    }
    Ok(all)
}

/// How far the removal of what a pipeline left is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its task was told to read something, and has not been answered.
    Waiting,
    /// Its keys are to be read.
    Ask,
    /// They are being read.
    Reading,
    /// The next picture removes those that were read.
    Found { all: bool },
    /// It was taken.
    Removing { all: bool },
}

impl Running {
    /// Whether the task's state is within its memory, or can be brought there at once.
    pub(super) fn has_room(&mut self) -> bool {
        // Until the state store has more there is nothing to be had.
        self.full = self.full || !self.task.has_room();
        !self.full
    }

    /// Asks for what the last step has missed.
    pub(super) fn ask_for_state(&mut self, out: &mut Outbox) {
        let wanted = self.task.wanted();
        if !wanted.is_empty() && !self.reading {
            self.reading = true;
            let id = self.config.id;
            out.push(Output::ReadState { id, wanted });
        }
    }

    /// Takes what was read.
    fn state_read(&mut self, now: Now, result: Result<Vec<Found>, String>) {
        if !std::mem::take(&mut self.reading) {
            return;
        }
        self.ready = true;
        let result = match result {
            // What was read may be older than what was stored since.
            _ if std::mem::take(&mut self.stale) => return self.task.ask_again(),
            Ok(found) => self.task.admit(&found).map_err(|e| e.to_string()),
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            self.task.ask_again();
            self.fail(now, e);
        }
    }

    /// The state store has what it was given last.
    fn stored(&mut self) {
        self.task.stored();
        self.stale = self.reading;
        self.ready |= std::mem::take(&mut self.full);
        // A follower takes no step of its own that would do it.
        self.task.has_room();
    }
}

impl Tasks {
    /// Whether state of one of them is being read.
    pub(in crate::shard) fn is_reading(&self) -> bool {
        let removing = self.removals.values().any(|r| *r == Removal::Reading);
        removing || self.running.iter().flatten().any(|r| r.reading)
    }

    /// Asks for the keys of pipelines that are gone.
    pub(in crate::shard) fn ask_for_removals(&mut self, out: &mut Outbox) {
        for (id, removal) in &mut self.removals {
            if *removal == Removal::Ask {
                *removal = Removal::Reading;
                // All keys of a task begin with a letter.
                let wanted = vec![Wanted {
                    from: Vec::new(),
                    to: vec![u8::MAX],
                    most: REMOVE_MOST,
                }];
                out.push(Output::ReadState { id: *id, wanted });
            }
        }
    }

    /// The next picture removes what was read. Returns whether there is something to remove.
    fn remove(&mut self, id: u32, result: Result<Vec<Found>, String>) -> bool {
        let Some(removal) = self.removals.get_mut(&id) else {
            return false;
        };
        if *removal == Removal::Waiting {
            *removal = Removal::Ask;
            return false;
        }
        if *removal != Removal::Reading {
            return false;
        }
        let Some(found) = result.unwrap_or_default().pop() else {
            // It is read again behind the next picture.
            *removal = Removal::Removing { all: false };
            return false;
        };
        *removal = Removal::Found {
            all: found.complete,
        };
        let keys = found.entries.into_iter();
        self.gone.extend(keys.map(|(key, _)| task_key(id, &key)));
        true
    }

    /// A picture was taken.
    pub(super) fn removals_taken(&mut self) {
        for removal in self.removals.values_mut() {
            if let Removal::Found { all } = *removal {
                *removal = Removal::Removing { all };
            }
        }
    }

    /// The state store has the last picture.
    pub(in crate::shard) fn stored(&mut self) {
        self.running.iter_mut().flatten().for_each(Running::stored);
        self.removals.retain(|_, removal| match *removal {
            Removal::Removing { all } => {
                *removal = Removal::Ask;
                !all
            }
            _ => true,
        });
    }
}

impl Shard {
    /// Takes what the state store has of a pipeline.
    pub(in crate::shard) fn state_read(
        &mut self,
        now: Now,
        id: u32,
        result: Result<Vec<Found>, String>,
        out: &mut Outbox,
    ) {
        match self.tasks.by_id(id) {
            Some(r) => r.state_read(now, result),
            None => self.materializer.wanted |= self.tasks.remove(id, result),
        }
        self.finish_drain(out);
    }
}
