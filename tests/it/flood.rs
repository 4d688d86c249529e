//! Producers that speak the native protocol by hand, so that every answer is seen as it came.
//!
//! A closed loop sends the next batch when one is answered; an open loop sends by the clock,
//! whatever the broker does, and counts what the broker would not take in time.

use crate::raw::{frame_of, hello};
use flowstone_client::{Acks, Codec, ErrorCode, PartitionId};
use flowstone_wire::frame::{PREFIX_BYTES, Prefix};
use flowstone_wire::native::{self, HelloAnswer, ListTopics, Produce, ProduceAnswer};
use flowstone_wire::{BatchBuilder, Failure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;

/// Answers under way come within this once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// Correlation of the request that ends the load.
const LAST: u64 = u64::MAX;

/// How batches are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// So many are under way all the time.
    Closed(usize),
    /// So many per second, by the clock.
    Open(f64),
}

/// What a producer does.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) producer: u32,
    pub(crate) partition: PartitionId,
    /// Bytes of the one record of a batch.
    pub(crate) record_bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
}

/// What became of what it should have sent.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What the plan says should have been sent.
    pub(crate) wanted: u64,
    pub(crate) sent: u64,
    /// Number of the record, offset, and when it was acknowledged after it should have been sent.
    pub(crate) acked: Vec<(u64, u64, Duration)>,
    /// Refused, by the name of the error.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// The longest time for which the broker took nothing of what was sent.
    pub(crate) blocked: Duration,
}

impl Outcome {
    /// What could not be sent when it should have been, because the broker took no more.
    pub(crate) fn held_back(&self) -> u64 {
        self.wanted - self.sent
    }

    /// Every request has one of the outcomes that there may be.
    #[track_caller]
    pub(crate) fn is_complete(&self) {
        let refused: u64 = self.refused.values().sum();
        assert_eq!(
            self.sent,
            self.acked.len() as u64 + refused,
            "some were not answered"
        );
        let busy = self.refused.get(ErrorCode::Busy.name()).unwrap_or(&0);
        assert_eq!(
            *busy, refused,
            "refused for another reason: {:?}",
            self.refused
        );
    }
}

/// When each batch under way should have been sent, by its correlation.
type UnderWay = Arc<Mutex<BTreeMap<u64, Instant>>>;

fn batch(plan: Plan, number: u64) -> Vec<u8> {
    // As `Tag::of` reads it.
    let mut value = format!("{}:{number}:", plan.producer).into_bytes();
    value.resize(plan.record_bytes, b'.');
    let mut builder = BatchBuilder::new(Codec::None);
    assert!(builder.push(1_000, None, Some(&value), &[]));
    let request = Produce {
        partition: plan.partition,
        acks: Acks::Durable,
    };
    frame_of(&request, number, &builder.finish_for_sending())
}

async fn connect(address: SocketAddr) -> (BufReader<OwnedReadHalf>, OwnedWriteHalf) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    write.write_all(&hello()).await.unwrap();
    let (_, answer) = next(&mut read).await;
    native::decode::<Result<HelloAnswer, Failure>>(&answer)
        .unwrap()
        .unwrap();
    (read, write)
}

/// The next answer: its correlation and its header.
async fn next(read: &mut BufReader<OwnedReadHalf>) -> (u64, Vec<u8>) {
    let mut front = [0; PREFIX_BYTES];
    read.read_exact(&mut front).await.unwrap();
    let prefix = Prefix::decode(&front).unwrap().unwrap();
    assert_eq!(prefix.payload_size, 0, "these answers have none");
    let mut header = vec![0; prefix.header_size as usize];
    read.read_exact(&mut header).await.unwrap();
    (prefix.correlation, header)
}

/// Takes answers until the last request and all before it are answered.
async fn take_answers(
    mut read: BufReader<OwnedReadHalf>,
    under_way: UnderWay,
    room: Arc<Semaphore>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut at_end = false;
    while !at_end || !under_way.lock().unwrap().is_empty() {
        let (correlation, header) = next(&mut read).await;
        if correlation == LAST {
            at_end = true;
            continue;
        }
        let intended = under_way.lock().unwrap().remove(&correlation).unwrap();
        match native::decode::<Result<ProduceAnswer, Failure>>(&header).unwrap() {
            Ok(answer) => {
                let took = intended.elapsed();
                outcome
                    .acked
                    .push((correlation, answer.base_offset.0, took));
            }
            Err(failure) => *outcome.refused.entry(failure.code.name()).or_default() += 1,
        }
        room.add_permits(1);
    }
    outcome
}

/// Sends as planned. Numbers go on from `first`.
pub(crate) async fn produce(plan: Plan, address: SocketAddr, first: u64) -> Outcome {
    let (read, mut write) = connect(address).await;
    let under_way = UnderWay::default();
    let permits = match plan.pace {
        Pace::Closed(window) => window,
        Pace::Open(_) => Semaphore::MAX_PERMITS >> 1,
    };
    let room = Arc::new(Semaphore::new(permits));
    let answers = take_answers(read, under_way.clone(), room.clone());
    let answers = tokio::spawn(answers);
    let (start, mut sent, mut blocked) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < plan.time {
        let intended = match plan.pace {
            Pace::Closed(_) => {
                let permit = room.acquire().await.unwrap();
                permit.forget();
                Instant::now()
            }
            Pace::Open(per_s) => {
                let intended = start + Duration::from_secs_f64(sent as f64 / per_s);
                // A timer has the grain of a millisecond: what is due is not made to wait for it.
                if Instant::now() < intended {
                    tokio::time::sleep_until(intended.into()).await;
                }
                intended
            }
        };
        let number = first + sent;
        under_way.lock().unwrap().insert(number, intended);
        let frame = batch(plan, number);
        let since = Instant::now();
        write.write_all(&frame).await.unwrap();
        blocked = blocked.max(since.elapsed());
        sent += 1;
    }
    let last = frame_of(&ListTopics::default(), LAST, &[]);
    write.write_all(&last).await.unwrap();
    let answers = tokio::time::timeout(LAST_ANSWERS, answers).await;
    let mut outcome = answers.expect("the last answers").unwrap();
    outcome.sent = sent;
    outcome.blocked = blocked;
    outcome.wanted = match plan.pace {
        Pace::Closed(_) => sent,
        Pace::Open(per_s) => sent.max((per_s * plan.time.as_secs_f64()) as u64),
    };
    outcome
}

/// The share `of` of these times that is not longer; `None` where there are none.
pub(crate) fn quantile(times: &[Duration], of: f64) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * of) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
}
