//! Bodies of batches in zstd, lz4, snappy and gzip, never unfolded beyond a limit.
//!
//! Framings are the ones of Kafka's record batches, so that a compressed payload passes through:
//! lz4 frame format, zstd frames, gzip members, and snappy in Xerial's block framing (magic
//! `82 SNAPPY 00`, two 32-bit versions, then blocks with a 32-bit big-endian length); raw snappy is
//! read as well.

use std::io::{Read, Write};

/// How the records of a batch are compressed; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy blocks in Xerial's framing.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard (RFC 8878).
    Zstd = 4,
}

/// Why a body could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// It unfolds to more than the limit.
    #[error("it unfolds to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not what its codec says.
    #[error("it is not valid {0}")]
    Invalid(&'static str),
}

impl Codec {
    /// The codec with these bits in the batch flags.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The bits of this codec in the batch flags.
    pub const fn bits(self) -> u16 {
        self as u16
    }

    /// The name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|c| c.name() == name)
    }
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// Level 1: on this path speed counts more than the last per cent.
const ZSTD_LEVEL: i32 = 1;

/// Appends `plain` to `out`, compressed.
pub fn compress(codec: Codec, plain: &[u8], out: &mut Vec<u8>) {
    let infallible = "writing to memory does not fail";
    match codec {
        Codec::None => out.extend_from_slice(plain),
        Codec::Gzip => {
            let mut w = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            w.write_all(plain)
                .and_then(|()| w.try_finish())
                .expect(infallible);
        }
        Codec::Snappy => {
            out.extend_from_slice(&XERIAL_MAGIC);
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            let mut encoder = snap::raw::Encoder::new();
            for block in plain.chunks(XERIAL_BLOCK_BYTES) {
                let packed = encoder
                    .compress_vec(block)
                    .expect("a block is far below 4 GiB");
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
        }
        Codec::Lz4 => {
            let mut w = lz4_flex::frame::FrameEncoder::new(out);
            w.write_all(plain).expect(infallible);
            w.finish().expect(infallible);
        }
        Codec::Zstd => {
            let mut w =
                zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).expect("level 1 is valid");
            w.write_all(plain).expect(infallible);
            w.finish().expect(infallible);
        }
    }
}

/// Decompresses `packed`, giving up as soon as the result passes `limit` bytes.
///
/// # Errors
/// [`CompressError`].
pub fn decompress(codec: Codec, packed: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    match codec {
        Codec::None if packed.len() > limit => Err(CompressError::TooLarge { limit }),
        Codec::None => Ok(packed.to_vec()),
        Codec::Gzip => bounded(flate2::read::MultiGzDecoder::new(packed), limit, "gzip"),
        Codec::Snappy => unsnap(packed, limit),
        Codec::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(packed), limit, "lz4"),
        Codec::Zstd => {
            let mut reader = zstd::stream::read::Decoder::with_buffer(packed)
                .map_err(|_| CompressError::Invalid("zstd"))?;
            // A frame may ask for a window of gigabytes; 2^23 = 8 MiB is what level 19 uses.
            reader
                .window_log_max(23)
                .map_err(|_| CompressError::Invalid("zstd"))?;
            bounded(reader, limit, "zstd")
        }
    }
}

fn bounded(reader: impl Read, limit: usize, name: &'static str) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    reader
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| CompressError::Invalid(name))?;
    if out.len() > limit {
        return Err(CompressError::TooLarge { limit });
    }
    Ok(out)
}

fn unsnap(packed: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    const INVALID: CompressError = CompressError::Invalid("snappy");
    let mut out = Vec::new();
    if !packed.starts_with(&XERIAL_MAGIC) {
        unsnap_block(packed, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = packed.get(XERIAL_HEADER_BYTES..).ok_or(INVALID)?;
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or(INVALID)?;
        let len = u32::from_be_bytes(*len) as usize;
        let block = tail.get(..len).ok_or(INVALID)?;
        unsnap_block(block, limit, &mut out)?;
        rest = &tail[len..];
    }
    Ok(out)
}

fn unsnap_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    const INVALID: CompressError = CompressError::Invalid("snappy");
    let declared = snap::raw::decompress_len(block).map_err(|_| INVALID)?;
    if out.len() + declared > limit {
        return Err(CompressError::TooLarge { limit });
    }
    let start = out.len();
    out.resize(start + declared, 0);
    let n = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| INVALID)?;
    out.truncate(start + n);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    proptest! {
        #[test]
        fn round_trips(plain in proptest::collection::vec(0u8..4, 0..100_000), codec in 0usize..5) {
            let mut packed = Vec::new();
            compress(ALL[codec], &plain, &mut packed);
            prop_assert_eq!(decompress(ALL[codec], &packed, plain.len()).unwrap(), plain);
        }

        #[test]
        fn any_bytes_end_in_a_value(packed in proptest::collection::vec(any::<u8>(), 0..500), codec in 1usize..5) {
            if let Ok(out) = decompress(ALL[codec], &packed, 10_000) { prop_assert!(out.len() <= 10_000); }
        }
    }

    #[test]
    fn one_byte_over_the_limit_is_refused() {
        for codec in ALL {
            let mut packed = Vec::new();
            compress(codec, &[7; 50_001], &mut packed);
            assert_eq!(
                decompress(codec, &packed, 50_000),
                Err(CompressError::TooLarge { limit: 50_000 }),
                "{codec:?}"
            );
        }
    }
}
