//! Length-prefixed frames of the native protocol.
//!
//! ```text
//!  0  size          4  bytes behind this field
//!  4  api           2  which request, or the same number | 0x8000 for its answer
//!  6  version       2  version of the request's header, 1
//!  8  correlation   8  chosen by the client, echoed in the answer
//! 16  header_size   4  bytes of the postcard header
//! 20  header           postcard
//!     payload          whole batches, back to back
//! ```
//! All numbers little-endian.

use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};

/// Bytes before the postcard header, the size field included.
pub const PREFIX_BYTES: usize = 20;
/// Bytes of the size field.
pub const SIZE_BYTES: usize = 4;
/// The version of every header today.
pub const VERSION: u16 = 1;
/// Set in `api` of an answer.
pub const ANSWER: u16 = 0x8000;

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Which request or answer.
    pub api: u16,
    /// Version of the header.
    pub version: u16,
    /// Matches an answer to its request.
    pub correlation: u64,
    /// Bytes of the postcard header.
    pub header_size: u32,
    /// Bytes of the payload.
    pub payload_size: u32,
}

/// Why bytes are not a frame. The connection cannot go on after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than a frame may be, or smaller than its fixed part.
    #[error("frame of {size} bytes is outside {min} to {FRAME_BYTES_MAX} bytes", min = PREFIX_BYTES - SIZE_BYTES)]
    Size {
        /// What the size field says.
        size: u32,
    },
    /// The header is larger than the frame or than a header may be.
    #[error("frame header of {header_size} bytes does not fit its frame")]
    Header {
        /// What the header size field says.
        header_size: u32,
    },
}

impl Prefix {
    /// Bytes of the whole frame, the size field included.
    pub fn frame_bytes(&self) -> usize {
        PREFIX_BYTES + self.header_size as usize + self.payload_size as usize
    }

    /// Reads the fixed part. `None` means that more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the bytes at hand show it, so that nobody waits for a lie.
    pub fn decode(b: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(size) = b.first_chunk::<4>().map(|s| u32::from_le_bytes(*s)) else {
            return Ok(None);
        };
        if size as usize > FRAME_BYTES_MAX || (size as usize) < PREFIX_BYTES - SIZE_BYTES {
            return Err(FrameError::Size { size });
        }
        let Some(p) = b.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let header_size = u32::from_le_bytes([p[16], p[17], p[18], p[19]]);
        let room = size - (PREFIX_BYTES - SIZE_BYTES) as u32;
        if header_size > room || header_size as usize > FRAME_HEADER_BYTES_MAX {
            return Err(FrameError::Header { header_size });
        }
        Ok(Some(Self {
            api: u16::from_le_bytes([p[4], p[5]]),
            version: u16::from_le_bytes([p[6], p[7]]),
            correlation: u64::from_le_bytes([p[8], p[9], p[10], p[11], p[12], p[13], p[14], p[15]]),
            header_size,
            payload_size: room - header_size,
        }))
    }
}

/// Appends the front of a frame (fixed part and header); `payload_size` bytes must follow it.
pub fn put_front(
    out: &mut Vec<u8>,
    api: u16,
    correlation: u64,
    header: &[u8],
    payload_size: usize,
) {
    let size = PREFIX_BYTES - SIZE_BYTES + header.len() + payload_size;
    debug_assert!(size <= FRAME_BYTES_MAX, "the sender keeps to the limits");
    out.reserve(PREFIX_BYTES + header.len());
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&api.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&correlation.to_le_bytes());
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_round_trips_and_is_asked_for_byte_by_byte() {
        let mut out = Vec::new();
        put_front(&mut out, 5, 99, b"head", 7);
        out.extend_from_slice(b"payload");
        for cut in 0..PREFIX_BYTES {
            assert_eq!(Prefix::decode(&out[..cut]), Ok(None));
        }
        let p = Prefix::decode(&out).unwrap().unwrap();
        assert_eq!(
            (p.api, p.correlation, p.header_size, p.payload_size),
            (5, 99, 4, 7)
        );
        assert_eq!(p.frame_bytes(), out.len());
    }

    #[test]
    fn lies_about_length_are_refused_at_once() {
        assert_eq!(
            Prefix::decode(&u32::MAX.to_le_bytes()),
            Err(FrameError::Size { size: u32::MAX })
        );
        assert_eq!(
            Prefix::decode(&3u32.to_le_bytes()),
            Err(FrameError::Size { size: 3 })
        );
        let mut out = Vec::new();
        put_front(&mut out, 1, 1, &[], 0);
        out[16..20].copy_from_slice(&9u32.to_le_bytes());
        assert_eq!(
            Prefix::decode(&out),
            Err(FrameError::Header { header_size: 9 })
        );
    }
}
