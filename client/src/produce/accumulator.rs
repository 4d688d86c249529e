//! The records of one partition that wait to be sent: an open batch and those that are full.
//!
//! Callers encode their records straight into the open batch, under a lock that is held for that
//! long only. The sender says what it wants to be woken for, so that a record costs no signal while
//! the sender is busy with the partition anyway.

use super::budget::{Budget, Taken};
use super::options::Options;
use super::ticket::{Completion, Outcome, Ticket};
use crate::error::Error;
use crate::record::Record;
use flowstone_wire::BatchBuilder;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Room of the first batch; later ones start with the size of the one before.
const FIRST_ROOM_BYTES: usize = 1 << 10;

/// Records added to one batch before its caller gives way.
const GIVE_WAY_RECORDS: u32 = 1024;

/// A batch whose records are complete but not numbered.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) builder: BatchBuilder,
    pub(crate) completion: Completion,
    /// When its first record came.
    pub(crate) opened_at: Instant,
}

/// What the sender wants to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interest {
    /// Anything to send.
    Any,
    /// A full batch; a timer runs for the open one.
    Full,
    /// Nothing: it will look by itself.
    Nothing,
}

#[derive(Debug)]
struct State {
    open: Option<Gathered>,
    full: VecDeque<Gathered>,
    interest: Interest,
    /// Outcomes that may not be known yet, oldest first; for flush.
    outcomes: VecDeque<Arc<Outcome>>,
    next_room_bytes: usize,
    closed: bool,
}

/// What a push led to.
pub(crate) struct Pushed {
    pub(crate) ticket: Ticket,
    /// The sender is to be woken for this partition.
    pub(crate) wake: bool,
    /// A batch was closed: records without a key go elsewhere now.
    pub(crate) batch_closed: bool,
    /// Much was added since: the sender should get a turn before the next record.
    pub(crate) give_way: bool,
}

/// What there is to send.
pub(crate) enum Waiting {
    /// This batch, now.
    Batch(Gathered),
    /// A batch that may wait until then for more records.
    Until(Instant),
    /// Nothing.
    Nothing,
}

/// The waiting records of one partition.
#[derive(Debug)]
pub(crate) struct Accumulator {
    partition: u32,
    state: Mutex<State>,
}

impl Accumulator {
    pub(crate) fn new(partition: u32) -> Self {
        Self {
            partition,
            state: Mutex::new(State {
                open: None,
                full: VecDeque::new(),
                interest: Interest::Any,
                outcomes: VecDeque::new(),
                next_room_bytes: FIRST_ROOM_BYTES,
                closed: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record of at most `size_bytes`, for which `taken_bytes` were taken from the budget.
    ///
    /// # Errors
    /// [`Error::Closed`].
    #[inline]
    pub(crate) fn push(
        &self,
        record: &Record<'_>,
        size: Size,
        budget: &Arc<Budget>,
        options: &Options,
    ) -> Result<Pushed, Error> {
        let timestamp_ms = record.wanted_timestamp_ms().unwrap_or_else(now_ms);
        let mut state = self.state();
        if state.closed {
            drop(Taken::new(budget, size.taken_bytes));
            return Err(Error::Closed);
        }
        let mut batch_closed = false;
        if let Some(open) = &mut state.open {
            let fits = open.builder.len() + size.record_bytes <= options.batch_bytes;
            if fits && add(&mut open.builder, timestamp_ms, record) {
                open.completion.take_more(size.taken_bytes);
                let index = open.builder.count() - 1;
                let ticket = Ticket::new(open.completion.outcome(), index);
                // The sender knows of the open batch since its first record.
                return Ok(Pushed {
                    ticket,
                    wake: false,
                    batch_closed: false,
                    give_way: (index + 1) % GIVE_WAY_RECORDS == 0,
                });
            }
            batch_closed = true;
            state.close_open();
        }
        let taken = Taken::new(budget, size.taken_bytes);
        let ticket = state.open_with(self.partition, timestamp_ms, record, taken, options)?;
        Ok(Pushed {
            ticket,
            wake: state.wakes(batch_closed),
            batch_closed,
            give_way: batch_closed,
        })
    }

    /// Takes what is to be sent now. The sender can send, and asks.
    pub(crate) fn take(&self, now: Instant, options: &Options) -> Waiting {
        let mut state = self.state();
        if let Some(full) = state.full.pop_front() {
            return Waiting::Batch(full);
        }
        let Some(open) = &state.open else {
            state.interest = Interest::Any;
            return Waiting::Nothing;
        };
        let due_at = open.opened_at + options.linger;
        if due_at > now {
            state.interest = Interest::Full;
            return Waiting::Until(due_at);
        }
        state.close_open();
        match state.full.pop_front() {
            Some(batch) => Waiting::Batch(batch),
            None => Waiting::Nothing,
        }
    }

    /// Closes the open batch whatever its age. Returns the outcomes that are not known yet, and
    /// whether the sender is to be woken.
    pub(crate) fn hurry(&self) -> (Vec<Arc<Outcome>>, bool) {
        let mut state = self.state();
        state.close_open();
        let wake = !state.full.is_empty() && state.wakes(true);
        let unknown = state.outcomes.iter().filter(|o| !o.is_known());
        (unknown.cloned().collect(), wake)
    }

    /// Refuses records from now on; the ones that wait are failed.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let dropped = (state.open.take(), std::mem::take(&mut state.full));
        drop(state);
        drop(dropped);
    }
}

impl State {
    fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            // A quarter more, so that a steady stream does not outgrow it every time.
            self.next_room_bytes = open.builder.len() + open.builder.len() / 4;
            self.full.push_back(open);
        }
    }

    fn open_with(
        &mut self,
        partition: u32,
        timestamp_ms: i64,
        record: &Record<'_>,
        taken: Taken,
        options: &Options,
    ) -> Result<Ticket, Error> {
        let room_bytes = self
            .next_room_bytes
            .clamp(FIRST_ROOM_BYTES, options.batch_bytes.max(FIRST_ROOM_BYTES));
        let mut builder = BatchBuilder::with_capacity(options.codec, room_bytes);
        if !add(&mut builder, timestamp_ms, record) {
            // Its limits were checked before; this is for a limit that is checked there only.
            return Err(Error::Invalid(
                "record fits no batch; send less at once".to_owned(),
            ));
        }
        let completion = Completion::new(partition, taken);
        while self.outcomes.front().is_some_and(|o| o.is_known()) {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(Arc::clone(completion.outcome()));
        let ticket = Ticket::new(completion.outcome(), 0);
        self.open = Some(Gathered {
            builder,
            completion,
            opened_at: Instant::now(),
        });
        Ok(ticket)
    }

    /// Whether the sender is to be woken; it is woken once.
    fn wakes(&mut self, batch_closed: bool) -> bool {
        let wake = match self.interest {
            Interest::Any => true,
            Interest::Full => batch_closed,
            Interest::Nothing => false,
        };
        if wake {
            self.interest = Interest::Nothing;
        }
        wake
    }
}

/// What a record takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// In a batch, at most.
    pub(crate) record_bytes: usize,
    /// From the budget.
    pub(crate) taken_bytes: usize,
}

#[inline]
fn add(builder: &mut BatchBuilder, timestamp_ms: i64, record: &Record<'_>) -> bool {
    let (key, value) = (record.key_bytes(), record.value_bytes());
    builder.push(timestamp_ms, key, value, &record.header_views())
}

/// The time of day in milliseconds since 1970; 0 if the clock stands before that.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
