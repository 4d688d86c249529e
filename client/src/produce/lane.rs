//! The batches of one partition that are under way: numbers, order and retries. No effects in here.
//!
//! ```text
//!             a try failed              the last answer is in:
//!  flowing ----------------> draining -------- judged --------> resting --(pause over)--> flowing
//!     ^                                    |                                              (all that
//!     |                                    +-- the first batch failed for good            is left is
//!     +---- renumbered <-- identifying <---+   (a gap in the numbers)                     sent again)
//! ```
//! Only the first batch without an outcome is judged: what the broker says of the ones behind it may
//! be nothing but a consequence. An answer that proves that nothing was stored keeps a batch clean;
//! one that leaves it open (`maybe_stored`) forbids that the batch is ever sent under another number.

use super::accumulator::Gathered;
use super::options::Options;
use super::renumber::renumber;
use super::ticket::{Completion, Stored};
use crate::backoff::Backoff;
use bytes::Bytes;
use flowstone_wire::error::Retry;
use flowstone_wire::native::{InitProducerAnswer, ProduceAnswer};
use flowstone_wire::{ErrorCode, Failure, ProducerId};
use std::collections::VecDeque;
use tokio::time::Instant;

/// Under which number batches are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity {
    /// Batches are not numbered.
    Unneeded,
    /// A new one must be asked for before anything is sent.
    Missing,
    /// The sequence counts records of this partition and wraps at 2^32.
    Known {
        id: ProducerId,
        epoch: u16,
        next_sequence: u32,
    },
}

impl Identity {
    /// A fresh identity as the broker gave it.
    pub(crate) fn of(given: InitProducerAnswer) -> Self {
        Self::Known {
            id: given.id,
            epoch: given.epoch,
            next_sequence: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Flowing,
    /// A try failed; nothing is sent until all that is on the way was answered.
    Draining,
    /// A pause before the next try.
    Resting(Instant),
    /// A new identity was asked for.
    Identifying,
}

/// What the lane wants its driver to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Another batch to admit.
    Batch,
    /// A new identity.
    Identity,
    /// To be driven again at this time.
    Timer(Instant),
    /// An answer.
    Answer,
}

#[derive(Debug)]
struct Sent {
    bytes: Bytes,
    records: u32,
    gathered_at: Instant,
    /// `None` once the outcome is known.
    completion: Option<Completion>,
    /// A try is on the way.
    on_the_way: bool,
    /// The last try was sent while an earlier batch had no outcome.
    behind_another: bool,
    /// A try ended without saying whether the batch was stored.
    maybe_stored: bool,
    /// How the last try failed.
    failure: Option<Failure>,
}

impl Sent {
    fn fail(&mut self, failure: Failure) {
        if let Some(completion) = self.completion.take() {
            completion.complete(Err(failure.into()));
        }
    }

    fn last_failure(&self) -> Failure {
        self.failure.clone().unwrap_or_else(|| {
            Failure::new(ErrorCode::Timeout, "the batch waited too long to be sent")
        })
    }
}

/// What becomes of the first batch without an outcome.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    TryAgain,
    Fail,
    /// The broker does not know the producer: take a new number, for what cannot be stored already.
    Renumber,
}

/// One partition's batches under way.
#[derive(Debug)]
pub(crate) struct Lane {
    identity: Identity,
    /// Oldest first, without gaps in their local numbers; those with an outcome wait for older ones.
    under_way: VecDeque<Sent>,
    /// Local number of the front of `under_way`.
    first_number: u64,
    /// Tries on the way.
    on_the_way: usize,
    phase: Phase,
    backoff: Backoff,
}

impl Lane {
    pub(crate) fn new(partition: u32, identity: Identity) -> Self {
        Self {
            identity,
            under_way: VecDeque::new(),
            first_number: 0,
            on_the_way: 0,
            phase: Phase::Flowing,
            backoff: Backoff::new(u64::from(partition)),
        }
    }

    /// What is to be done next, after everything [`Lane::next_outgoing`] gives was sent.
    pub(crate) fn wants(&mut self, now: Instant, options: &Options) -> Want {
        match self.phase {
            Phase::Resting(until) if now < until => return Want::Timer(until),
            Phase::Resting(_) => self.phase = Phase::Flowing,
            Phase::Draining | Phase::Identifying => return Want::Answer,
            Phase::Flowing => {}
        }
        if matches!(self.identity, Identity::Missing) && !self.under_way.is_empty() {
            self.phase = Phase::Identifying;
            Want::Identity
        } else if self.next_to_send().is_some() {
            // Just rested: the driver asks for what goes out, then comes back.
            Want::Timer(now)
        } else if self.under_way.len() < options.max_in_flight {
            Want::Batch
        } else {
            Want::Answer
        }
    }

    /// Takes a batch and fixes its sequence. It goes out with [`Lane::next_outgoing`].
    pub(crate) fn admit(&mut self, gathered: Gathered) {
        let mut builder = gathered.builder;
        let records = builder.count();
        if let Identity::Known {
            id,
            epoch,
            next_sequence,
        } = &mut self.identity
        {
            builder.set_producer(*id, *epoch, *next_sequence);
            *next_sequence = next_sequence.wrapping_add(records);
        }
        self.under_way.push_back(Sent {
            bytes: builder.finish_for_sending(),
            records,
            gathered_at: gathered.opened_at,
            completion: Some(gathered.completion),
            on_the_way: false,
            behind_another: false,
            maybe_stored: false,
            failure: None,
        });
    }

