//! The path through the native door: throughput with several producers, latency at a given rate.

use super::{Times, note, times};
use flowstone_client::{Acks, Client, Error, ReadFrom, Record, TopicSettings};
use flowstone_wire::limits::TOPIC_PARTITIONS_MAX;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// How a throughput run is made.
#[derive(Clone, Debug)]
pub struct Load {
    /// The broker.
    pub url: String,
    /// The topic; made where it is not there. Producers that need more partitions than a topic may
    /// have get one each, with a number behind this name.
    pub topic: String,
    /// Producers, each with a thread and a connection of its own.
    pub producers: u32,
    /// Partitions of each producer, which it writes to in turn.
    pub partitions: u32,
    /// Bytes of a value.
    pub bytes: usize,
    /// How long records are sent.
    pub seconds: f64,
    /// When a record counts.
    pub acks: Acks,
    /// Bytes of a batch.
    pub batch_bytes: usize,
}

impl Load {
    fn fits_one_topic(&self) -> bool {
        self.producers.saturating_mul(self.partitions) <= TOPIC_PARTITIONS_MAX
    }

    /// The topics that are written to.
    pub fn topics(&self) -> Vec<String> {
        if self.fits_one_topic() {
            return vec![self.topic.clone()];
        }
        (0..self.producers).map(|p| self.topic_of(p).0).collect()
    }

    /// A producer's topic and the first of its partitions there.
    fn topic_of(&self, producer: u32) -> (String, u32) {
        if self.fits_one_topic() {
            (self.topic.clone(), producer * self.partitions)
        } else {
            (format!("{}-{producer}", self.topic), 0)
        }
    }
}

/// Records and time of a throughput run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throughput {
    /// Records that were acknowledged.
    pub records: u64,
    /// From the first send to the last acknowledgement.
    pub seconds: f64,
    /// Bytes of their values.
    pub bytes: u64,
}

impl Throughput {
    /// Values per second, in bytes.
    pub fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// Records per second.
    pub fn records_per_s(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

fn on_own_runtime<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Disconnected(e.to_string()))?;
    runtime.block_on(future)
}

/// Makes a topic where it is not there.
///
/// # Errors
/// What the broker says.
pub fn make_topic(url: &str, topic: &str, partitions: u32) -> Result<(), Error> {
    on_own_runtime(async {
        let client = Client::connect(url).await?;
        match client
            .create_topic(topic, partitions, TopicSettings::default())
            .await
        {
            Err(e) if e.code() == Some(flowstone_client::ErrorCode::TopicExists) => Ok(()),
            other => other.map(|_| ()),
        }
    })
}

/// Sends as much as the broker takes.
///
/// # Errors
/// What the broker says.
pub fn produce(load: &Load) -> Result<Throughput, Error> {
    let topics = load.topics();
    let in_each = load.producers / topics.len() as u32 * load.partitions;
    for topic in topics {
        make_topic(&load.url, &topic, in_each)?;
    }
    let barrier = Arc::new(Barrier::new(load.producers as usize));
    let threads: Vec<_> = (0..load.producers)
        .map(|index| {
            let (load, barrier) = (load.clone(), barrier.clone());
            std::thread::spawn(move || on_own_runtime(produce_one(load, index, barrier)))
        })
        .collect();
    let mut sum = Throughput::default();
    for thread in threads {
        let one = thread.join().unwrap_or(Err(Error::Closed))?;
        sum.records += one.records;
        sum.bytes += one.bytes;
        sum.seconds = sum.seconds.max(one.seconds);
    }
    Ok(sum)
}

async fn produce_one(load: Load, index: u32, barrier: Arc<Barrier>) -> Result<Throughput, Error> {
    let client = Client::connect(&load.url).await?;
    let (topic, first) = load.topic_of(index);
    let producer = client
        .producer(&topic)
        .acks(load.acks)
        .batch_bytes(load.batch_bytes)
        .open()
        .await?;
    let value = vec![7u8; load.bytes];
    barrier.wait();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(load.seconds);
    let mut records = 0u64;
    let mut last = None;
    while !records.is_multiple_of(256) || Instant::now() < end {
        let partition = first + (records % u64::from(load.partitions)) as u32;
        let record = Record::new(&value[..]).partition(partition);
        last = Some(producer.enqueue(record).await?);
        records += 1;
    }
    producer.flush().await?;
    if let Some(ticket) = last {
        ticket.wait().await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Throughput {
        records,
        seconds,
        bytes: records * load.bytes as u64,
    })
}

