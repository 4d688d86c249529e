//! What can go wrong, as a caller branches on it.

use flowstone_wire::batch::BatchError;
use flowstone_wire::error::Retry;
use flowstone_wire::{ErrorCode, Failure, Offset};

/// Why a call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The broker refused; the code says whether trying again can help.
    #[error("{0}")]
    Refused(Failure),
    /// There is no connection, or it broke before the answer came.
    #[error("{0}")]
    Disconnected(String),
    /// No answer came in time.
    #[error("{0}")]
    Timeout(String),
    /// The URL of a broker is not one.
    #[error("url {url:?} is refused: {reason}; write tcp://host:port or unix:///path")]
    InvalidUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What was asked is not possible; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// The broker gave bytes that are not what was stored; records before it were given out.
    #[error(
        "topic '{topic}' partition {partition} is damaged at offset {offset}: {reason}; \
         read again, or seek behind it to go on without what is lost"
    )]
    Damaged {
        /// Name of the topic.
        topic: String,
        /// Index of the partition in the topic.
        partition: u32,
        /// The offset that could not be read.
        offset: Offset,
        /// What is wrong with the bytes.
        reason: BatchError,
    },
    /// The producer was closed, or dropped before the record was answered.
    #[error("the producer is closed; open another one")]
    Closed,
}

impl Error {
    /// The row of the error table, where the error is one of a broker or a connection.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(failure) => Some(failure.code),
            Self::Disconnected(_) => Some(ErrorCode::Disconnected),
            Self::Timeout(_) => Some(ErrorCode::Timeout),
            Self::Damaged { .. } => Some(ErrorCode::Damaged),
            Self::InvalidUrl { .. } | Self::Invalid(_) | Self::Closed => None,
        }
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.code().map_or(Retry::Never, ErrorCode::retry)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.code {
            ErrorCode::Disconnected => Self::Disconnected(failure.message),
            ErrorCode::Timeout => Self::Timeout(failure.message),
            _ => Self::Refused(failure),
        }
    }
}
