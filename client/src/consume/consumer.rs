//! The handle of a consumer: hands out what was read ahead and remembers how far it got.
//!
//! ```text
//!  per partition:   fetch under way --answer--> being handed out --> application
//!                         ^                          |
//!                         +--- the next one starts as soon as an answer is taken up
//! ```

use super::fetch::Fetched;
use super::fetcher::Source;
use super::records::Records;
use crate::client::Client;
use crate::error::Error;
use crate::transport::Route;
use flowstone_wire::Offset;
use flowstone_wire::native::{CommitOffsets, FetchAnswer, GroupOffset, Place};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// One set of records is closed once its bodies hold so many bytes: compressed batches may unfold to
/// a multiple of what was fetched.
const HAND_OUT_BYTES: usize = 4 << 20;

/// One partition as it is read.
pub(crate) struct Reader {
    source: Arc<Source>,
    /// The next record to hand out.
    pub(crate) position: Offset,
    committed: Option<Offset>,
    bounds: Option<FetchAnswer>,
    /// The fetch under way; its number tells it from one that a seek made void.
    fetch: Option<AbortHandle>,
    fetch_number: u64,
}

impl Reader {
    pub(crate) fn new(source: Arc<Source>, position: Offset) -> Self {
        Self {
            source,
            position,
            committed: None,
            bounds: None,
            fetch: None,
            fetch_number: 0,
        }
    }
}

/// The consumer group that positions are stored for.
pub(crate) struct Group {
    name: String,
    client: Client,
}

impl Group {
    pub(crate) fn new(name: String, client: Client) -> Self {
        Self { name, client }
    }
}

/// What a fetch came back with.
struct Done {
    at: usize,
    fetch_number: u64,
    result: Result<Fetched, Error>,
}

/// Reads some partitions of a topic. Dropping it ends its tasks.
pub struct Consumer {
    /// In order of their partitions' indexes.
    readers: Vec<Reader>,
    group: Option<Group>,
    max_wait: Duration,
    fetches: JoinSet<Done>,
    /// The answer being handed out, and whose it is.
    current: Option<(usize, Fetched)>,
}

impl Consumer {
    pub(crate) fn new(readers: Vec<Reader>, group: Option<Group>, max_wait_ms: u32) -> Self {
        Self {
            readers,
            group,
            max_wait: Duration::from_millis(u64::from(max_wait_ms)),
            fetches: JoinSet::new(),
            current: None,
        }
    }

    /// Some records of one partition, of whichever has some; empty ones if none came in time.
    ///
    /// Nothing is lost if the future is dropped. After an error the next call reads on from the same
    /// position: seek if that cannot help.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes are not what was stored;
    /// [`ErrorCode::OffsetOutOfRange`](crate::ErrorCode::OffsetOutOfRange) with the bounds in its
    /// text; [`Error::Disconnected`] or [`Error::Timeout`] after 30 seconds without the broker.
    pub async fn next_batch(&mut self) -> Result<Records, Error> {
        let deadline = Instant::now() + self.max_wait;
        loop {
            if let Some((at, fetched)) = self.current.take()
                && let Some(given) = self.hand_out(at, fetched)
            {
                return given;
            }
            (0..self.readers.len()).for_each(|at| self.fetch_ahead(at));
            tokio::select! {
                biased;
                Some(done) = self.fetches.join_next() => {
                    // One that was aborted by a seek, or came too late for it, is void.
                    if let Ok(done) = done {
                        self.take_up(done)?;
                    }
                }
                () = sleep_until(deadline) => return Ok(self.nothing()),
            }
        }
    }

    fn take_up(&mut self, done: Done) -> Result<(), Error> {
        let reader = &mut self.readers[done.at];
        if reader.fetch_number != done.fetch_number {
            return Ok(());
        }
        reader.fetch = None;
        let fetched = done.result?;
        reader.bounds = Some(fetched.bounds);
        self.current = Some((done.at, fetched));
        Ok(())
    }

    /// Hands out the next records of an answer; `None` if it is used up.
    fn hand_out(&mut self, at: usize, mut fetched: Fetched) -> Option<Result<Records, Error>> {
        let reader = &self.readers[at];
        if reader.fetch.is_none() && fetched.damage.is_none() {
            self.start_fetch(at, fetched.next_offset);
        }
        let reader = &mut self.readers[at];
        let mut records = Records::none(reader.source.index, reader.position, fetched.bounds);
        while records.body_bytes() < HAND_OUT_BYTES {
            let Some(batch) = fetched.batches.pop_front() else {
                break;
            };
            if let Err(damage) = records.add(&batch) {
                fetched.batches.clear();
                fetched.damage = Some(damage);
            }
        }
        reader.position = records.next_offset();
        if records.is_empty() {
            let reason = fetched.damage?;
            if let Some(void) = reader.fetch.take() {
                void.abort();
            }
            reader.fetch_number += 1;
            return Some(Err(Error::Damaged {
                topic: reader.source.topic.to_string(),
                partition: reader.source.index,
                offset: reader.position,
                reason,
            }));
        }
        self.current = Some((at, fetched));
        Some(Ok(records))
    }

