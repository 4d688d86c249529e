//! Where topics and their records come from.

use crate::fetching::Part;
use bytes::Bytes;
use flowstone_wire::error::Retry;
use flowstone_wire::native::{Fetch, Partition, Place, Topic};
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};
use futures_util::future::try_join;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What is under way, and its failure.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// How often a read that may succeed later is tried.
const ATTEMPTS: u32 = 50;
/// Partitions whose bounds are asked for at the same time.
const BOUNDS_AT_ONCE: usize = 32;
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Topics, the streams that were declared over them, and their records. A future that is dropped
/// ends what it asked for, or leaves it to nobody.
pub trait Source: Send + Sync + 'static {
    /// The topic of this name.
    fn topic(&self, name: &str) -> Option<Topic>;

    /// The `CREATE STREAM` of the stream of this name.
    fn declared(&self, name: &str) -> Option<String>;

    /// The offset of a place.
    fn find(&self, partition: PartitionId, place: Place) -> BoxFuture<Offset>;

    /// Whole batches, several of them in one piece; none where there is nothing to read.
    fn fetch(&self, fetch: Fetch) -> BoxFuture<Vec<Bytes>>;

    /// The time, milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// Where each of these partitions begins and ends for readers.
pub(crate) async fn bounds(
    source: &dyn Source,
    partitions: &[Partition],
) -> Result<Vec<(Offset, Offset)>, Failure> {
    let asked = partitions.iter().map(|partition| {
        let start = source.find(partition.id, Place::Start);
        let end = source.find(partition.id, Place::End);
        async { try_join(start, end).await }
    });
    // Boxed, or the compiler does not see that it may move between threads.
    let asked: Vec<BoxFuture<(Offset, Offset)>> = asked.map(|a| a.boxed()).collect();
    stream::iter(asked)
        .buffered(BOUNDS_AT_ONCE)
        .try_collect()
        .await
}

/// The last records; where partitions have few, more of the others.
pub(crate) async fn last(
    source: &dyn Source,
    topic: &Topic,
    records: u64,
) -> Result<Vec<Part>, Failure> {
    let bounds = bounds(source, &topic.partitions).await?;
    let part = |((index, partition), (from, to)): ((u32, &Partition), (Offset, Offset))| Part {
        id: partition.id,
        shown: PartitionId(index),
        from,
        to,
    };
    let parts = (0u32..).zip(&topic.partitions).zip(bounds).map(part);
    let mut parts: Vec<Part> = parts.collect();
    parts.sort_by_key(|p| p.to.0 - p.from.0);
    let (mut left, count) = (records, parts.len());
    for (at, part) in parts.iter_mut().enumerate() {
        let share = left.div_ceil((count - at) as u64);
        let taken = share.min(part.to.0 - part.from.0);
        part.from = Offset(part.to.0 - taken);
        left -= taken;
    }
    Ok(parts)
}

/// Fetches, again where another attempt may help.
pub(crate) async fn fetch(source: &dyn Source, fetch: Fetch) -> Result<Vec<Bytes>, Failure> {
    let mut left = ATTEMPTS;
    loop {
        match source.fetch(fetch.clone()).await {
            Err(e) if left > 0 && may_help(&e) => left -= 1,
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn may_help(failure: &Failure) -> bool {
    // Reading changes nothing, so it may always be done twice.
    let unknown = failure.code.retry() == Retry::Unknown && failure.code != ErrorCode::Internal;
    let fenced = failure.code == ErrorCode::ShardFenced;
    (failure.code.retry() == Retry::Later || unknown) && !fenced
}
