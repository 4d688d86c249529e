//! The frame of a message on a link.
//!
//! ```text
//!  0  envelope_size  4  bytes of the envelope, 1 to 1 MiB
//!  4  body_size      4  bytes of the body, 0 to 64 MiB
//!  8  envelope          postcard
//!     body
//! ```
//! All numbers little-endian.

use crate::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX};
use flowstone_core::replica::{Envelope, Message};

/// Bytes before the envelope.
pub const HEAD_BYTES: usize = 8;

/// How long the parts of a message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the envelope.
    pub envelope_size: u32,
    /// Bytes of the body.
    pub body_size: u32,
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, String> {
        let [a, b, c, d, e, f, g, h] = *bytes;
        let (envelope_size, body_size) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        if envelope_size == 0 || envelope_size as usize > ENVELOPE_BYTES_MAX {
            return Err(format!("an envelope of {envelope_size} bytes"));
        }
        if body_size as usize > BODY_BYTES_MAX {
            return Err(format!("a body of {body_size} bytes"));
        }
        Ok(Self {
            envelope_size,
            body_size,
        })
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.envelope_size.to_le_bytes());
        bytes[4..].copy_from_slice(&self.body_size.to_le_bytes());
        bytes
    }
}

/// Appends a head and an envelope; the body follows.
///
/// # Errors
/// The envelope is too long: its table of epochs is.
pub fn put_front(out: &mut Vec<u8>, envelope: &Envelope, body_size: usize) -> Result<(), String> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    let taken = std::mem::take(out);
    *out = postcard::to_extend(envelope, taken).map_err(|e| e.to_string())?;
    let envelope_size = out.len() - start - HEAD_BYTES;
    if envelope_size > ENVELOPE_BYTES_MAX || body_size > BODY_BYTES_MAX {
        out.truncate(start);
        return Err(format!("{envelope_size} and {body_size} bytes do not fit"));
    }
    let head = Head {
        envelope_size: envelope_size as u32,
        body_size: body_size as u32,
    };
    out[start..start + HEAD_BYTES].copy_from_slice(&head.encode());
    Ok(())
}

/// Reads an envelope: all of the bytes, and nothing that is not sound.
///
/// # Errors
/// What is wrong with it.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, String> {
    let (envelope, rest) =
        postcard::take_from_bytes::<Envelope>(bytes).map_err(|e| e.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind an envelope", rest.len()));
    }
    match &envelope.message {
        Message::Follow { epochs, .. } if !epochs.is_sound() => {
            Err("a table of epochs that do not rise".into())
        }
        _ => Ok(envelope),
    }
}

/// Whether a message keeps its place among those with bodies.
pub(crate) fn is_append(message: &Message) -> bool {
    matches!(message, Message::Append { .. })
}
