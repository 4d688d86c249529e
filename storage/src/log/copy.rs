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

/// A group of batches: those that count all together.
struct Group {
    batches: Vec<(BatchHeader, Bytes)>,
    bytes: u64,
}

/// Proves that these are whole groups from the first of the LSNs to the second, or further back, all of
/// the epoch.
///
/// # Errors
/// [`CopyError::NotThat`].
pub fn check_copy(range: (Epoch, Lsn, Lsn), bodies: &[Bytes]) -> Result<(), CopyError> {
    let first = range.1;
    let found = groups_of(range, bodies);
    found
        .map(drop)
        .map_err(|what| CopyError::NotThat { first, what })
}

impl ShardLog {
    /// Appends whole groups that another node's log has from `first`, which is the next LSN, to `last`,
    /// all of `epoch`, and writes them to the page cache. Batches below `first` are passed over.
    ///
    /// # Errors
    /// [`CopyError::NotThat`], and what [`Self::make_room`] and [`Self::flush`] say; after an error of
    /// these the log ends with a whole group, and may have got some of them.
    pub fn append_copy(
        &mut self,
        (epoch, first, last): (Epoch, Lsn, Lsn),
        bodies: &[Bytes],
    ) -> Result<(), CopyError> {
        let groups = groups_of((epoch, first, last), bodies)
            .map_err(|what| CopyError::NotThat { first, what })?;
        if first != self.next_lsn {
            let what = format!("LSN {} comes next", self.next_lsn);
            return Err(CopyError::NotThat { first, what });
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

/// Proves the batches and puts them into groups.
fn groups_of(
    (epoch, first, last): (Epoch, Lsn, Lsn),
    bodies: &[Bytes],
) -> Result<Vec<Group>, String> {
    let mut groups = Vec::new();
    let mut group = Group {
        batches: Vec::new(),
        bytes: 0,
    };
    let mut next = None;
    for body in bodies {
        let mut rest = body.clone();
        while !rest.is_empty() {
            let header = batch::verify(&rest).map_err(|e| e.to_string())?;
            let bytes = rest.split_to(header.size as usize);
            if header.epoch != epoch || next.is_some_and(|n| n != header.lsn) {
                return Err(format!("there is LSN {} of {}", header.lsn, header.epoch));
            }
            next = Some(header.lsn.next());
            if header.lsn < first {
                continue;
            }
            group.bytes += u64::from(header.size);
            let continues = header.group_continues();
            group.batches.push((header, bytes));
            if !continues {
                let empty = Group {
                    batches: Vec::new(),
                    bytes: 0,
                };
                groups.push(std::mem::replace(&mut group, empty));
            }
        }
    }
    let begins = groups.first().map(|g: &Group| g.batches[0].0.lsn);
    if begins != Some(first) || next != Some(last.next()) || !group.batches.is_empty() {
        return Err(format!("it is not whole groups from {first} to {last}"));
    }
    Ok(groups)
}
