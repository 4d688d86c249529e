//! Reads of what is in the tier only, on threads that may wait for it.

use super::{Readers, Tiering};
use crate::cold_read::ColdRead;
use crate::effects::Done;
use flowstone_storage::Error;
use flowstone_storage::settled::{SegmentId, SettledReader, Source, Tiered};
use flowstone_tier::{ObjectId, TierEpoch};
use std::io::{self, ErrorKind};
use std::sync::{Arc, PoisonError};

/// Open segments that are kept. Each holds a chunk in memory.
const READERS_MAX: usize = 32;

impl Tiering {
    /// Reads, and tells what came of it. Others that read go on meanwhile.
    pub(crate) fn read(self: &Arc<Self>, read: ColdRead, tell: impl FnOnce(Done) + Send + 'static) {
        let tiering = self.clone();
        self.runtime.spawn(async move {
            let Ok(place) = tiering.reads.clone().acquire_owned().await else {
                return;
            };
            tokio::task::spawn_blocking(move || {
                let done = match tiering.reader(read.source) {
                    Ok(reader) => read.run(Ok(&reader)),
                    Err(e) => read.run(Err(e)),
                };
                tell(done);
                drop(place);
            });
        });
    }

    fn reader(&self, source: Source) -> Result<Arc<SettledReader>, Error> {
        let Some(copy) = source.remote else {
            return Err(crate::cold_read::no_tier());
        };
        let key = (source.id, copy.epoch);
        let open = |readers: &Readers| readers.iter().position(|(k, _)| *k == key);
        {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = open(&readers).and_then(|at| readers.remove(at)) {
                let reader = found.1.clone();
                readers.push_back(found);
                return Ok(reader);
            }
        }
        let reader = Arc::new(self.open_segment(source.id, copy)?);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= READERS_MAX {
            readers.pop_front();
        }
        readers.push_back((key, reader.clone()));
        Ok(reader)
    }

    fn open_segment(&self, id: SegmentId, copy: Tiered) -> Result<SettledReader, Error> {
        let ground = self.readable().map_err(|why| Error::Io {
            action: "read",
            path: "tier".into(),
            source: io::Error::new(ErrorKind::NotConnected, why),
        })?;
        let object = ObjectId {
            first_offset: id.first_offset,
            generation: id.generation,
            epoch: TierEpoch(copy.epoch),
        };
        let name = ground.tier.names().segment(id.partition, object);
        let file = ground.tier.file(id.partition, object, copy.bytes);
        SettledReader::over(Arc::new(file), name.as_ref().as_ref(), id)
    }
}
