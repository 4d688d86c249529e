//! From the bytes of records to columns, and back.

pub(crate) mod avro;
mod cells;
pub(crate) mod csv;
mod decode;
pub(crate) mod encode;
mod json;

pub(crate) use decode::{Decoded, Decoder};
