//! The values of one column under construction.

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBufferBuilder, BooleanBuilder, Int64Builder,
    ListArray, PrimitiveBuilder, StringBuilder,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type,
    TimestampMillisecondType,
};
use flowstone_processor::rfc3339;

/// Values of one column.
pub(super) enum Cells {
    Boolean(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(Int64Builder),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<TimestampMillisecondType>),
    List(List),
}

/// Lists of values.
pub(super) struct List {
    field: FieldRef,
    pub(super) elements: Box<Cells>,
    /// Where each list ends among the elements.
    ends: Vec<i32>,
    valid: BooleanBufferBuilder,
}

/// Does the same with the builder, whichever it is.
macro_rules! each {
    ($cells:expr, $builder:ident => $act:expr) => {
        match $cells {
            Cells::Boolean($builder) => $act,
            Cells::Int16($builder) => $act,
            Cells::Int32($builder) => $act,
            Cells::Int64($builder) => $act,
            Cells::Float32($builder) => $act,
            Cells::Float64($builder) => $act,
            Cells::Text($builder) => $act,
            Cells::Bytes($builder) => $act,
            Cells::Date($builder) => $act,
            Cells::Time($builder) => $act,
            Cells::List($builder) => $act,
        }
    };
}

impl Cells {
    /// Room for `rows` values of a type that streams have.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Binary => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::Date32 => Self::Date(PrimitiveBuilder::with_capacity(rows)),
            DataType::Timestamp(..) => Self::Time(PrimitiveBuilder::with_capacity(rows)),
            DataType::List(field) => Self::List(List {
                field: field.clone(),
                elements: Box::new(Self::new(field.data_type(), rows)),
                ends: vec![0],
                valid: BooleanBufferBuilder::new(rows),
            }),
            _ => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        each!(self, b => b.len())
    }

    pub(super) fn push_null(&mut self) {
        each!(self, b => b.append_null());
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        each!(self, b => std::sync::Arc::new(b.finish()) as ArrayRef)
    }

    /// Adds a truth value; says whether it fits, as the others do.
    pub(super) fn set_bool(&mut self, value: bool) -> bool {
        match self {
            Self::Boolean(b) => b.append_value(value),
            _ => return false,
        }
        true
    }

    pub(super) fn set_int(&mut self, value: i64) -> bool {
        match self {
            Self::Int16(b) => return i16::try_from(value).map(|v| b.append_value(v)).is_ok(),
            Self::Int32(b) => return i32::try_from(value).map(|v| b.append_value(v)).is_ok(),
            Self::Int64(b) => b.append_value(value),
            Self::Float32(b) => b.append_value(value as f32),
            Self::Float64(b) => b.append_value(value as f64),
            Self::Time(b) => b.append_value(value),
            _ => return false,
        }
        true
    }

    pub(super) fn set_float(&mut self, value: f64) -> bool {
        match self {
            Self::Float32(b) if (value as f32).is_finite() || !value.is_finite() => {
                b.append_value(value as f32)
            }
            Self::Float64(b) => b.append_value(value),
            _ => return false,
        }
        true
    }

    /// A text of the value: as it is, as a time or as a day.
    pub(super) fn set_text(&mut self, text: &str) -> bool {
        match self {
            Self::Text(b) => b.append_value(text),
            Self::Time(b) => {
                return rfc3339::parse_ms(text)
                    .map(|ms| b.append_value(ms))
                    .is_some();
            }
            Self::Date(b) => {
                let midnight =
                    rfc3339::parse_ms(&format!("{text}T00:00:00Z")).filter(|_| text.len() == 10);
                let day = midnight.map(|ms| ms.div_euclid(86_400_000) as i32);
                return day.map(|d| b.append_value(d)).is_some();
            }
            _ => return false,
        }
        true
    }
}

impl List {
    fn len(&self) -> usize {
        self.valid.len()
    }

    fn append_null(&mut self) {
        self.end(false);
    }

    /// The elements since the last list are one.
    pub(super) fn end(&mut self, is_valid: bool) {
        let end = i32::try_from(self.elements.len());
        self.ends
            .push(end.expect("the records of a unit have few megabytes"));
        self.valid.append(is_valid);
    }

    fn finish(&mut self) -> ListArray {
        let offsets = OffsetBuffer::new(std::mem::take(&mut self.ends).into());
        let nulls = NullBuffer::new(self.valid.finish());
        ListArray::new(
            self.field.clone(),
            offsets,
            self.elements.finish(),
            Some(nulls),
        )
    }
}