    /// The next batch to hand to the transport, with its local number.
    pub(crate) fn next_outgoing(&mut self) -> Option<(u64, Bytes)> {
        let at = self.next_to_send()?;
        let behind_another = self.first_open() != Some(at);
        let sent = &mut self.under_way[at];
        sent.on_the_way = true;
        sent.behind_another = behind_another;
        self.on_the_way += 1;
        Some((self.first_number + at as u64, sent.bytes.clone()))
    }

    fn next_to_send(&self) -> Option<usize> {
        if self.phase != Phase::Flowing || matches!(self.identity, Identity::Missing) {
            return None;
        }
        self.under_way
            .iter()
            .position(|s| s.completion.is_some() && !s.on_the_way)
    }

    /// Place of the first batch without an outcome.
    fn first_open(&self) -> Option<usize> {
        self.under_way.iter().position(|s| s.completion.is_some())
    }

    /// Takes the answer to the batch with this local number.
    pub(crate) fn on_answer(
        &mut self,
        number: u64,
        answer: Result<ProduceAnswer, Failure>,
        now: Instant,
        options: &Options,
    ) {
        let at = usize::try_from(number - self.first_number)
            .expect("few batches are under way, and an unanswered one is not let go");
        self.on_the_way -= 1;
        let sent = &mut self.under_way[at];
        sent.on_the_way = false;
        match answer {
            Ok(stored) => {
                if let Some(completion) = sent.completion.take() {
                    completion.complete(Ok(Stored {
                        base_offset: stored.base_offset,
                        duplicate: stored.duplicate,
                    }));
                }
                self.backoff.reset();
            }
            Err(failure) => {
                sent.maybe_stored |= failure.code.retry() == Retry::Unknown;
                sent.failure = Some(failure);
                self.phase = Phase::Draining;
            }
        }
        self.let_go_of_known();
        if self.phase == Phase::Draining && self.on_the_way == 0 {
            self.judge(now, options);
            self.let_go_of_known();
        }
    }

    fn let_go_of_known(&mut self) {
        while self
            .under_way
            .front()
            .is_some_and(|s| s.completion.is_none())
        {
            self.under_way.pop_front();
            self.first_number += 1;
        }
    }

    fn judge(&mut self, now: Instant, options: &Options) {
        if matches!(self.identity, Identity::Unneeded) {
            self.judge_each(now, options);
        } else if let Some(at) = self.first_open() {
            let first = &mut self.under_way[at];
            let failure = first.last_failure();
            match verdict(first, failure.code, now, options) {
                Verdict::TryAgain => {}
                Verdict::Renumber => self.lose_identity(),
                Verdict::Fail => {
                    first.fail(failure);
                    self.lose_identity();
                }
            }
        }
        let failed = |s: &Sent| s.completion.is_some() && s.failure.is_some();
        self.phase = if self.under_way.iter().any(failed) {
            Phase::Resting(now + self.backoff.next_pause())
        } else {
            Phase::Flowing
        };
    }

    /// Without numbers every batch stands for itself, and only a proven "not stored" is tried again.
    fn judge_each(&mut self, now: Instant, options: &Options) {
        for sent in &mut self.under_way {
            let Some(failure) = sent.failure.clone() else {
                continue;
            };
            if failure.code.retry() != Retry::Later || is_too_old(sent, now, options) {
                sent.fail(failure);
            }
        }
    }

    /// The numbers have a gap: what may be stored under the old ones fails, the rest gets new ones.
    fn lose_identity(&mut self) {
        self.identity = Identity::Missing;
        for sent in self.under_way.iter_mut().filter(|s| s.maybe_stored) {
            let failure = sent.last_failure();
            sent.fail(failure);
        }
    }

    /// Takes the answer to the request for an identity.
    pub(crate) fn on_identity(
        &mut self,
        answer: Result<InitProducerAnswer, Failure>,
        now: Instant,
        options: &Options,
    ) {
        match answer {
            Ok(given) => {
                self.renumber_all(given);
                self.phase = Phase::Flowing;
            }
            Err(failure) => {
                let final_answer = failure.code.retry() == Retry::Never;
                for sent in &mut self.under_way {
                    if final_answer || is_too_old(sent, now, options) {
                        sent.fail(failure.clone());
                    }
                }
                self.let_go_of_known();
                self.phase = Phase::Resting(now + self.backoff.next_pause());
            }
        }
    }

    fn renumber_all(&mut self, given: InitProducerAnswer) {
        let (id, epoch) = (given.id, given.epoch);
        let mut next_sequence = 0u32;
        for sent in self.under_way.iter_mut().filter(|s| s.completion.is_some()) {
            sent.bytes = renumber(&sent.bytes, id, epoch, next_sequence);
            sent.failure = None;
            next_sequence = next_sequence.wrapping_add(sent.records);
        }
        self.identity = Identity::Known {
            id,
            epoch,
            next_sequence,
        };
    }
}

/// Judges the first batch without an outcome by its last answer.
fn verdict(first: &Sent, code: ErrorCode, now: Instant, options: &Options) -> Verdict {
    let refused_for_its_number = matches!(
        code,
        ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer
    );
    if is_too_old(first, now, options) {
        Verdict::Fail
    } else if code.retry() != Retry::Never || (refused_for_its_number && first.behind_another) {
        Verdict::TryAgain
    } else if code == ErrorCode::UnknownProducer {
        Verdict::Renumber
    } else {
        Verdict::Fail
    }
}

fn is_too_old(sent: &Sent, now: Instant, options: &Options) -> bool {
    now.duration_since(sent.gathered_at) >= options.retry_for
}

#[cfg(test)]
mod tests;
