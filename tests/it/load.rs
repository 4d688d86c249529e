//! A producer under load whose every record can be told from all others.

use crate::dice::Dice;
use flowstone_client::{Acks, Client, Error, Receipt, Record, Ticket};
use std::collections::VecDeque;
use tokio::sync::{mpsc, watch};

/// Values carry this much padding at most.
const PADDING_MAX: usize = 64 << 10;

/// Says of a record who sent it, and as which of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag {
    pub(crate) producer: u32,
    pub(crate) number: u64,
}

impl Tag {
    fn value(self, padding: usize) -> Vec<u8> {
        let mut value = format!("{}:{}:", self.producer, self.number).into_bytes();
        value.resize(value.len() + padding, b'.');
        value
    }

    /// The tag in a value.
    pub(crate) fn of(value: Option<&[u8]>) -> Self {
        let text = std::str::from_utf8(value.unwrap()).unwrap();
        let mut parts = text.split(':');
        let mut part = || parts.next().unwrap();
        Self {
            producer: part().parse().unwrap(),
            number: part().parse().unwrap(),
        }
    }
}

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) tag: Tag,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// What a producer does.
pub(crate) struct Load {
    pub(crate) topic: &'static str,
    pub(crate) partitions: u32,
    pub(crate) producer: u32,
    /// Number of its first record.
    pub(crate) first: u64,
    pub(crate) acks: Acks,
    /// Records that wait for their acknowledgement, at most.
    pub(crate) window: usize,
    /// Whether it waits, when it is stopped, until everything is acknowledged.
    pub(crate) finish: bool,
    pub(crate) dice: Dice,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Sent {
    /// Every record that was handed to the client, in order, with its partition.
    pub(crate) records: Vec<(Tag, u32)>,
    /// Those that were not acknowledged.
    pub(crate) failed: Vec<(Tag, Error)>,
}

impl Load {
    /// Produces until it is told to stop.
    pub(crate) async fn run(
        self,
        client: Client,
        acked: mpsc::UnboundedSender<Acked>,
        mut stop: watch::Receiver<bool>,
    ) -> Sent {
        let finish = self.finish;
        let mut sent = Sent::default();
        let mut waiting = VecDeque::new();
        let builder = client.producer(self.topic).acks(self.acks);
        let producer = tokio::select! {
            // The broker may be gone before it has answered.
            producer = builder.retry_for_ms(120_000).open() => producer,
            _ = stop.wait_for(|stop| *stop) => return sent,
        };
        let Ok(producer) = producer else { return sent };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.send_on(&producer, &mut waiting, &mut sent, &acked) => {}
        }
        if finish {
            producer.close().await.unwrap();
        } else {
            drop(producer);
        }
        for (tag, ticket) in waiting {
            take_up(tag, ticket.wait().await, &mut sent, &acked);
        }
        sent
    }

    async fn send_on(
        mut self,
        producer: &flowstone_client::Producer,
        waiting: &mut VecDeque<(Tag, Ticket)>,
        sent: &mut Sent,
        acked: &mpsc::UnboundedSender<Acked>,
    ) {
        for number in self.first.. {
            let tag = Tag {
                producer: self.producer,
                number,
            };
            let partition = self.dice.below(u64::from(self.partitions)) as u32;
            let most = if self.dice.once_in(16) {
                PADDING_MAX
            } else {
                200
            };
            let padding = self.dice.below(most as u64) as usize;
            let record = Record::new(tag.value(padding)).partition(partition);
            // Nothing is awaited between the record and its note: a stop does not come between.
            let ticket = producer.enqueue(record).await.unwrap();
            sent.records.push((tag, partition));
            waiting.push_back((tag, ticket));
            while let Some((tag, ticket)) = waiting.front() {
                let result = match ticket.try_wait() {
                    Some(result) => result,
                    None if waiting.len() < self.window => break,
                    None => ticket.clone().wait().await,
                };
                take_up(*tag, result, sent, acked);
                waiting.pop_front();
            }
        }
    }
}

fn take_up(
    tag: Tag,
    result: Result<Receipt, Error>,
    sent: &mut Sent,
    acked: &mpsc::UnboundedSender<Acked>,
) {
    match result {
        Ok(Receipt {
            partition, offset, ..
        }) => {
            let offset = offset.0;
            // Whoever counts them may have enough.
            let _ = acked.send(Acked {
                tag,
                partition,
                offset,
            });
        }
        Err(error) => sent.failed.push((tag, error)),
    }
}
