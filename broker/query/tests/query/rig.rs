//! Topics in memory, which tell what was read of them.

use bytes::{Bytes, BytesMut};
use flowstone_query::{Answer, BoxFuture, Engine, Limits, Options, Rows, Source};
use flowstone_sql::JsonRows;
use flowstone_wire::native::{
    Fetch, Partition, PipelineTrial, Place, QueryStatistics, Topic, TopicSettings,
};
use flowstone_wire::{
    BatchBuilder, Codec, Epoch, ErrorCode, Failure, Lsn, Offset, PartitionId, ShardId, Stamp,
    TopicId, batch, record,
};
use futures_util::StreamExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// A test waits no longer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// Batches of each partition.
    batches: BTreeMap<PartitionId, Vec<Bytes>>,
    declared: BTreeMap<String, String>,
    fetched: Vec<Fetch>,
    /// Where partitions begin whose first records have expired.
    starts: BTreeMap<PartitionId, Offset>,
    /// Where they will begin with the first fetch.
    expiring: BTreeMap<PartitionId, Offset>,
}

/// Topics in memory.
#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    came: Notify,
}

fn end_of(batches: &[Bytes]) -> Offset {
    let last = batches.last().map(|b| batch::verify(b).unwrap());
    last.map_or(Offset(0), |h| h.next_offset())
}

impl Memory {
    /// Makes a topic; its partitions are numbered on from those that there are.
    pub(crate) fn topic(&self, name: &str, partitions: u32) -> Vec<PartitionId> {
        let mut state = self.state.lock().unwrap();
        // No number is also an index, so that they cannot be taken for each other.
        let first = 10 + state.batches.len() as u32;
        let ids: Vec<PartitionId> = (first..first + partitions).map(PartitionId).collect();
        let partition = |id: &PartitionId| Partition {
            id: *id,
            shard: ShardId(0),
        };
        let topic = Topic {
            id: TopicId(state.topics.len() as u32),
            name: name.into(),
            settings: TopicSettings::default(),
            partitions: ids.iter().map(partition).collect(),
        };
        state.topics.insert(name.into(), topic);
        for id in &ids {
            state.batches.insert(*id, Vec::new());
        }
        ids
    }

    pub(crate) fn declare(&self, name: &str, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.declared.insert(name.into(), text.into());
    }

    /// Appends records, a batch: timestamp and value.
    pub(crate) fn send(&self, id: PartitionId, records: &[(i64, String)]) {
        let records = records
            .iter()
            .map(|(time, value)| (*time, "key", Some(&value[..])));
        self.send_batch(id, records);
    }

    /// Appends records with keys, a batch.
    pub(crate) fn send_rows(&self, id: PartitionId, rows: &[(&str, Option<&str>)]) {
        self.send_batch(id, rows.iter().map(|(key, value)| (0, *key, *value)));
    }

    fn send_batch<'a>(
        &self,
        id: PartitionId,
        records: impl Iterator<Item = (i64, &'a str, Option<&'a str>)>,
    ) {
        let mut builder = BatchBuilder::new(Codec::None);
        for (timestamp, key, value) in records {
            let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
            assert!(builder.push(timestamp, key, value, &[]));
        }
        let mut state = self.state.lock().unwrap();
        let batches = state.batches.get_mut(&id).unwrap();
        let base_offset = end_of(batches);
        let stamp = Stamp {
            partition: id,
            base_offset,
            lsn: Lsn(base_offset.0 + 1),
            epoch: Epoch(1),
        };
        batches.push(builder.finish().stamp(stamp).1);
        drop(state);
        self.came.notify_waiters();
    }

    /// Appends values in batches of 100, a second apart from 1970 on.
    pub(crate) fn send_all(&self, id: PartitionId, values: impl IntoIterator<Item = String>) {
        let records = (0..).map(|n| n * 1000).zip(values);
        let records: Vec<(i64, String)> = records.collect();
        records.chunks(100).for_each(|chunk| self.send(id, chunk));
    }

    /// Nothing before this offset is there any more once somebody has begun to read.
    pub(crate) fn expire(&self, id: PartitionId, before: u64) {
        let mut state = self.state.lock().unwrap();
        state.expiring.insert(id, Offset(before));
    }

    /// The fetches so far.
    pub(crate) fn fetched(&self) -> Vec<Fetch> {
        self.state.lock().unwrap().fetched.clone()
    }

    fn read(&self, fetch: &Fetch) -> Vec<Bytes> {
        let state = self.state.lock().unwrap();
        let mut found = BytesMut::new();
        for bytes in &state.batches[&fetch.partition] {
            let is_behind = batch::verify(bytes).unwrap().next_offset() > fetch.offset;
            if is_behind && (found.is_empty() || found.len() < fetch.max_bytes as usize) {
                found.extend_from_slice(bytes);
            }
        }
        match found.is_empty() {
            true => Vec::new(),
            false => vec![found.freeze()],
        }
    }
}

/// The topics as a source.
struct Shared(Arc<Memory>);

impl Source for Shared {
    fn topic(&self, name: &str) -> Option<Topic> {
        self.0.state.lock().unwrap().topics.get(name).cloned()
    }

    fn declared(&self, name: &str) -> Option<String> {
        self.0.state.lock().unwrap().declared.get(name).cloned()
    }

