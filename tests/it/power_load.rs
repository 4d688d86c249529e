//! Producers that stay up while the power of the broker's disk is cut, and what they take note of.
//!
//! A *lane* is what one producer sends to one partition. It counts its records without a gap, so that
//! a reader can tell from the log alone what is missing, doubled or out of order.

use crate::dice::Dice;
use flowstone_client::{Acks, Client, Error, Producer, Record, Ticket};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

pub(crate) const PARTITIONS: u32 = 3;
/// Small records that pipelines read.
pub(crate) const READINGS: &str = "readings";
/// Large records that make segments roll, and are kept for a while only.
pub(crate) const BULK: &str = "bulk";
/// Large ones so large at most.
const PADDING_MAX: u64 = 256 << 10;
/// The first event time: long ago, so that no clock of this machine comes near it.
const START_MS: i64 = 1_600_000_000_000;
/// The last records of a lane are so far ahead that all windows before them close.
const AHEAD_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) producer: u32,
    pub(crate) partition: u32,
}

/// Names a record of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag {
    pub(crate) lane: Lane,
    pub(crate) number: u64,
}

impl Tag {
    /// One key of seven for every partition, so that each lane has windows of its own.
    fn reading(self, ahead_ms: i64) -> Vec<u8> {
        let (
            n,
            Lane {
                producer,
                partition,
            },
        ) = (self.number, self.lane);
        let value = json!({
            "at": START_MS + n as i64 * 5 + ahead_ms,
            "by": producer,
            "from": partition,
            "number": n,
            "sensor": format!("p{partition}-s{}", n % 7),
        });
        value.to_string().into_bytes()
    }

    fn bulk(self, padding: u64) -> Vec<u8> {
        let Lane {
            producer,
            partition,
        } = self.lane;
        let mut value = format!("{producer}:{partition}:{}:", self.number).into_bytes();
        value.resize(value.len() + padding as usize, b'.');
        value
    }

    pub(crate) fn of_reading(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().unwrap();
        Self {
            lane: Lane {
                producer: number("by") as u32,
                partition: number("from") as u32,
            },
            number: number("number"),
        }
    }

    pub(crate) fn of_bulk(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).unwrap();
        let mut parts = text.split(':').map(|part| part.parse::<u64>().unwrap());
        let mut part = || parts.next().unwrap();
        Self {
            lane: Lane {
                producer: part() as u32,
                partition: part() as u32,
            },
            number: part(),
        }
    }
}

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) topic: &'static str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) tag: Tag,
}

/// What all producers have noted.
#[derive(Default)]
pub(crate) struct Notes {
    /// Those that nobody has looked at.
    pub(crate) acked: Vec<Acked>,
    /// Records that were given up. There are to be none.
    pub(crate) failed: Vec<(&'static str, Tag, Error)>,
    /// How many records each lane has handed to the client.
    pub(crate) sent: BTreeMap<(&'static str, Lane), u64>,
}

/// A producer.
pub(crate) struct Load {
    pub(crate) topic: &'static str,
    pub(crate) producer: u32,
    /// Where to.
    pub(crate) partitions: Vec<u32>,
    pub(crate) acks: Acks,
    /// Records that wait for their acknowledgement, at most.
    pub(crate) window: usize,
    pub(crate) dice: Dice,
    pub(crate) notes: Arc<Mutex<Notes>>,
}

impl Load {
    pub(crate) async fn open(&self, client: &Client) -> Producer {
        let builder = client.producer(self.topic).acks(self.acks);
        builder.retry_for_ms(120_000).open().await.unwrap()
    }

    /// Produces until it is told to stop; then waits until everything is acknowledged.
    pub(crate) async fn run(mut self, producer: Producer, mut stop: watch::Receiver<bool>) {
        let mut waiting = VecDeque::new();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.send_on(&producer, &mut waiting) => {}
        }
        if self.topic == READINGS {
            for (partition, times) in self
                .partitions
                .clone()
                .into_iter()
                .flat_map(|p| [(p, 1), (p, 2)])
            {
                self.send(&producer, &mut waiting, partition, AHEAD_MS * times)
                    .await;
            }
        }
        for (tag, ticket) in waiting {
            self.note(tag, ticket.wait().await);
        }
    }

    async fn send_on(&mut self, producer: &Producer, waiting: &mut VecDeque<(Tag, Ticket)>) {
        loop {
            let at = self.dice.below(self.partitions.len() as u64) as usize;
            self.send(producer, waiting, self.partitions[at], 0).await;
            while let Some((tag, ticket)) = waiting.front() {
                let result = match ticket.try_wait() {
                    Some(result) => result,
                    None if waiting.len() < self.window => break,
                    None => ticket.clone().wait().await,
                };
                self.note(*tag, result);
                waiting.pop_front();
            }
        }
    }

    async fn send(
        &mut self,
        producer: &Producer,
        waiting: &mut VecDeque<(Tag, Ticket)>,
        partition: u32,
        ahead_ms: i64,
    ) {
        let lane = Lane {
            producer: self.producer,
            partition,
        };
        let key = (self.topic, lane);
        let number = self
            .notes
            .lock()
            .unwrap()
            .sent
            .get(&key)
            .copied()
            .unwrap_or(0);
        let tag = Tag { lane, number };
        let value = if self.topic == READINGS {
            tag.reading(ahead_ms)
        } else {
            tag.bulk(self.dice.below(PADDING_MAX))
        };
        // Nothing is awaited between the record and its note: a stop does not come between.
        let ticket = producer
            .enqueue(Record::new(value).partition(partition))
            .await
            .unwrap();
        self.notes.lock().unwrap().sent.insert(key, number + 1);
        waiting.push_back((tag, ticket));
    }

    fn note(&self, tag: Tag, result: Result<flowstone_client::Receipt, Error>) {
        let mut notes = self.notes.lock().unwrap();
        match result {
            Ok(receipt) => notes.acked.push(Acked {
                topic: self.topic,
                partition: receipt.partition,
                offset: receipt.offset.0,
                tag,
            }),
            Err(error) => notes.failed.push((self.topic, tag, error)),
        }
    }
}
