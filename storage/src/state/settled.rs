//! What the store knows of settled segments, and of their copies in the tier.

use super::{META, SETTLED, SETTLED_UPTO, StateStore, TIERED, encoded, key_of};
use crate::error::Error;
use crate::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::Lsn;
use redb::{ReadableTable, Table};

/// Rows by partition and first offset.
type Rows<'tx> = Table<'tx, (u32, u64), &'static [u8]>;

impl StateStore {
    /// Adds and removes settled segments and moves the settled LSN, in one durable transaction.
    ///
    /// # Errors
    /// [`Error::State`]; the store is then as before or as after.
    pub fn commit_settled(
        &self,
        upto: Option<Lsn>,
        added: &[SettledMeta],
        removed: &[SegmentId],
    ) -> Result<(), Error> {
        self.write(|tx| {
            let mut settled = tx.open_table(SETTLED)?;
            let mut tiered = tx.open_table(TIERED)?;
            remove(&mut settled, &mut tiered, removed)?;
            for meta in added {
                settled.insert(key_of(meta.id()), &encoded(meta)?[..])?;
            }
            if let Some(upto) = upto {
                tx.open_table(META)?.insert(SETTLED_UPTO, upto.0)?;
            }
            Ok(())
        })
    }

    /// All settled segments, by partition and offset.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::Format`] for an entry that this version cannot read.
    pub fn settled(&self) -> Result<Vec<SettledMeta>, Error> {
        self.picture()?.settled()
    }

    /// What is known of copies in the tier, by partition and first offset. An entry counts where its
    /// generation is that of the settled segment.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub fn tiered(&self) -> Result<Vec<(SegmentId, Tiered)>, Error> {
        self.picture()?.tiered()
    }

    /// Takes settled segments and their copies out, and puts others in, in one durable transaction. What is
    /// put may have the number of what was taken out.
    ///
    /// # Errors
    /// [`Error::State`]; the store is then as before or as after.
    pub fn commit_adopted(
        &self,
        dropped: &[SegmentId],
        put: &[(SettledMeta, Option<Tiered>)],
    ) -> Result<(), Error> {
        self.write(|tx| {
            let mut settled = tx.open_table(SETTLED)?;
            let mut tiered = tx.open_table(TIERED)?;
            remove(&mut settled, &mut tiered, dropped)?;
            for (meta, copy) in put {
                let key = key_of(meta.id());
                settled.insert(key, &encoded(meta)?[..])?;
                match copy {
                    Some(copy) => drop(tiered.insert(key, &encoded(copy)?[..])?),
                    None => drop(tiered.remove(key)?),
                }
            }
            Ok(())
        })
    }

    /// Notes copies in the tier, in one durable transaction; a later note replaces an earlier one. One of
    /// a segment that is gone, or was rewritten, is not taken.
    ///
    /// # Errors
    /// [`Error::State`]; the store is then as before or as after.
    pub fn commit_tiered(&self, notes: &[(SegmentId, Tiered)]) -> Result<(), Error> {
        self.write(|tx| {
            let settled = tx.open_table(SETTLED)?;
            let mut table = tx.open_table(TIERED)?;
            for (id, tiered) in notes {
                let key = key_of(*id);
                let is_there = settled.get(key)?.is_some_and(|v| is_of(v.value(), *id));
                if is_there {
                    table.insert(key, &encoded(tiered)?[..])?;
                }
            }
            Ok(())
        })
    }
}

/// Removes the rows of segments.
fn remove(
    settled: &mut Rows<'_>,
    tiered: &mut Rows<'_>,
    ids: &[SegmentId],
) -> Result<(), redb::Error> {
    for id in ids {
        // Another generation may stand there by now.
        let key = key_of(*id);
        let same = settled.get(key)?.is_some_and(|v| is_of(v.value(), *id));
        if same {
            settled.remove(key)?;
        }
        let same = tiered.get(key)?.is_some_and(|v| {
            postcard::from_bytes::<Tiered>(v.value()).is_ok_and(|t| t.generation == id.generation)
        });
        if same {
            tiered.remove(key)?;
        }
    }
    Ok(())
}

/// Whether a row of the settled segments is that of this one.
fn is_of(row: &[u8], id: SegmentId) -> bool {
    postcard::from_bytes::<SettledMeta>(row).is_ok_and(|m| m.id() == id)
}
