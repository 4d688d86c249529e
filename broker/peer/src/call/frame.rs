//! The frames of a call.
//!
//! ```text
//! request                                   answer
//!  0  kind        2  what is asked           0  status  1  0 answered, 1 refused, 2 busy, 3 no handler,
//!  2  within_ms   4  how long it matters                    4 late
//!  6  size        4  bytes that follow       1  size    4  bytes that follow: an answer, or a text
//! 10                                        5
//! ```
//! All numbers little-endian; behind both the stream ends.

use crate::limits::{CALL_BYTES_MAX, CALL_ERROR_BYTES_MAX};

/// Bytes before a request.
pub const REQUEST_BYTES: usize = 10;
/// Bytes before an answer.
pub const ANSWER_BYTES: usize = 5;

/// What stands before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// What is asked.
    pub kind: u16,
    /// How long the caller waits, in milliseconds.
    pub within_ms: u32,
    /// Bytes of the request.
    pub size: u32,
}

impl RequestHead {
    /// Reads it.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, String> {
        let [k0, k1, w0, w1, w2, w3, s0, s1, s2, s3] = *bytes;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        if size as usize > CALL_BYTES_MAX {
            return Err(format!("a request of {size} bytes"));
        }
        Ok(Self {
            kind: u16::from_le_bytes([k0, k1]),
            within_ms: u32::from_le_bytes([w0, w1, w2, w3]),
            size,
        })
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..2].copy_from_slice(&self.kind.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.within_ms.to_le_bytes());
        bytes[6..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }
}

/// What has become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The answer follows.
    Answered = 0,
    /// The handler says no; why follows.
    Refused = 1,
    /// Too much waits already.
    Busy = 2,
    /// Nobody answers this kind.
    NoHandler = 3,
    /// There was no answer in time.
    Late = 4,
}

/// What stands before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// What has become of the call.
    pub status: Status,
    /// Bytes that follow.
    pub size: u32,
}

impl AnswerHead {
    /// Reads it.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn decode(bytes: &[u8; ANSWER_BYTES]) -> Result<Self, String> {
        let [status, size @ ..] = *bytes;
        let size = u32::from_le_bytes(size);
        let (status, max) = match status {
            0 => (Status::Answered, CALL_BYTES_MAX),
            1 => (Status::Refused, CALL_ERROR_BYTES_MAX),
            2 => (Status::Busy, 0),
            3 => (Status::NoHandler, 0),
            4 => (Status::Late, 0),
            other => return Err(format!("an answer with status {other}")),
        };
        if size as usize > max {
            return Err(format!("an answer of {size} bytes with status {status:?}"));
        }
        Ok(Self { status, size })
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; ANSWER_BYTES] {
        let [s0, s1, s2, s3] = self.size.to_le_bytes();
        [self.status as u8, s0, s1, s2, s3]
    }
}
