//! The mark: a small file that says how far a shard's log is known to be durable.
//!
//! Two slots are written in turn, so that a torn write leaves the other one valid. The newest valid
//! slot counts. The durable LSN is a lower bound: the log may be durable further.
//!
//! ```text
//! slot (64 bytes, at 0 and at 4096, little-endian)
//!  0  magic        4  "FSM1"
//!  4  crc32        4  IEEE over bytes 8..64
//!  8  sequence     8  the higher one is newer
//! 16  durable LSN  8
//! 24  epoch        4
//! 28  starts       4
//! 32  clean        1  1 after an orderly stop
//! 33  zero         3
//! 36  promise      4  epoch, 0 for none  \
//! 40  its leader   4  node               | of a replica
//! 44               8  life               |
//! 52  own life     8                     /
//! 60  zero         4
//! ```

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use flowstone_wire::{Epoch, Incarnation, Lsn, NodeId};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"FSM1";
const CRC_AT: usize = 4;
const SEQUENCE_AT: usize = CRC_AT + 4;
const DURABLE_AT: usize = SEQUENCE_AT + 8;
const EPOCH_AT: usize = DURABLE_AT + 8;
const STARTS_AT: usize = EPOCH_AT + 4;
const CLEAN_AT: usize = STARTS_AT + 4;
const PROMISE_AT: usize = CLEAN_AT + 4;
const LEADER_AT: usize = PROMISE_AT + 4;
const LEADER_LIFE_AT: usize = LEADER_AT + 4;
const LIFE_AT: usize = LEADER_LIFE_AT + 8;
const SLOT_BYTES: usize = 64;
const _: () = assert!(LIFE_AT + 8 <= SLOT_BYTES);
/// The slots are a page apart, so that one torn page cannot hurt both.
const SLOT_AT: [u64; 2] = [0, 4096];
const FILE_BYTES: u64 = 8192;
/// No shard is started or stored as often: larger numbers are no mark's, and have a next one.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;
const STARTS_MAX: u32 = u32::MAX >> 1;

/// What a mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkState {
    /// All batches up to here are durable.
    pub durable: Lsn,
    /// Epoch of the shard's last leader here.
    pub epoch: Epoch,
    /// How often the shard was started here.
    pub starts: u32,
    /// Whether it was stopped in order.
    pub clean: bool,
    /// What this replica has promised and which life of its data this is.
    pub replica: ReplicaMark,
}

/// What a replica must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaMark {
    /// Leaders of lower epochs are refused; 0 if nothing was promised.
    pub promised: Epoch,
    /// To whom it was promised: a node and its life.
    pub leader: (NodeId, Incarnation),
    /// This life of the data; 0 where it never was a replica.
    pub life: Incarnation,
}

/// What the mark file looked like when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkFound {
    /// There was none, or it was created and never written.
    Nothing,
    /// A valid slot; `one_bad` if the other is neither valid nor blank.
    Valid {
        /// The other slot is damaged or was torn.
        one_bad: bool,
    },
    /// Both slots are damaged. This is not the same as nothing.
    BothBad,
}

/// An open mark file.
#[derive(Debug)]
pub struct Mark {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    sequence: u64,
    state: MarkState,
}

enum Slot {
    Blank,
    Bad,
    Valid(u64, MarkState),
}

fn decode(b: &[u8; SLOT_BYTES]) -> Slot {
    if b.iter().all(|b| *b == 0) {
        return Slot::Blank;
    }
    let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if b[..CRC_AT] != MAGIC || u32_at(CRC_AT) != crc32fast::hash(&b[SEQUENCE_AT..]) {
        return Slot::Bad;
    }
    let state = MarkState {
        durable: Lsn(u64_at(DURABLE_AT)),
        epoch: Epoch(u32_at(EPOCH_AT)),
        starts: u32_at(STARTS_AT),
        clean: b[CLEAN_AT] == 1,
        replica: ReplicaMark {
            promised: Epoch(u32_at(PROMISE_AT)),
            leader: (
                NodeId(u32_at(LEADER_AT)),
                Incarnation(u64_at(LEADER_LIFE_AT)),
            ),
            life: Incarnation(u64_at(LIFE_AT)),
        },
    };
    let sequence = u64_at(SEQUENCE_AT);
    let possible = (1..=SEQUENCE_MAX).contains(&sequence)
        && state.durable.0 <= SEQUENCE_MAX
        && state.epoch.0 <= STARTS_MAX
        && state.replica.promised.0 <= STARTS_MAX
        && state.starts <= STARTS_MAX;
    if !possible {
        return Slot::Bad;
    }
    Slot::Valid(sequence, state)
}

