//! The bytes of Avro values (specification 1.12, "Binary Encoding"): taken one by one, or passed over.

use super::schema::{Kind, Schema};

/// Values within values.
const DEPTH_MAX: usize = 64;

/// What is left of a value. Nothing that it says is believed before the bytes are there.
pub(crate) struct Datum<'a>(pub(crate) &'a [u8]);

type Read<T> = Result<T, String>;

fn ended() -> String {
    "the value ends too early for its schema".into()
}

impl<'a> Datum<'a> {
    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(ended)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of variable length: least significant 7 bits first, zigzag.
    #[inline]
    pub(crate) fn long(&mut self) -> Read<i64> {
        let mut bits = 0u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            // The tenth byte has one bit left.
            if at == 9 && *byte > 1 {
                break;
            }
            bits |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        match self.0.len() < 10 {
            true => Err(ended()),
            false => Err("a number has more than 64 bits".into()),
        }
    }

    pub(crate) fn boolean(&mut self) -> Read<bool> {
        match self.bytes(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            other => Err(format!("a boolean is {}", other[0])),
        }
    }

    pub(crate) fn float(&mut self) -> Read<f32> {
        let bytes = self.bytes(4)?.try_into();
        Ok(f32::from_le_bytes(bytes.expect("these are four")))
    }

    pub(crate) fn double(&mut self) -> Read<f64> {
        let bytes = self.bytes(8)?.try_into();
        Ok(f64::from_le_bytes(bytes.expect("these are eight")))
    }

    /// Bytes or a text, behind their length.
    #[inline]
    pub(crate) fn sized(&mut self) -> Read<&'a [u8]> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| format!("a length is {length}"))?;
        self.bytes(length)
    }

    /// The number of a branch, or of a symbol, of so many.
    pub(crate) fn index(&mut self, count: usize) -> Read<usize> {
        let index = self.long()?;
        let known = usize::try_from(index).ok().filter(|i| *i < count);
        known.ok_or_else(|| format!("there is no branch or symbol {index}"))
    }

    /// How many elements come next; 0 is the end of the list.
    pub(crate) fn block(&mut self) -> Read<u64> {
        let count = self.long()?;
        if count < 0 {
            // Its bytes follow, for those who pass over it.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    /// Passes over a value.
    pub(crate) fn skip(&mut self, schema: &Schema, kind: &Kind, depth: usize) -> Read<()> {
        if depth == DEPTH_MAX {
            return Err(format!(
                "more than {DEPTH_MAX} values lie within one another"
            ));
        }
        match schema.of(kind) {
            Kind::Null => {}
            Kind::Boolean => drop(self.boolean()?),
            Kind::Long(_) => drop(self.long()?),
            Kind::Float => drop(self.bytes(4)?),
            Kind::Double => drop(self.bytes(8)?),
            Kind::Bytes | Kind::String => drop(self.sized()?),
            Kind::Fixed(size) => drop(self.bytes(*size)?),
            Kind::Enum(symbols) => drop(self.index(symbols.len())?),
            Kind::Union(branches) => {
                let branch = self.index(branches.len())?;
                self.skip(schema, &branches[branch], depth + 1)?;
            }
            Kind::Record(fields) => {
                for field in fields {
                    self.skip(schema, &field.kind, depth + 1)?;
                }
            }
            list @ (Kind::Array(element) | Kind::Map(element)) => {
                let named = matches!(list, Kind::Map(_));
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        break;
                    }
                    // Each takes a byte at least, so no count goes on beyond the bytes.
                    for _ in 0..count {
                        if named {
                            self.sized()?;
                        }
                        self.skip(schema, element, depth + 1)?;
                    }
                }
            }
            // `of` does not give one.
            Kind::Named(_) => {}
        }
        Ok(())
    }
}