/// Reads topics from their start to its end, every checksum checked.
///
/// # Errors
/// What the broker says.
pub fn consume(url: &str, topics: &[String]) -> Result<Throughput, Error> {
    let mut sum = Throughput::default();
    for topic in topics {
        let one = consume_one(url, topic)?;
        sum.records += one.records;
        sum.bytes += one.bytes;
        sum.seconds += one.seconds;
    }
    Ok(sum)
}

fn consume_one(url: &str, topic: &str) -> Result<Throughput, Error> {
    on_own_runtime(async {
        let client = Client::connect(url).await?;
        let wanted: u64 = client
            .describe(topic)
            .await?
            .partitions
            .iter()
            .map(|p| p.committed.0.saturating_sub(p.start.0))
            .sum();
        let mut consumer = client.consumer(topic).from(ReadFrom::Start).open().await?;
        let start = Instant::now();
        let (mut records, mut bytes) = (0, 0);
        while records < wanted {
            let batch = consumer.next_batch().await?;
            for r in &batch {
                records += 1;
                bytes += r.value.map_or(0, <[u8]>::len) as u64;
            }
        }
        Ok(Throughput {
            records,
            seconds: start.elapsed().as_secs_f64(),
            bytes,
        })
    })
}

/// Sends records at `per_s` a second and notes how long each took until it was acknowledged, from
/// the time at which it should have been sent. 0: one after the other.
///
/// # Errors
/// What the broker says.
pub fn latency(load: &Load, per_s: u64) -> Result<Times, Error> {
    make_topic(&load.url, &load.topic, 1)?;
    on_own_runtime(async {
        let client = Client::connect(&load.url).await?;
        let producer = client.producer(&load.topic).acks(load.acks).open().await?;
        let value = vec![7u8; load.bytes];
        let warm_up = Instant::now() + Duration::from_millis(300);
        while Instant::now() < warm_up {
            producer.send(Record::new(&value[..])).await?;
        }
        if per_s == 0 {
            return one_by_one(&producer, &value, load.seconds).await;
        }
        at_rate(producer, value, load.seconds, per_s).await
    })
}

async fn one_by_one(
    producer: &flowstone_client::Producer,
    value: &[u8],
    seconds: f64,
) -> Result<Times, Error> {
    let (mut taken, end) = (times(), Instant::now() + Duration::from_secs_f64(seconds));
    while Instant::now() < end {
        let start = Instant::now();
        producer.send(Record::new(value)).await?;
        note(&mut taken, start.elapsed());
    }
    Ok(taken)
}

async fn at_rate(
    producer: flowstone_client::Producer,
    value: Vec<u8>,
    seconds: f64,
    per_s: u64,
) -> Result<Times, Error> {
    let count = (per_s as f64 * seconds) as u64;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let waiter = async move {
        let mut taken = times();
        while let Some((due, ticket)) = receiver.recv().await {
            let ticket: flowstone_client::Ticket = ticket;
            ticket.wait().await?;
            note(&mut taken, Instant::now().saturating_duration_since(due));
        }
        Ok::<Times, Error>(taken)
    };
    let start = Instant::now();
    let sending = async move {
        for n in 0..count {
            let due = start + Duration::from_nanos(n * 1_000_000_000 / per_s);
            // The timer is a millisecond coarse: the last stretch is spun, giving way to the
            // connection.
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                if left > Duration::from_millis(3) {
                    tokio::time::sleep(left - Duration::from_millis(2)).await;
                } else {
                    tokio::task::yield_now().await;
                }
            }
            let ticket = producer.enqueue(Record::new(&value[..])).await?;
            // The waiter goes only after an error, which it reports.
            let _ = sender.send((due, ticket));
        }
        drop(sender);
        // With the producer what is still under way would go.
        producer.flush().await
    };
    let (sent, taken) = tokio::join!(sending, waiter);
    sent?;
    taken
}
