//! The frame of a snapshot.
//!
//! ```text
//!  0  envelope_size   4  1 to 1 MiB
//!  4  manifest_size   4  0 to 1 MiB
//!  8  envelope           postcard
//!     manifest
//!     pieces             each its size, 4 bytes, 1 to 256 KiB, and its bytes
//!     0                  4 bytes: that was all of them
//! ```
//! All numbers little-endian; then the stream ends. The answer is a byte, 1 for taken and 0
//! for refused, and behind it a text, why.

use crate::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX, SNAPSHOT_PIECE_BYTES};

/// Bytes before the envelope.
pub const HEAD_BYTES: usize = 8;

/// How long the parts of a snapshot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the envelope.
    pub envelope_size: u32,
    /// Bytes of the manifest.
    pub manifest_size: u32,
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, String> {
        let word = |at: usize| {
            let word = bytes[at..].first_chunk().expect("the head is longer");
            u32::from_le_bytes(*word)
        };
        let (envelope_size, manifest_size) = (word(0), word(4));
        if envelope_size == 0 || envelope_size as usize > ENVELOPE_BYTES_MAX {
            return Err(format!(
                "a snapshot with an envelope of {envelope_size} bytes"
            ));
        }
        if manifest_size as usize > MANIFEST_BYTES_MAX {
            return Err(format!(
                "a snapshot with a manifest of {manifest_size} bytes"
            ));
        }
        Ok(Self {
            envelope_size,
            manifest_size,
        })
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.envelope_size.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.manifest_size.to_le_bytes());
        bytes
    }
}

/// Reads the size of the next piece, in bytes; 0 behind the last one.
///
/// # Errors
/// One that is out of bounds.
pub fn piece_size(bytes: [u8; 4]) -> Result<usize, String> {
    let size = u32::from_le_bytes(bytes) as usize;
    if size > SNAPSHOT_PIECE_BYTES {
        return Err(format!("a piece of a snapshot of {size} bytes"));
    }
    Ok(size)
}
