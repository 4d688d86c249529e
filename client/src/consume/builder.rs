//! Choosing the options of a consumer and opening it.

use super::consumer::{Consumer, Group, Reader};
use super::fetcher::Source;
use crate::admin;
use crate::client::Client;
use crate::error::Error;
use crate::transport::Route;
use flowstone_wire::limits::{FETCH_BYTES_MAX, FETCH_WAIT_MS_MAX};
use flowstone_wire::native::{Place, ReadOffsets, Topic};
use flowstone_wire::{Offset, PartitionId, name};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Where to start reading a partition for which the group has no position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record that is kept.
    #[default]
    Start,
    /// Behind the last record: only what comes from now on.
    End,
    /// At this offset, in every partition.
    Offset(Offset),
    /// At the first record of this time or later, milliseconds since 1970.
    Time(i64),
}

/// Options of a consumer; [`open`](Self::open) makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is opened"]
pub struct ConsumerBuilder {
    client: Client,
    topic: String,
    partitions: Option<Vec<u32>>,
    group: Option<String>,
    from: ReadFrom,
    max_bytes: u32,
    max_wait_ms: u32,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, topic: &str) -> Self {
        Self {
            client,
            topic: topic.to_owned(),
            partitions: None,
            group: None,
            from: ReadFrom::default(),
            max_bytes: 1 << 20,
            max_wait_ms: 1_000,
        }
    }

    /// Which partitions to read, by their index in the topic; by default all.
    pub fn partitions(mut self, indexes: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = Some(indexes.into_iter().collect());
        self
    }

    /// Starts where this group has committed, and lets [`Consumer::commit`] store positions.
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// Where to start without a committed position; by default at the first record kept.
    pub fn from(mut self, from: ReadFrom) -> Self {
        self.from = from;
        self
    }

    /// Bytes of one fetch of one partition; by default 1 MiB, at most 4 MiB. A larger batch is given
    /// whole. Up to two answers per partition are in memory.
    pub fn max_bytes(mut self, max_bytes: u32) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// How long to wait for records, in milliseconds; by default 1,000, at most 60,000.
    pub fn max_wait_ms(mut self, max_wait_ms: u32) -> Self {
        self.max_wait_ms = max_wait_ms;
        self
    }

    /// Opens the consumer: finds out where to start.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are not possible,
    /// [`ErrorCode::UnknownTopic`](crate::ErrorCode::UnknownTopic), and as [`Client::call`].
    pub async fn open(self) -> Result<Consumer, Error> {
        self.check()?;
        let topic = self.client.topic(&self.topic).await?;
        let sources = self.sources(&topic)?;
        let committed = self.committed(&sources).await?;
        let mut readers = Vec::with_capacity(sources.len());
        let mut finding = JoinSet::new();
        for (at, source) in sources.into_iter().enumerate() {
            let position = committed.get(&source.place.id).copied();
            let source = Arc::new(source);
            if position.is_none() {
                finding.spawn(find_start(at, Arc::clone(&source), self.from));
            }
            readers.push(Reader::new(source, position.unwrap_or_default()));
        }
        while let Some(found) = finding.join_next().await {
            let (at, position) = found.map_err(|_| Error::Closed)?;
            readers[at].position = position?;
        }
        let group = self.group.map(|name| Group::new(name, self.client));
        Ok(Consumer::new(readers, group, self.max_wait_ms))
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(group) = &self.group {
            name::check("group", group)?;
        }
        if self.max_bytes == 0 || self.max_bytes as usize > FETCH_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "max_bytes = {} is outside 1 to {FETCH_BYTES_MAX}; choose a value between them",
                self.max_bytes
            )));
        }
        if self.max_wait_ms > FETCH_WAIT_MS_MAX {
            return Err(Error::Invalid(format!(
                "max_wait_ms = {} is over {FETCH_WAIT_MS_MAX}; choose a smaller value",
                self.max_wait_ms
            )));
        }
        Ok(())
    }

    fn sources(&self, topic: &Topic) -> Result<Vec<Source>, Error> {
        let indexes: BTreeSet<u32> = match &self.partitions {
            Some(given) => given.iter().copied().collect(),
            None => (0..topic.partitions.len() as u32).collect(),
        };
        if indexes.is_empty() {
            let text = "a consumer needs a partition to read; give one at least";
            return Err(Error::Invalid(text.to_owned()));
        }
        let name: Arc<str> = topic.name.as_str().into();
        let source = |index| {
            Ok(Source {
                client: self.client.clone(),
                topic: Arc::clone(&name),
                index,
                place: admin::partition_of(topic, index)?,
                max_bytes: self.max_bytes,
                wait_ms: self.max_wait_ms,
            })
        };
        indexes.into_iter().map(source).collect()
    }

    async fn committed(&self, sources: &[Source]) -> Result<HashMap<PartitionId, Offset>, Error> {
        let Some(group) = self.group.clone() else {
            return Ok(HashMap::new());
        };
        let partitions = sources.iter().map(|s| s.place.id).collect();
        let request = ReadOffsets { group, partitions };
        let (positions, _) = self.client.call_retrying(Route::Any, &request).await?;
        let positions = positions.into_iter().map(|p| (p.partition, p.offset));
        Ok(positions.collect())
    }
}

async fn find_start(
    at: usize,
    source: Arc<Source>,
    from: ReadFrom,
) -> (usize, Result<Offset, Error>) {
    let position = match from {
        ReadFrom::Start => source.find(Place::Start).await,
        ReadFrom::End => source.find(Place::End).await,
        ReadFrom::Time(timestamp_ms) => source.find(Place::Time(timestamp_ms)).await,
        ReadFrom::Offset(offset) => Ok(offset),
    };
    (at, position)
}