    /// Starts a fetch from the position of a partition that has none under way.
    fn fetch_ahead(&mut self, at: usize) {
        let reader = &self.readers[at];
        if reader.fetch.is_none() {
            self.start_fetch(at, reader.position);
        }
    }

    fn start_fetch(&mut self, at: usize, offset: Offset) {
        let reader = &mut self.readers[at];
        reader.fetch_number += 1;
        let (fetch_number, source) = (reader.fetch_number, Arc::clone(&reader.source));
        let fetch = self.fetches.spawn(async move {
            let result = source.fetch(offset).await;
            Done {
                at,
                fetch_number,
                result,
            }
        });
        reader.fetch = Some(fetch);
    }

    /// Empty records, of the first partition.
    fn nothing(&self) -> Records {
        let reader = &self.readers[0];
        let unknown = FetchAnswer {
            start: reader.position,
            end: reader.position,
        };
        let bounds = reader.bounds.unwrap_or(unknown);
        Records::none(reader.source.index, reader.position, bounds)
    }

    /// Reads the partition with this index from `offset` on. What was read ahead is dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the consumer does not read that partition.
    pub fn seek(&mut self, partition: u32, offset: Offset) -> Result<(), Error> {
        let at = self.place_of(partition)?;
        if self.current.as_ref().is_some_and(|(of, _)| *of == at) {
            self.current = None;
        }
        let reader = &mut self.readers[at];
        if let Some(void) = reader.fetch.take() {
            void.abort();
        }
        reader.fetch_number += 1;
        reader.position = offset;
        Ok(())
    }

    /// Reads the partition with this index from the first record of a time on, milliseconds since
    /// 1970, and returns its offset.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the consumer does not read that partition; as [`Client::call`].
    pub async fn seek_to_time(
        &mut self,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Offset, Error> {
        let at = self.place_of(partition)?;
        let offset = self.readers[at]
            .source
            .find(Place::Time(timestamp_ms))
            .await?;
        self.seek(partition, offset)?;
        Ok(offset)
    }

    /// The next record to be handed out of the partition with this index.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the consumer does not read that partition.
    pub fn position(&self, partition: u32) -> Result<Offset, Error> {
        Ok(self.readers[self.place_of(partition)?].position)
    }

    /// Records between the positions and the ends of all partitions, as of the last answers; `None`
    /// until every partition has answered once.
    pub fn lag(&self) -> Option<u64> {
        let lag_of = |r: &Reader| Some(r.bounds?.end.0.saturating_sub(r.position.0));
        let mut lags = self.readers.iter().map(lag_of);
        lags.try_fold(0u64, |sum, lag| Some(sum.saturating_add(lag?)))
    }

    /// The partitions that are read, by their index in the topic.
    pub fn partitions(&self) -> impl Iterator<Item = u32> + '_ {
        self.readers.iter().map(|reader| reader.source.index)
    }

    /// Stores the positions for the group: everything handed out so far counts as read. Returns when
    /// they are durable.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a group; as [`Client::call`], after up to 30 seconds of trouble.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let Some(group) = &self.group else {
            let text = "the consumer has no group to commit for; open it with one";
            return Err(Error::Invalid(text.to_owned()));
        };
        let moved = self
            .readers
            .iter()
            .filter(|r| r.committed != Some(r.position));
        let offsets: Vec<GroupOffset> = moved
            .map(|reader| GroupOffset {
                partition: reader.source.place.id,
                offset: reader.position,
                note: String::new(),
            })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let request = CommitOffsets {
            group: group.name.clone(),
            offsets,
        };
        group.client.call_retrying(Route::Any, &request).await?;
        for reader in &mut self.readers {
            reader.committed = Some(reader.position);
        }
        Ok(())
    }

    fn place_of(&self, partition: u32) -> Result<usize, Error> {
        let place = self
            .readers
            .binary_search_by_key(&partition, |reader| reader.source.index);
        place.map_err(|_| {
            let text = format!("the consumer does not read partition {partition}; open it with it");
            Error::Invalid(text)
        })
    }
}
