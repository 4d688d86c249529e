//! Appending what another node has appended first: the same bytes at the same LSNs.

use super::ShardLog;
use crate::error::Error;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, Epoch, Lsn, batch};

/// Why batches of another node's log cannot be appended here.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// They are not what they should be; nothing was appended.
    #[error("what was sent is not the log from LSN {first} on: {what}")]
    NotThat {
        /// The first LSN that was wanted.
        first: Lsn,
        /// What is wrong.
        what: String,
    },
    /// The log cannot take them.
    #[error(transparent)]
    Log(#[from] Error),
}

/// A group of batches: those that count all together. Never empty but while it is being put together.
#[derive(Clone, Debug, Default)]
struct Group {
    batches: Vec<(BatchHeader, Bytes)>,
    bytes: u64,
}

/// Batches of another node's log that were proven: their checksums, that they follow each other, are of
/// one epoch, and are whole groups.
#[derive(Clone, Debug)]
pub struct CheckedCopy {
    /// Never empty.
    groups: Vec<Group>,
}

impl CheckedCopy {
    /// Proves that these are the whole groups from the first of the LSNs to the second, all of the epoch.
    /// Reads every byte once; keeps slices of the bodies.
    ///
    /// # Errors
    /// [`CopyError::NotThat`].
    pub fn prove(range: (Epoch, Lsn, Lsn), bodies: Vec<Bytes>) -> Result<Self, CopyError> {
        let first = range.1;
        match groups_of(range, bodies) {
            Ok(groups) => Ok(Self { groups }),
            Err(what) => Err(CopyError::NotThat { first, what }),
        }
    }

    /// The groups from this LSN on; none where no group begins with it.
    fn groups_from(mut self, from: Lsn) -> Vec<Group> {
        let begins = |g: &Group| g.batches[0].0.lsn == from;
        let at = self.groups.iter().position(begins);
        self.groups.split_off(at.unwrap_or(self.groups.len()))
    }
}

impl ShardLog {
    /// Appends of a copy what is not here yet: the groups from `from` on, which is the next LSN. Writes them
    /// to the page cache.
    ///
    /// # Errors
    /// [`CopyError::NotThat`] if `from` is not the next LSN or no group of the copy begins with it, and what
    /// [`Self::make_room`] and [`Self::flush`] say; after an error of these the log ends with a whole
    /// group, and may have got some of them.
    pub fn append_copy(&mut self, copy: CheckedCopy, from: Lsn) -> Result<(), CopyError> {
        let groups = copy.groups_from(from);
        if from != self.next_lsn || groups.is_empty() {
            let what = format!("LSN {} comes next, with a whole group", self.next_lsn);
            return Err(CopyError::NotThat { first: from, what });
        }
        for group in groups {
            self.make_room(group.bytes)?;
            for (header, bytes) in group.batches {
                self.place(&header, bytes);
            }
        }
        self.flush()?;
        Ok(())
    }
}

/// Proves the batches and puts them into groups, at least one.
fn groups_of(
    (epoch, first, last): (Epoch, Lsn, Lsn),
    bodies: Vec<Bytes>,
) -> Result<Vec<Group>, String> {
    let (mut groups, mut group) = (Vec::new(), Group::default());
    let mut next = first;
    for mut rest in bodies {
        while !rest.is_empty() {
            let header = batch::verify(&rest).map_err(|e| e.to_string())?;
            let bytes = rest.split_to(header.size as usize);
            if header.epoch != epoch || header.lsn != next {
                return Err(format!("there is LSN {} of {}", header.lsn, header.epoch));
            }
            next = next.next();
            group.bytes += u64::from(header.size);
            let continues = header.group_continues();
            group.batches.push((header, bytes));
            if !continues {
                groups.push(std::mem::take(&mut group));
            }
        }
    }
    if groups.is_empty() || next != last.next() || !group.batches.is_empty() {
        return Err(format!("it is not whole groups from {first} to {last}"));
    }
    Ok(groups)
}
