//! One lane: what waits for a partition of another shard, and how much of it is under way.

use crate::input::Now;
use bytes::Bytes;
use flowstone_wire::{ErrorCode, Failure, Lsn};
use std::collections::VecDeque;

/// Batches of a lane under way at once.
const WINDOW: usize = 4;
/// After a failure the lane waits this long at first, in microseconds, and twice as long each time.
const PAUSE_MIN_US: u64 = 5_000;
const PAUSE_MAX_US: u64 = 1_000_000;

/// A batch that the other shard is not known to have.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lsn: Lsn,
    pub(super) bytes: Bytes,
    /// Whether the state store has it.
    pub(super) stored: bool,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Sequence of the next record.
    pub(super) next_sequence: u32,
    /// In order of LSN, which is the order of their sequences.
    entries: VecDeque<Entry>,
    /// The first so many were sent since the last failure. `sent <= entries.len()`.
    sent: usize,
    /// Answers to come.
    under_way: usize,
    /// When all is sent again from the first; not before every answer is in.
    retry_at_us: Option<u64>,
    pause_us: u64,
    error: Option<String>,
}

impl Lane {
    pub(super) fn hold(&mut self, lsn: Lsn, bytes: Bytes, stored: bool) {
        self.entries.push_back(Entry { lsn, bytes, stored });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// When something is to be sent again; `None` as well while answers are to come.
    pub(super) fn retry_at_us(&self) -> Option<u64> {
        self.retry_at_us.filter(|_| self.under_way == 0)
    }

    /// Takes out what lies up to this LSN.
    pub(super) fn let_go(&mut self, upto: Lsn) -> impl Iterator<Item = Entry> {
        let count = self.entries.partition_point(|e| e.lsn <= upto);
        self.sent = self.sent.saturating_sub(count);
        self.entries.drain(..count)
    }

    /// The next batch to send, if one is durable and may go now.
    pub(super) fn next_to_send(&mut self, now: Now, durable: Lsn) -> Option<(Lsn, Bytes)> {
        if let Some(at) = self.retry_at_us {
            if self.under_way > 0 || now.mono_us < at {
                return None;
            }
            self.retry_at_us = None;
            self.sent = 0;
        }
        let entry = self.entries.get(self.sent)?;
        if self.under_way >= WINDOW || entry.lsn > durable {
            return None;
        }
        self.sent += 1;
        self.under_way += 1;
        Some((entry.lsn, entry.bytes.clone()))
    }

    /// Notes an answer.
    pub(super) fn answered(&mut self, arrived: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        if arrived {
            self.pause_us = 0;
            self.error = None;
        }
    }

    /// Notes a failure: all is sent again after a pause. Returns what an operator should know, once.
    pub(super) fn fail(&mut self, now: Now, failure: Failure) -> Option<String> {
        use ErrorCode::{Busy, OutOfOrderSequence, UnknownProducer};
        if self.retry_at_us.is_none() {
            self.pause_us = (self.pause_us * 2).clamp(PAUSE_MIN_US, PAUSE_MAX_US);
            self.retry_at_us = Some(now.mono_us + self.pause_us);
        } else if matches!(failure.code, OutOfOrderSequence | UnknownProducer) {
            // It followed one that failed.
            return None;
        }
        let news = self.error.is_none() && failure.code != Busy;
        if news {
            self.error = Some(failure.to_string());
        }
        news.then(|| format!("another shard does not take what a pipeline gives out: {failure}"))
    }

    /// Batches that the state store does not have; it will.
    pub(super) fn take_unstored(&mut self) -> impl Iterator<Item = (Lsn, &Bytes)> {
        let unstored = self.entries.iter_mut().filter(|e| !e.stored);
        unstored.map(|e| {
            e.stored = true;
            (e.lsn, &e.bytes)
        })
    }
}