    fn find(&self, partition: PartitionId, place: Place) -> BoxFuture<Offset> {
        let state = self.0.state.lock().unwrap();
        let batches = &state.batches[&partition];
        let found = match place {
            Place::Start => state.starts.get(&partition).copied().unwrap_or_default(),
            Place::End => end_of(batches),
            Place::Time(ms) => {
                let found = batches.iter().find_map(|b| batch::find_time(b, ms));
                found.unwrap_or_else(|| end_of(batches))
            }
        };
        Box::pin(async move { Ok(found) })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<Vec<Bytes>> {
        let mut state = self.0.state.lock().unwrap();
        state.fetched.push(fetch.clone());
        let mut expired = std::mem::take(&mut state.expiring);
        state.starts.append(&mut expired);
        if state
            .starts
            .get(&fetch.partition)
            .is_some_and(|s| *s > fetch.offset)
        {
            let gone = Failure::new(ErrorCode::OffsetOutOfRange, "it has expired");
            return Box::pin(async move { Err(gone) });
        }
        drop(state);
        let memory = self.0.clone();
        Box::pin(async move {
            let came = memory.came.notified();
            let mut came = std::pin::pin!(came);
            came.as_mut().enable();
            let found = memory.read(&fetch);
            if !found.is_empty() || fetch.wait_ms == 0 {
                return Ok(found);
            }
            let wait = Duration::from_millis(fetch.wait_ms.into());
            // Over or not: what is there now is the answer.
            let _ = tokio::time::timeout(wait, came).await;
            Ok(memory.read(&fetch))
        })
    }

    fn now_ms(&self) -> i64 {
        4_000_000_000_000
    }
}

pub(crate) fn engine(memory_bytes: usize) -> Engine {
    let limits = Limits {
        memory_bytes,
        threads: 2,
    };
    Engine::new(limits).unwrap()
}

pub(crate) async fn ask(memory: &Arc<Memory>, text: &str) -> Result<Answer, Failure> {
    ask_from(memory, text, false).await
}

pub(crate) async fn ask_from(
    memory: &Arc<Memory>,
    text: &str,
    from_start: bool,
) -> Result<Answer, Failure> {
    let source = Arc::new(Shared(memory.clone()));
    let options = Options { from_start };
    engine(64 << 20).ask(source, text, options).await
}

pub(crate) async fn ask_with(
    engine: &Engine,
    memory: &Arc<Memory>,
    text: &str,
) -> Result<Answer, Failure> {
    let source = Arc::new(Shared(memory.clone()));
    engine.ask(source, text, Options::default()).await
}

/// Tries the one pipeline of a text on the last records.
pub(crate) async fn try_last(
    memory: &Arc<Memory>,
    text: &str,
    records: u64,
) -> Result<PipelineTrial, Failure> {
    try_with(64 << 20, memory, text, records).await
}

pub(crate) async fn try_with(
    memory_bytes: usize,
    memory: &Arc<Memory>,
    text: &str,
    records: u64,
) -> Result<PipelineTrial, Failure> {
    let source = Arc::new(Shared(memory.clone()));
    let (_, planned) = flowstone_sql::plan_file(text).unwrap();
    let trying = async {
        engine(memory_bytes)
            .try_pipeline(source, &planned[0], records)
            .await
    };
    tokio::time::timeout(PATIENCE, trying).await.unwrap()
}

/// The values of some rows.
pub(crate) fn values(rows: &Rows) -> Vec<Value> {
    let lines = match rows {
        Rows::Lines { bytes, .. } => bytes.clone(),
        Rows::Batch(batch) => {
            let mut lines = Vec::new();
            let json = JsonRows::new(batch);
            for row in 0..batch.num_rows() {
                json.write(row, &mut lines);
                lines.push(b'\n');
            }
            lines
        }
    };
    let lines = lines.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// All rows, or why there are no more.
pub(crate) async fn collect(answer: &mut Answer) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let collecting = async {
        while let Some(rows) = answer.rows.next().await {
            all.extend(values(&rows?));
        }
        Ok::<(), Failure>(())
    };
    tokio::time::timeout(PATIENCE, collecting).await.unwrap()?;
    Ok(all)
}

/// The rows of a query that must succeed.
pub(crate) async fn rows(memory: &Arc<Memory>, text: &str) -> (Vec<Value>, QueryStatistics) {
    let asked = ask(memory, text).await;
    let mut answer = asked.unwrap_or_else(|e| panic!("{e}\n{text}"));
    let rows = collect(&mut answer).await;
    let rows = rows.unwrap_or_else(|e| panic!("{e}\n{text}"));
    (rows, answer.counters.statistics())
}

/// So many rows of one that has no end.
pub(crate) async fn take(answer: &mut Answer, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let taking = async {
        while all.len() < count {
            all.extend(values(&answer.rows.next().await.unwrap().unwrap()));
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.unwrap();
    all
}

/// Why a query is refused.
pub(crate) async fn refused(memory: &Arc<Memory>, text: &str) -> Failure {
    match ask(memory, text).await {
        Ok(_) => panic!("not refused: {text}"),
        Err(failure) => failure,
    }
}

/// Asserts that a query is not valid at this place.
pub(crate) async fn refused_at(memory: &Arc<Memory>, text: &str, place: &str, what: &str) {
    let failure = refused(memory, text).await;
    assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}\n{text}");
    let told = &failure.message;
    assert!(
        told.starts_with(&format!("line {place}: ")),
        "{told}\n{text}"
    );
    assert!(told.contains(what), "{told}\n{text}");
}

#[test]
fn the_rig_counts_its_records() {
    let memory = Memory::default();
    let ids = memory.topic("t", 1);
    memory.send_all(ids[0], (0..250).map(|n| n.to_string()));
    let fetch = Fetch {
        partition: ids[0],
        offset: Offset(150),
        max_bytes: 1,
        wait_ms: 0,
    };
    let found = memory.read(&fetch);
    let (header, body) = batch::records(&found[0]).unwrap();
    assert_eq!(record::walk(&header, &body).count(), 100);
}
