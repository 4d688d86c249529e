//! The one task of a producer: moves batches from the accumulators through the lanes to the broker.

use super::accumulator::Waiting;
use super::lane::{Identity, Lane, Want};
use super::shared::Shared;
use super::window::Window;
use crate::client::Client;
use crate::transport::Route;
use bytes::Bytes;
use flowstone_wire::Failure;
use flowstone_wire::native::{InitProducer, InitProducerAnswer, Produce, ProduceAnswer};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

/// A call that came back.
enum Done {
    /// The answer to a batch, by its local number.
    Produced {
        partition: u32,
        number: u64,
        sent_bytes: usize,
        answer: Result<ProduceAnswer, Failure>,
    },
    /// The answer to the request for a new identity.
    Identified {
        partition: u32,
        answer: Result<InitProducerAnswer, Failure>,
    },
}

/// The sender's state.
pub(crate) struct Sender {
    client: Client,
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    window: Window,
    calls: JoinSet<Done>,
    /// When to look at which partition again, at most one time for each.
    timers: BTreeSet<(Instant, u32)>,
    timer_of: Vec<Option<Instant>>,
}

impl Drop for Sender {
    /// However the task ends: nobody may wait for it any more.
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Sender {
    pub(crate) fn new(client: Client, shared: Arc<Shared>, identity: Identity) -> Self {
        let partitions = shared.topic.partitions.len() as u32;
        Self {
            client,
            lanes: (0..partitions).map(|p| Lane::new(p, identity)).collect(),
            window: Window::new(shared.options.window_bytes(), partitions as usize),
            calls: JoinSet::new(),
            timers: BTreeSet::new(),
            timer_of: vec![None; partitions as usize],
            shared,
        }
    }

    /// Runs until it is aborted.
    pub(crate) async fn run(mut self) {
        let mut partitions = Vec::new();
        loop {
            let timer = self.timers.first().map(|(at, _)| *at);
            tokio::select! {
                biased;
                Some(done) = self.calls.join_next() => {
                    self.on_done(done);
                    while let Some(done) = self.calls.try_join_next() {
                        self.on_done(done);
                    }
                }
                () = self.shared.signalled() => {
                    self.shared.take_signalled(&mut partitions);
                    partitions.drain(..).for_each(|p| self.drive(p));
                }
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    self.on_timers(Instant::now());
                }
            }
            while let Some(partition) = self.window.next() {
                self.take_turn(partition);
            }
        }
    }

    fn on_done(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            // A transport that panics leaves a batch without an answer: nothing to go on with.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        let now = Instant::now();
        let options = &self.shared.options;
        let partition = match done {
            Done::Produced {
                partition,
                number,
                sent_bytes,
                answer,
            } => {
                self.window.ended(sent_bytes);
                self.lanes[partition as usize].on_answer(number, answer, now, options);
                partition
            }
            Done::Identified { partition, answer } => {
                self.lanes[partition as usize].on_identity(answer, now, options);
                partition
            }
        };
        self.drive(partition);
    }

    fn on_timers(&mut self, now: Instant) {
        while let Some(&(at, partition)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of[partition as usize] = None;
            self.drive(partition);
        }
    }

    /// Does all that can be done for a partition now; for another batch it goes into the line.
    fn drive(&mut self, partition: u32) {
        loop {
            while let Some((number, bytes)) = self.lanes[partition as usize].next_outgoing() {
                self.produce(partition, number, bytes);
            }
            let now = Instant::now();
            match self.lanes[partition as usize].wants(now, &self.shared.options) {
                Want::Batch => return self.window.stand(partition),
                Want::Identity => return self.identify(partition),
                Want::Timer(at) if at > now => return self.set_timer(partition, at),
                Want::Timer(_) => {}
                Want::Answer => return,
            }
        }
    }

    /// Sends the next batch of a partition that stood in the line.
    fn take_turn(&mut self, partition: u32) {
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        let lane = &mut self.lanes[partition as usize];
        // What it wanted may have changed while it stood.
        if lane.wants(now, &shared.options) == Want::Batch {
            match shared.accumulator(partition).take(now, &shared.options) {
                Waiting::Batch(gathered) => {
                    shared.leave(partition);
                    lane.admit(gathered);
                }
                Waiting::Until(at) => return self.set_timer(partition, at),
                Waiting::Nothing => return,
            }
        }
        self.drive(partition);
    }

    fn set_timer(&mut self, partition: u32, at: Instant) {
        let timer = &mut self.timer_of[partition as usize];
        if timer.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(later) = timer.replace(at) {
            self.timers.remove(&(later, partition));
        }
        self.timers.insert((at, partition));
    }

    fn produce(&mut self, partition: u32, number: u64, batch: Bytes) {
        let place = self.shared.topic.partitions[partition as usize];
        let request = Produce {
            partition: place.id,
            acks: self.shared.options.acks,
        };
        let route = Route::Shard(place.shard);
        let sent_bytes = batch.len();
        self.window.sent(sent_bytes);
        // Handed over here, in order; the spawned task only waits for the answer.
        let call = self.client.call_pieces(route, &request, batch);
        self.calls.spawn(async move {
            let answer = call.await.map(|(answer, _)| answer);
            Done::Produced {
                partition,
                number,
                sent_bytes,
                answer,
            }
        });
    }

    fn identify(&mut self, partition: u32) {
        let call = self
            .client
            .call_pieces(Route::Any, &InitProducer {}, Bytes::new());
        self.calls.spawn(async move {
            let answer = call.await.map(|(answer, _)| answer);
            Done::Identified { partition, answer }
        });
    }
}