fn encode(sequence: u64, state: &MarkState) -> [u8; SLOT_BYTES] {
    let mut b = [0; SLOT_BYTES];
    b[..CRC_AT].copy_from_slice(&MAGIC);
    b[SEQUENCE_AT..DURABLE_AT].copy_from_slice(&sequence.to_le_bytes());
    b[DURABLE_AT..EPOCH_AT].copy_from_slice(&state.durable.0.to_le_bytes());
    b[EPOCH_AT..STARTS_AT].copy_from_slice(&state.epoch.0.to_le_bytes());
    b[STARTS_AT..CLEAN_AT].copy_from_slice(&state.starts.to_le_bytes());
    b[CLEAN_AT] = u8::from(state.clean);
    let ReplicaMark {
        promised,
        leader: (node, leaders_life),
        life,
    } = state.replica;
    b[PROMISE_AT..LEADER_AT].copy_from_slice(&promised.0.to_le_bytes());
    b[LEADER_AT..LEADER_LIFE_AT].copy_from_slice(&node.0.to_le_bytes());
    b[LEADER_LIFE_AT..LIFE_AT].copy_from_slice(&leaders_life.0.to_le_bytes());
    b[LIFE_AT..LIFE_AT + 8].copy_from_slice(&life.0.to_le_bytes());
    let crc = crc32fast::hash(&b[SEQUENCE_AT..]);
    b[CRC_AT..SEQUENCE_AT].copy_from_slice(&crc.to_le_bytes());
    b
}

