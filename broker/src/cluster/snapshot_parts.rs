//! The parts of a snapshot as bytes: each part in postcard, and its size before it.

use bytes::{Buf, Bytes, BytesMut};
use flowstone_storage::snapshot::Part;
use std::io;

/// Largest part, in bytes: state rows are as long as what tasks keep under a key.
const PART_BYTES_MAX: usize = 64 << 20;
const SIZE_BYTES: usize = 4;

/// The bytes of a part.
///
/// # Errors
/// One that is too large.
pub(super) fn encode(part: &Part) -> io::Result<Bytes> {
    let body = postcard::to_allocvec(part).map_err(io::Error::other)?;
    if body.len() > PART_BYTES_MAX {
        let what = format!("a part of a snapshot of {} bytes", body.len());
        return Err(io::Error::other(what));
    }
    let mut bytes = Vec::with_capacity(SIZE_BYTES + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes.into())
}

/// Bytes that have come, on their way to parts.
#[derive(Debug, Default)]
pub(super) struct Parts(BytesMut);

impl Parts {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next part that has come whole.
    ///
    /// # Errors
    /// What is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Part>> {
        let Some(size) = self.0.first_chunk::<SIZE_BYTES>() else {
            return Ok(None);
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size > PART_BYTES_MAX {
            let what = format!("a part of a snapshot of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if self.0.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        self.0.advance(SIZE_BYTES);
        let body = self.0.split_to(size);
        let bad = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        postcard::from_bytes(&body).map(Some).map_err(bad)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowstone_wire::Lsn;

    #[test]
    fn parts_come_back_however_their_bytes_are_cut() {
        let begin = Part::Begin {
            applied: Lsn(7),
            settled_upto: Lsn(3),
        };
        let all = [begin, Part::Bytes(vec![9; 1000]), Part::End];
        let bytes: Vec<u8> = all.iter().flat_map(|p| encode(p).unwrap()).collect();
        for step in [1, 3, 100, 5000] {
            let (mut parts, mut got) = (Parts::default(), Vec::new());
            for piece in bytes.chunks(step) {
                parts.push(piece);
                while let Some(part) = parts.next().unwrap() {
                    got.push(part);
                }
            }
            assert_eq!(got, all);
            assert!(parts.is_empty());
        }
        let mut wrong = Parts::default();
        wrong.push(&[0xff; 4]);
        assert!(wrong.next().is_err(), "no size is believed");
    }
}
