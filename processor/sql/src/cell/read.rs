//! Reading values from bytes into an array.

use super::take_length;
use datafusion::arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, make_array};
use datafusion::arrow::buffer::{Buffer, NullBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;

/// Collects values of one type.
pub(crate) struct Reader {
    data_type: DataType,
    valid: BooleanBufferBuilder,
    content: Content,
}

enum Content {
    Null,
    Fixed {
        bytes: Vec<u8>,
        width: usize,
    },
    Bits(BooleanBufferBuilder),
    Bytes {
        ends: Vec<usize>,
        bytes: Vec<u8>,
        large: bool,
    },
    List {
        ends: Vec<usize>,
        child: Box<Reader>,
    },
    Struct(Vec<Reader>),
}

impl Reader {
    pub(crate) fn new(data_type: &DataType) -> Self {
        let bytes = |large| Content::Bytes {
            ends: Vec::new(),
            bytes: Vec::new(),
            large,
        };
        let content = match data_type {
            DataType::Boolean => Content::Bits(BooleanBufferBuilder::new(0)),
            DataType::Utf8 | DataType::Binary => bytes(false),
            DataType::LargeUtf8 | DataType::LargeBinary => bytes(true),
            DataType::List(field) => Content::List {
                ends: Vec::new(),
                child: Box::new(Reader::new(field.data_type())),
            },
            DataType::Struct(fields) => {
                Content::Struct(fields.iter().map(|f| Reader::new(f.data_type())).collect())
            }
            other => match other.primitive_width() {
                Some(width) => Content::Fixed {
                    bytes: Vec::new(),
                    width,
                },
                None => Content::Null,
            },
        };
        Self {
            data_type: data_type.clone(),
            valid: BooleanBufferBuilder::new(0),
            content,
        }
    }

    /// Takes one value from the front of `from`; `None` if there is none.
    pub(crate) fn read(&mut self, from: &mut &[u8]) -> Option<()> {
        let (mark, rest) = from.split_first()?;
        *from = rest;
        let present = match mark {
            0 => false,
            1 => true,
            _ => return None,
        };
        self.valid.append(present);
        match &mut self.content {
            Content::Null => {}
            Content::Fixed { bytes, width } if present => {
                bytes.extend_from_slice(take(from, *width)?)
            }
            Content::Fixed { bytes, width } => bytes.resize(bytes.len() + *width, 0),
            Content::Bits(bits) => bits.append(present && take(from, 1)?[0] == 1),
            Content::Bytes { ends, bytes, .. } => {
                if present {
                    let length = take_length(from)?;
                    bytes.extend_from_slice(take(from, length)?);
                }
                ends.push(bytes.len());
            }
            Content::List { ends, child } => {
                let count = if present { take_length(from)? } else { 0 };
                for _ in 0..count {
                    child.read(from)?;
                }
                ends.push(child.valid.len());
            }
            Content::Struct(children) => {
                for child in children {
                    match present {
                        true => child.read(from)?,
                        false => child.read(&mut &[0_u8][..])?,
                    }
                }
            }
        }
        Some(())
    }

    /// The values that were read.
    ///
    /// # Errors
    /// Bytes that are not of the type, such as text that is not UTF-8.
    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(make_array(self.data()?))
    }

    fn data(mut self) -> Result<ArrayData, ArrowError> {
        let length = self.valid.len();
        let nulls = NullBuffer::new(self.valid.finish());
        let nulls = Some(nulls).filter(|n| n.null_count() > 0);
        let mut builder = ArrayData::builder(self.data_type)
            .len(length)
            .align_buffers(true);
        builder = match self.content {
            Content::Null => return builder.build(),
            Content::Fixed { bytes, .. } => builder.add_buffer(Buffer::from_vec(bytes)),
            Content::Bits(mut bits) => builder.add_buffer(bits.finish().into_inner()),
            Content::Bytes { ends, bytes, large } => builder
                .add_buffer(offsets(&ends, large)?)
                .add_buffer(Buffer::from_vec(bytes)),
            Content::List { ends, child } => builder
                .add_buffer(offsets(&ends, false)?)
                .add_child_data(child.data()?),
            Content::Struct(children) => {
                for child in children {
                    builder = builder.add_child_data(child.data()?);
                }
                builder
            }
        };
        builder.nulls(nulls).build()
    }
}

fn offsets(ends: &[usize], large: bool) -> Result<Buffer, ArrowError> {
    let all = std::iter::once(&0).chain(ends);
    if large {
        return Ok(Buffer::from_vec(
            all.map(|end| *end as i64).collect::<Vec<_>>(),
        ));
    }
    let small = all
        .map(|end| i32::try_from(*end))
        .collect::<Result<Vec<_>, _>>();
    let small =
        small.map_err(|_| ArrowError::ComputeError("more than 2 GiB of values at once".into()))?;
    Ok(Buffer::from_vec(small))
}

fn take<'b>(from: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (value, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(value)
}
