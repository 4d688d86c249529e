//! A broker in memory for tests: stores batches, holds numbers to account, and misbehaves on demand.
#![cfg(test)]

use crate::transport::{BoxFuture, RawAnswer, Route, Transport};
use bytes::{Bytes, BytesMut};
use flowstone_wire::native::{self, *};
use flowstone_wire::{
    BatchHeader, CheckedBatch, Epoch, ErrorCode, Failure, Lsn, Offset, PartitionId, ProducerId,
    ShardId, Stamp, TopicId, limits, record,
};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// What happens to one produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Stored and answered.
    Answer,
    /// Stored; the answer is lost with the connection.
    LoseAnswer,
    /// Lost with the connection before it was stored.
    LoseRequest,
    /// Not stored, and said so.
    Refuse(ErrorCode),
    /// Stored; answered when the test says so.
    Hold,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<(BatchHeader, Bytes)>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Last batches of each producer: base sequence, records, base offset.
    producers: HashMap<u64, VecDeque<(u32, u32, u64)>>,
}

pub(crate) struct State {
    pub(crate) logs: Vec<Log>,
    pub(crate) acts: Box<dyn FnMut() -> Act + Send>,
    pub(crate) groups: HashMap<PartitionId, Offset>,
    pub(crate) producers_given: u64,
    pub(crate) produce_calls: usize,
    /// Fails this many fetches with a broken connection.
    pub(crate) break_fetches: usize,
    held: Vec<(oneshot::Sender<RawAnswer>, RawAnswer)>,
}

pub(crate) struct FakeBroker {
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Arc<Notify>,
}

fn failure(code: ErrorCode) -> Failure {
    Failure::new(code, "as the test wants it")
}

fn answer<A: serde_like::Encode>(result: Result<A, Failure>) -> RawAnswer {
    RawAnswer {
        header: result.encode_header(),
        payload: Vec::new(),
    }
}

/// Encoding without naming serde, which this crate does not depend on.
mod serde_like {
    use super::*;

    pub(crate) trait Encode: Sized {
        fn encode(self) -> Vec<u8>;
    }
    macro_rules! encode {
        ($($answer:ty),*) => { $(impl Encode for $answer {
            fn encode(self) -> Vec<u8> { native::encode(&Ok::<_, Failure>(self)).unwrap() }
        })* };
    }
    encode!(
        Vec<Topic>,
        ProduceAnswer,
        FetchAnswer,
        Offset,
        InitProducerAnswer,
        Vec<GroupOffset>,
        ()
    );

    pub(crate) trait EncodeHeader {
        fn encode_header(self) -> Bytes;
    }
    impl<A: Encode> EncodeHeader for Result<A, Failure> {
        fn encode_header(self) -> Bytes {
            match self {
                Ok(answer) => answer.encode().into(),
                Err(failure) => native::encode(&Err::<(), _>(failure)).unwrap().into(),
            }
        }
    }
}
use serde_like::EncodeHeader;