impl Mark {
    /// Opens the mark, creating it where it is not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, MarkFound), Error> {
        let file = match disk.open(path) {
            Ok(file) => {
                file.drop_cached().map_err(Error::io("read", path))?;
                file
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let file = disk
                    .create(path, FILE_BYTES)
                    .map_err(Error::io("create", path))?;
                file.sync().map_err(Error::io("sync", path))?;
                let dir = path.parent().unwrap_or(Path::new(""));
                disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
                file
            }
            Err(e) => return Err(Error::io("open", path)(e)),
        };
        let mut mark = Self {
            file,
            path: path.into(),
            sequence: 0,
            state: MarkState::default(),
        };
        let found = mark.load()?;
        Ok((mark, found))
    }

    fn load(&mut self) -> Result<MarkFound, Error> {
        // A crash between creation and allocation leaves it short; what is missing reads as blank.
        let len = self.file.len().map_err(Error::io("read", &self.path))?;
        if len < FILE_BYTES {
            self.file
                .set_len(FILE_BYTES)
                .map_err(Error::io("extend", &self.path))?;
        }
        let (mut valid, mut bad) = (0, 0);
        for at in SLOT_AT {
            let mut b = [0; SLOT_BYTES];
            self.file
                .read_at(at, &mut b)
                .map_err(Error::io("read", &self.path))?;
            match decode(&b) {
                Slot::Blank => {}
                Slot::Bad => bad += 1,
                Slot::Valid(sequence, state) => {
                    valid += 1;
                    if sequence > self.sequence {
                        (self.sequence, self.state) = (sequence, state);
                    }
                }
            }
        }
        Ok(match (valid, bad) {
            (0, 0 | 1) => MarkFound::Nothing,
            (0, _) => MarkFound::BothBad,
            (_, bad) => MarkFound::Valid { one_bad: bad > 0 },
        })
    }

    /// The newest valid state; all zero where there is none.
    pub fn state(&self) -> MarkState {
        self.state
    }

    /// Notes that the log is durable up to here, at least; only [`Self::retreat`] takes anything back.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn advance(&mut self, durable: Lsn, clean: bool) -> Result<(), Error> {
        self.store(MarkState {
            durable: durable.max(self.state.durable),
            clean,
            ..self.state
        })
    }

    /// Notes what the replica has promised, or which life it is.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn keep(&mut self, replica: ReplicaMark) -> Result<(), Error> {
        self.store(MarkState {
            replica,
            ..self.state
        })
    }

    /// Takes back what was noted above `last`: the log is about to be cut there.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn retreat(&mut self, last: Lsn) -> Result<(), Error> {
        self.store(MarkState {
            durable: last.min(self.state.durable),
            clean: false,
            ..self.state
        })
    }

    /// Writes `state` into the older slot and makes it durable.
    ///
    /// # Errors
    /// [`Error::Io`]; the mark then stands as before, or as `state`.
    pub fn store(&mut self, state: MarkState) -> Result<(), Error> {
        let sequence = self.sequence + 1;
        let at = SLOT_AT[(sequence % 2) as usize];
        let bytes = encode(sequence, &state);
        self.file
            .write_at(at, &[IoSlice::new(&bytes)])
            .map_err(Error::io("write", &self.path))?;
        self.file.sync().map_err(Error::io("sync", &self.path))?;
        (self.sequence, self.state) = (sequence, state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;

    fn state(durable: u64) -> MarkState {
        MarkState {
            durable: Lsn(durable),
            epoch: Epoch(2),
            starts: 3,
            clean: true,
            replica: ReplicaMark {
                promised: Epoch(7),
                leader: (NodeId(3), Incarnation(0x0102_0304_0506_0708)),
                life: Incarnation(0x1112_1314_1516_1718),
            },
        }
    }

    #[test]
    fn the_newest_slot_counts_and_a_bad_one_leaves_the_other() {
        let disk = SimDisk::default();
        let path = Path::new("mark");
        let (mut mark, found) = Mark::open(&disk, path).unwrap();
        assert_eq!(found, MarkFound::Nothing);
        mark.store(state(5)).unwrap();
        mark.store(state(9)).unwrap();
        assert_eq!(Mark::open(&disk, path).unwrap().0.state(), state(9));
        // Store number 2 went to slot 0.
        disk.flip_bit(path, 20, 3);
        let (mark, found) = Mark::open(&disk, path).unwrap();
        assert_eq!(
            (mark.state(), found),
            (state(5), MarkFound::Valid { one_bad: true })
        );
        disk.flip_bit(path, 4096 + 20, 3);
        assert_eq!(Mark::open(&disk, path).unwrap().1, MarkFound::BothBad);
    }

    #[test]
    fn numbers_that_cannot_be_are_bad() {
        let with = |change: fn(&mut MarkState)| {
            let mut state = state(9);
            change(&mut state);
            decode(&encode(1, &state))
        };
        assert!(matches!(with(|_| {}), Slot::Valid(1, _)));
        assert!(matches!(with(|s| s.durable = Lsn(u64::MAX)), Slot::Bad));
        assert!(matches!(with(|s| s.epoch = Epoch(u32::MAX)), Slot::Bad));
        assert!(matches!(with(|s| s.starts = u32::MAX), Slot::Bad));
        assert!(matches!(
            with(|s| s.replica.promised = Epoch(u32::MAX)),
            Slot::Bad
        ));
        assert!(matches!(decode(&encode(0, &state(9))), Slot::Bad));
        assert!(matches!(decode(&encode(u64::MAX, &state(9))), Slot::Bad));
    }

    #[test]
    fn what_is_durable_goes_back_only_on_request_and_a_promise_stays() {
        let disk = SimDisk::default();
        let path = Path::new("mark");
        let (mut mark, _) = Mark::open(&disk, path).unwrap();
        mark.store(state(9)).unwrap();
        mark.advance(Lsn(4), true).unwrap();
        assert_eq!(mark.state(), state(9));
        mark.retreat(Lsn(4)).unwrap();
        let promise = ReplicaMark {
            promised: Epoch(8),
            ..state(9).replica
        };
        mark.keep(promise).unwrap();
        let found = Mark::open(&disk, path).unwrap().0.state();
        assert_eq!((found.durable, found.clean), (Lsn(4), false));
        assert_eq!(found.replica, promise);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(7, &state(9));
        for bit in 0..SLOT_BYTES * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&b), Slot::Valid(..)), "bit {bit}");
        }
    }
}
