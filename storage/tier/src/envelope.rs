//! The frame of what this crate itself writes into a bucket.
//!
//! ```text
//! magic (4), format version (4, little-endian), crc32 of the body (4, little-endian), body
//! ```

const HEADER_BYTES: usize = 12;
const VERSION: u32 = 1;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Owner,
    JointOwner,
    Document,
}

impl Kind {
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Manifest => *b"FSTM",
            Self::Owner => *b"FSTO",
            Self::JointOwner => *b"FSTC",
            Self::Document => *b"FSTD",
        }
    }
}

/// Puts a body into its frame.
pub(crate) fn seal(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&kind.magic());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The body in a frame, proven.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open(kind: Kind, bytes: &[u8]) -> Result<&[u8], String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("it has only {} bytes", bytes.len()));
    };
    let word =
        |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    if header[..4] != kind.magic() {
        return Err(format!("it is no {kind:?}"));
    }
    if word(4) != VERSION {
        return Err(format!(
            "its format is version {}, known is {VERSION}: update this program",
            word(4)
        ));
    }
    if word(8) != crc32fast::hash(body) {
        return Err("its checksum does not agree".into());
    }
    Ok(body)
}
