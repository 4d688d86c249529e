//! The error table: one row per error that can cross a door.
//!
//! Numbers are stored by clients and never change. Every row says whether trying again can help.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a caller should do with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// Try again after a pause; nothing was stored.
    Later,
    /// Whether it was stored is not known; only an idempotent retry is safe.
    Unknown,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:ident, $http:literal;)*) => {
        /// An error that can cross a door, by its stable number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// All rows, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The stable number.
            pub const fn number(self) -> u16 { self as u16 }

            /// The stable name, in kebab-case; the last part of a problem document's `type`.
            pub const fn name(self) -> &'static str { match self { $(ErrorCode::$name => $text,)* } }

            /// Whether trying again can help.
            pub const fn retry(self) -> Retry { match self { $(ErrorCode::$name => Retry::$retry,)* } }

            /// The HTTP status of a problem document for this error.
            pub const fn http_status(self) -> u16 { match self { $(ErrorCode::$name => $http,)* } }

            /// The row with this number; a number from a newer peer becomes [`ErrorCode::Internal`].
            pub const fn from_number(number: u16) -> Self {
                match number { $($number => ErrorCode::$name,)* _ => ErrorCode::Internal }
            }
        }
    };
}

errors! {
    /// Something went wrong that should not; the log of the broker says what.
    Internal = 1, "internal", Unknown, 500;
    /// The request is not well formed.
    InvalidRequest = 2, "invalid-request", Never, 400;
    /// The peer speaks a version that this broker does not.
    UnsupportedVersion = 3, "unsupported-version", Never, 400;
    /// A frame, body, batch or record is over its limit.
    TooLarge = 4, "too-large", Never, 413;
    /// A batch does not hold what its header says.
    CorruptBatch = 5, "corrupt-batch", Never, 400;
    /// A name breaks the rules for names.
    InvalidName = 6, "invalid-name", Never, 400;
    /// There is no such topic.
    UnknownTopic = 7, "unknown-topic", Never, 404;
    /// There is no such partition.
    UnknownPartition = 8, "unknown-partition", Never, 404;
    /// A topic of that name exists.
    TopicExists = 9, "topic-exists", Never, 409;
    /// The offset is before the first or behind the last record of the partition.
    OffsetOutOfRange = 10, "offset-out-of-range", Never, 416;
    /// The sequence of an idempotent producer has a gap.
    OutOfOrderSequence = 11, "out-of-order-sequence", Never, 409;
    /// A newer incarnation of this producer has taken over.
    ProducerFenced = 12, "producer-fenced", Never, 409;
    /// The broker no longer remembers this producer; a retry could store records twice.
    UnknownProducer = 13, "unknown-producer", Never, 409;
    /// Too much is waiting to be made durable; slow down.
    Busy = 14, "busy", Later, 429;
    /// The disk is full; reads go on.
    DiskFull = 15, "disk-full", Later, 507;
    /// The shard stopped after an error of its disk and takes nothing more until a restart.
    ShardFenced = 16, "shard-fenced", Unknown, 503;
    /// The broker is shutting down.
    ShuttingDown = 17, "shutting-down", Later, 503;
    /// The log is damaged at this place; the message has the offsets.
    Damaged = 18, "damaged", Never, 500;
    /// No answer came in time.
    Timeout = 19, "timeout", Unknown, 504;
    /// The connection broke before the answer came.
    Disconnected = 20, "disconnected", Unknown, 503;
    /// A limit on the number of things is reached.
    LimitReached = 21, "limit-reached", Never, 409;
    /// There is no such thing (route, group or pipeline).
    NotFound = 22, "not-found", Never, 404;
    /// The same idempotency key was used with another body.
    IdempotencyMismatch = 23, "idempotency-mismatch", Never, 422;
    /// The record is in the tier only, which does not answer.
    TierUnavailable = 24, "tier-unavailable", Later, 503;
    /// Another node leads the shard, or none does just now; nothing was stored here.
    NotLeader = 25, "not-leader", Later, 503;
    /// The node stopped leading before the outcome was known.
    LeadershipLost = 26, "leadership-lost", Unknown, 503;
    /// No majority of the cluster's voters answers, so nothing can be agreed on.
    CatalogUnavailable = 30, "catalog-unavailable", Later, 503;
    /// What was to be changed has changed since it was read.
    Stale = 31, "stale", Never, 409;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u16::deserialize(d).map(Self::from_number)
    }
}

/// An error with what was wrong and what to do, as it crosses a door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Failure {
    /// The row of the table.
    pub code: ErrorCode,
    /// What was wrong, with the value, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure of this code with this text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        for (i, a) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_number(a.number()), *a);
            for b in &ErrorCode::ALL[i + 1..] {
                assert_ne!(a.number(), b.number());
                assert_ne!(a.name(), b.name());
            }
        }
    }

    #[test]
    fn an_unknown_number_is_internal_not_a_panic() {
        assert_eq!(ErrorCode::from_number(60_000), ErrorCode::Internal);
    }
}
