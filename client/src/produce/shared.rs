//! What the callers of a producer and its sender task share.

use super::accumulator::{Accumulator, Size};
use super::budget::Budget;
use super::options::Options;
use super::ticket::{Outcome, Ticket};
use crate::admin;
use crate::error::Error;
use crate::record::Record;
use flowstone_wire::native::Topic;
use flowstone_wire::partitioner::partition_for_key;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The shared part of a producer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) topic: Topic,
    pub(crate) options: Options,
    pub(crate) budget: Arc<Budget>,
    accumulators: Vec<Accumulator>,
    /// The next caller gives way to the sender first.
    give_way: AtomicBool,
    /// Where records without a key go until the batch there is closed.
    sticky_partition: AtomicU32,
    /// Partitions that the sender is to look at; each stands here once at most.
    signalled: Mutex<Vec<u32>>,
    wake: Notify,
}

impl Shared {
    pub(crate) fn new(topic: Topic, options: Options, seed: u64) -> Self {
        let partitions = topic.partitions.len() as u32;
        Self {
            budget: Arc::new(Budget::new(options.buffer_bytes)),
            give_way: AtomicBool::new(false),
            accumulators: (0..partitions).map(Accumulator::new).collect(),
            // Producers start at different partitions.
            sticky_partition: AtomicU32::new((seed % u64::from(partitions)) as u32),
            signalled: Mutex::default(),
            wake: Notify::new(),
            topic,
            options,
        }
    }

    pub(crate) fn accumulator(&self, partition: u32) -> &Accumulator {
        &self.accumulators[partition as usize]
    }

    /// Adds a record, waiting for room first.
    #[inline]
    pub(crate) async fn enqueue(&self, record: &Record<'_>) -> Result<Ticket, Error> {
        // A loop of enqueues would otherwise hold its thread until the buffer is full, and with it the
        // sender, which is often woken to run next on the same thread. Giving way for every few
        // records would make small batches, so it is done for every full batch and some in between.
        if self.give_way.load(Ordering::Relaxed) {
            self.give_way.store(false, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        let partition = self.choose(record)?;
        let record_bytes = record.checked_size_bytes()?;
        let taken_bytes = self.budget.take(record_bytes).await?;
        let size = Size {
            record_bytes,
            taken_bytes,
        };
        let accumulator = self.accumulator(partition);
        let pushed = accumulator.push(record, size, &self.budget, &self.options)?;
        if pushed.batch_closed {
            self.leave(partition);
        }
        if pushed.wake {
            self.signal(partition);
        }
        if pushed.give_way {
            self.give_way.store(true, Ordering::Relaxed);
        }
        Ok(pushed.ticket)
    }

    #[inline]
    fn choose(&self, record: &Record<'_>) -> Result<u32, Error> {
        let partitions = self.accumulators.len() as u32;
        match (record.wanted_partition(), record.key_bytes()) {
            (Some(wanted), _) if wanted < partitions => Ok(wanted),
            (Some(wanted), _) => Err(admin::no_partition(
                &self.topic.name,
                wanted,
                self.accumulators.len(),
            )),
            (None, Some(key)) => Ok(partition_for_key(key, partitions)),
            (None, None) => Ok(self.sticky_partition.load(Ordering::Relaxed)),
        }
    }

    /// A batch of this partition was closed: records without a key go to the next one.
    pub(crate) fn leave(&self, partition: u32) {
        let next = (partition + 1) % self.accumulators.len() as u32;
        // Whoever comes second has nothing left to do.
        let _moved = self.sticky_partition.compare_exchange(
            partition,
            next,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    fn signal(&self, partition: u32) {
        let mut signalled = self
            .signalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        signalled.push(partition);
        drop(signalled);
        self.wake.notify_one();
    }

    /// Waits for a signal.
    pub(crate) async fn signalled(&self) {
        self.wake.notified().await;
    }

    /// Swaps the partitions that were signalled into `partitions`, which is empty.
    pub(crate) fn take_signalled(&self, partitions: &mut Vec<u32>) {
        let mut signalled = self
            .signalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *signalled, partitions);
    }

    /// Closes all open batches and returns the outcomes that are not known yet.
    pub(crate) fn hurry(&self) -> Vec<Arc<Outcome>> {
        let mut unknown = Vec::new();
        for (partition, accumulator) in (0..).zip(&self.accumulators) {
            let (outcomes, wake) = accumulator.hurry();
            unknown.extend(outcomes);
            if wake {
                self.signal(partition);
            }
        }
        unknown
    }

    /// Refuses records from now on and fails those that wait.
    pub(crate) fn close(&self) {
        self.budget.close();
        self.accumulators.iter().for_each(Accumulator::close);
    }
}