impl FakeBroker {
    pub(crate) fn new(partitions: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                logs: (0..partitions).map(|_| Log::default()).collect(),
                acts: Box::new(|| Act::Answer),
                groups: HashMap::new(),
                producers_given: 0,
                produce_calls: 0,
                break_fetches: 0,
                held: Vec::new(),
            }),
            changed: Arc::default(),
        })
    }

    /// Plays these acts, then answers everything.
    pub(crate) fn script(&self, acts: &[Act]) {
        let mut acts: VecDeque<Act> = acts.iter().copied().collect();
        self.act_by(move || acts.pop_front().unwrap_or(Act::Answer));
    }

    pub(crate) fn act_by(&self, acts: impl FnMut() -> Act + Send + 'static) {
        self.state.lock().unwrap().acts = Box::new(acts);
    }

    /// Answers what is held, and nothing is held any more.
    pub(crate) fn release(&self) {
        self.script(&[]);
        for (caller, answer) in std::mem::take(&mut self.state.lock().unwrap().held) {
            let _gone = caller.send(answer);
        }
    }

    /// All values of a partition, in order.
    pub(crate) fn values(&self, partition: usize) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let mut values = Vec::new();
        for (_, bytes) in &state.logs[partition].batches {
            let (header, body) = flowstone_wire::batch::records(bytes).unwrap();
            let records = record::walk(&header, &body);
            values.extend(records.map(|r| r.unwrap().value.unwrap_or_default().to_vec()));
        }
        values
    }

    /// Waits until `met` holds of the state.
    pub(crate) async fn until(&self, met: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if met(&self.state.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }

    fn produce(
        &self,
        header: &[u8],
        payload: &Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>> {
        let request: Produce = native::decode(header).unwrap();
        let mut state = self.state.lock().unwrap();
        state.produce_calls += 1;
        let act = (state.acts)();
        let stored = match act {
            Act::LoseRequest => Err(failure(ErrorCode::Disconnected)),
            Act::Refuse(code) => Err(failure(code)),
            _ => append(
                &mut state.logs[index_of(request.partition)],
                request.partition,
                payload,
            ),
        };
        self.changed.notify_waiters();
        match act {
            Act::LoseAnswer | Act::LoseRequest => {
                Box::pin(async { Err(failure(ErrorCode::Disconnected)) })
            }
            Act::Hold => {
                let (caller, held) = oneshot::channel();
                state.held.push((caller, answer(stored)));
                Box::pin(async { held.await.map_err(|_| failure(ErrorCode::Disconnected)) })
            }
            _ => Box::pin(async { Ok(answer(stored)) }),
        }
    }

    fn read(&self, request: &Fetch) -> Result<RawAnswer, Failure> {
        let mut state = self.state.lock().unwrap();
        if state.break_fetches > 0 {
            state.break_fetches -= 1;
            return Err(failure(ErrorCode::Disconnected));
        }
        let log = &state.logs[index_of(request.partition)];
        if request.offset.0 > log.end || request.offset.0 < log.start {
            return Ok(answer::<FetchAnswer>(Err(failure(
                ErrorCode::OffsetOutOfRange,
            ))));
        }
        let (start, end) = (Offset(log.start), Offset(log.end));
        let mut raw = answer(Ok(FetchAnswer { start, end }));
        let wanted = log
            .batches
            .iter()
            .filter(|(h, _)| h.last_offset() >= request.offset);
        let mut size_bytes = 0;
        for (_, bytes) in wanted {
            if size_bytes > 0 && size_bytes + bytes.len() > request.max_bytes as usize {
                break;
            }
            size_bytes += bytes.len();
            raw.payload.push(bytes.clone());
        }
        Ok(raw)
    }

    fn find(&self, request: &FindOffset) -> Offset {
        let state = self.state.lock().unwrap();
        let log = &state.logs[index_of(request.partition)];
        match request.place {
            Place::Start => Offset(log.start),
            Place::End => Offset(log.end),
            Place::Time(ms) => log
                .batches
                .iter()
                .find(|(h, _)| h.max_timestamp() >= ms)
                .map_or(Offset(log.end), |(h, _)| h.base_offset),
        }
    }

    fn topics(&self) -> Vec<Topic> {
        let partitions = self.state.lock().unwrap().logs.len() as u32;
        vec![Topic {
            id: TopicId(1),
            name: "t".to_owned(),
            settings: TopicSettings::default(),
            partitions: (0..partitions)
                .map(|i| Partition {
                    id: PartitionId(PartitionId::FIRST_USER + i),
                    shard: ShardId(i as u16),
                })
                .collect(),
        }]
    }
}

fn index_of(partition: PartitionId) -> usize {
    (partition.0 - PartitionId::FIRST_USER) as usize
}

fn append(
    log: &mut Log,
    partition: PartitionId,
    payload: &Bytes,
) -> Result<ProduceAnswer, Failure> {
    let batch = CheckedBatch::check(BytesMut::from(&payload[..])).unwrap();
    let header = *batch.header();
    let base_offset = Offset(log.end);
    if header.producer_id != ProducerId(0) {
        let known = log.producers.entry(header.producer_id.0).or_default();
        if let Some(stored) = known.iter().find(|b| b.0 == header.base_sequence) {
            let (base_offset, duplicate) = (Offset(stored.2), true);
            return Ok(ProduceAnswer {
                base_offset,
                duplicate,
            });
        }
        match known.back() {
            None if header.base_sequence != 0 => return Err(failure(ErrorCode::UnknownProducer)),
            Some(last) if last.0.wrapping_add(last.1) != header.base_sequence => {
                return Err(failure(ErrorCode::OutOfOrderSequence));
            }
            _ => {}
        }
        known.push_back((header.base_sequence, header.record_count, base_offset.0));
        if known.len() > limits::PRODUCER_WINDOW {
            known.pop_front();
        }
    }
    log.end += u64::from(header.record_count);
    log.batches.push(batch.stamp(Stamp {
        partition,
        base_offset,
        lsn: Lsn(1),
        epoch: Epoch(1),
    }));
    Ok(ProduceAnswer {
        base_offset,
        duplicate: false,
    })
}

/// The handle that a client gets.
pub(crate) struct Door(pub(crate) Arc<FakeBroker>);

impl Transport for Door {
    fn call(
        &self,
        _: Route,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>> {
        let broker = Arc::clone(&self.0);
        let raw = match api {
            Produce::API => return broker.produce(&header, &payload),
            Fetch::API => {
                let request: Fetch = native::decode(&header).unwrap();
                return Box::pin(async move { long_poll(&broker, &request).await });
            }
            ListTopics::API => answer(Ok(broker.topics())),
            FindOffset::API => answer(Ok(broker.find(&native::decode(&header).unwrap()))),
            InitProducer::API => {
                let mut state = broker.state.lock().unwrap();
                state.producers_given += 1;
                let (id, epoch) = (ProducerId(state.producers_given), 1);
                answer(Ok(InitProducerAnswer { id, epoch }))
            }
            CommitOffsets::API => {
                let request: CommitOffsets = native::decode(&header).unwrap();
                let positions = request.offsets.iter().map(|o| (o.partition, o.offset));
                broker.state.lock().unwrap().groups.extend(positions);
                answer(Ok(()))
            }
            ReadOffsets::API => {
                let groups = &broker.state.lock().unwrap().groups;
                let position = |(&partition, &offset)| GroupOffset {
                    partition,
                    offset,
                    note: String::new(),
                };
                answer(Ok(groups.iter().map(position).collect::<Vec<_>>()))
            }
            _ => answer::<()>(Err(failure(ErrorCode::InvalidRequest))),
        };
        Box::pin(async { Ok(raw) })
    }
}

async fn long_poll(broker: &FakeBroker, request: &Fetch) -> Result<RawAnswer, Failure> {
    let give_up_at = Instant::now() + Duration::from_millis(u64::from(request.wait_ms));
    loop {
        let changed = broker.changed.notified();
        let raw = broker.read(request)?;
        let header = native::decode::<Result<FetchAnswer, Failure>>(&raw.header).unwrap();
        if !raw.payload.is_empty() || header.is_err() {
            return Ok(raw);
        }
        if timeout_at(give_up_at, changed).await.is_err() {
            return Ok(raw);
        }
    }
}

/// Waits until all tasks do: under a paused clock, time goes on only then.
pub(crate) async fn until_all_wait() {
    let _elapsed = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
}
