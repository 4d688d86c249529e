//! The frame of a snapshot.
//!
//! ```text
//!  0  envelope_size   4  1 to 1 MiB
//!  4  manifest_size   4  0 to 1 MiB
//!  8  content_size    8
//! 16  envelope           postcard
//!     manifest
//!     content
//! ```
//! All numbers little-endian; behind the content the stream ends. The answer is a byte, 1 for taken and 0
//! for refused, and behind it a text, why.

use crate::limits::{ENVELOPE_BYTES_MAX, MANIFEST_BYTES_MAX};

/// Bytes before the envelope.
pub const HEAD_BYTES: usize = 16;

/// How long the parts of a snapshot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the envelope.
    pub envelope_size: u32,
    /// Bytes of the manifest.
    pub manifest_size: u32,
    /// Bytes of the content.
    pub content_size: u64,
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
        let content_size = u64::from(word(8)) | u64::from(word(12)) << 32;
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
            content_size,
        })
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.envelope_size.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.manifest_size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.content_size.to_le_bytes());
        bytes
    }
}
