//! What failed and is to be tried again, and when.
//!
//! Kept in memory only: after a restart the attempts are counted from the beginning.

use crate::pipeline::PipelineOptions;
use crate::processor::{ProcessError, TimeKind};
use crate::timers::TimerId;
use flowstone_wire::{Offset, PartitionId};
use std::collections::BTreeMap;

/// Most causes whose attempts are remembered. The task waits for one at a time; there are more only
/// if others come before it when the wait is over.
const CAUSES_MAX: usize = 64;

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Record(PartitionId, Offset),
    Timer(TimeKind, TimerId),
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait, then try again.
    Again,
    /// To the dead letters.
    GiveUp {
        /// Attempts made.
        attempts: u32,
    },
}

/// Failed attempts, and the time of the next one.
#[derive(Debug, Default)]
pub(super) struct Retries {
    attempts: BTreeMap<Cause, u32>,
    until_ms: Option<i64>,
}

impl Retries {
    /// When the task may go on, if it waits.
    pub(super) fn until_ms(&self) -> Option<i64> {
        self.until_ms
    }

    /// Ends the wait; says whether there was one.
    pub(super) fn wake(&mut self) -> bool {
        self.until_ms.take().is_some()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// `cause` succeeded.
    pub(super) fn done(&mut self, cause: &Cause) {
        self.attempts.retain(|other, _| match (cause, other) {
            // Older records of the partition are gone: nobody will read them again.
            (Cause::Record(p, offset), Cause::Record(q, older)) => p != q || older > offset,
            _ => other != cause,
        });
    }

    /// `cause` failed at `now_ms`.
    pub(super) fn failed(
        &mut self,
        cause: Cause,
        error: &ProcessError,
        options: &PipelineOptions,
        now_ms: i64,
    ) -> Verdict {
        let before = self.attempts.remove(&cause).unwrap_or_default();
        let attempts = before.saturating_add(1);
        if matches!(error, ProcessError::Reject(_)) || attempts >= options.max_attempts {
            return Verdict::GiveUp { attempts };
        }
        if self.attempts.len() >= CAUSES_MAX {
            self.attempts.pop_first();
        }
        self.attempts.insert(cause, attempts);
        self.until_ms = Some(now_ms.saturating_add(backoff_ms(attempts, options)));
        Verdict::Again
    }
}

/// The pause after `attempts` failed attempts.
fn backoff_ms(attempts: u32, options: &PipelineOptions) -> i64 {
    let doublings = (attempts - 1).min(62);
    options
        .backoff_ms
        .saturating_mul(1 << doublings)
        .min(options.backoff_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let options = PipelineOptions::default();
        let pauses = [1, 2, 3, 7, 8, 100, u32::MAX].map(|n| backoff_ms(n, &options));
        assert_eq!(pauses, [100, 200, 400, 6_400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn causes_do_not_reset_one_another() {
        let (mut retries, options) = (Retries::default(), PipelineOptions::default());
        let error = ProcessError::Retry("later".into());
        let cause = |p| Cause::Record(PartitionId(p), Offset(3));
        for _ in 1..options.max_attempts {
            for p in [1, 2] {
                let verdict = retries.failed(cause(p), &error, &options, 0);
                assert_eq!(verdict, Verdict::Again);
            }
        }
        for p in [1, 2] {
            let verdict = retries.failed(cause(p), &error, &options, 0);
            assert_eq!(verdict, Verdict::GiveUp { attempts: 5 });
        }
        assert!(retries.is_empty());
    }

    #[test]
    fn a_later_record_of_the_partition_forgets_the_earlier_ones() {
        let (mut retries, options) = (Retries::default(), PipelineOptions::default());
        let error = ProcessError::Retry("later".into());
        retries.failed(
            Cause::Record(PartitionId(1), Offset(3)),
            &error,
            &options,
            0,
        );
        retries.failed(
            Cause::Record(PartitionId(2), Offset(3)),
            &error,
            &options,
            0,
        );
        retries.done(&Cause::Record(PartitionId(1), Offset(9)));
        assert_eq!(retries.attempts.len(), 1);
        assert_eq!(
            retries.failed(
                Cause::Record(PartitionId(2), Offset(3)),
                &ProcessError::Reject("never".into()),
                &options,
                0
            ),
            Verdict::GiveUp { attempts: 2 }
        );
    }
}
