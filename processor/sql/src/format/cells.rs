//! The values of one column under construction.

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Int64Builder, PrimitiveBuilder,
    StringBuilder,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, TimestampMillisecondType,
};

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
}
