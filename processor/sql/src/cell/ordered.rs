//! Values as bytes that have the order of the values: how the rows of rankings are found.
//!
//! ```text
//! value   := 0 | 1 content | 2           0 and 2 are null: before all values, or behind them
//! content := whole numbers, times, decimals: their bytes, big-endian, the sign flipped
//!          | floats: the same, and of negative ones all other bits (the total order of IEEE 754)
//!          | boolean: one byte
//!          | text, bytes: a zero as 00 ff, behind the last one 00 01
//! ```
//! What is wanted in descending order has all bits of its content flipped.

use super::write::{Content, content};
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;

/// Whether values of a type have an order.
pub(crate) fn is_orderable(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Utf8 | LargeUtf8 | Binary | LargeBinary => true,
        Interval(_) => false,
        other => other.primitive_width().is_some(),
    }
}

/// How the bits of a number say whether it is below zero.
#[derive(Clone, Copy)]
enum Sign {
    None,
    Flipped,
    Float,
}

/// Writes values of one array so that their bytes have their order.
pub(crate) struct OrderedWriter {
    nulls: Option<NullBuffer>,
    content: Content,
    sign: Sign,
    options: SortOptions,
}

impl OrderedWriter {
    /// A writer of the values of `array`, whose type must have an order ([`is_orderable`]).
    pub(crate) fn new(array: &ArrayRef, options: SortOptions) -> Self {
        let data_type = array.data_type();
        let sign = if data_type.is_unsigned_integer() {
            Sign::None
        } else if data_type.is_floating() {
            Sign::Float
        } else {
            Sign::Flipped
        };
        Self {
            nulls: array.logical_nulls(),
            content: content(array),
            sign,
            options,
        }
    }

    /// Appends the value at `row`.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return out.push(if self.options.nulls_first { 0 } else { 2 });
        }
        out.push(1);
        let start = out.len();
        match &self.content {
            Content::Fixed { bytes, width } => {
                out.extend(bytes[row * width..(row + 1) * width].iter().rev());
                self.flip_sign(&mut out[start..]);
            }
            Content::Bits(array) => out.push(u8::from(array.as_boolean().value(row))),
            Content::Bytes { offsets, bytes } => {
                for byte in &bytes[offsets[row] as usize..offsets[row + 1] as usize] {
                    out.push(*byte);
                    if *byte == 0 {
                        out.push(0xff);
                    }
                }
                out.extend_from_slice(&[0, 1]);
            }
            // They have no order.
            Content::Null | Content::List { .. } | Content::Struct(_) => {}
        }
        if self.options.descending {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    fn flip_sign(&self, number: &mut [u8]) {
        let Some(first) = number.first_mut() else {
            return;
        };
        let is_negative = *first & 0x80 != 0;
        match self.sign {
            Sign::None => {}
            Sign::Float if is_negative => number.iter_mut().for_each(|byte| *byte = !*byte),
            Sign::Float | Sign::Flipped => *first ^= 0x80,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray,
        UInt32Array,
    };
    use datafusion::arrow::row::{RowConverter, SortField};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The order that our bytes and those of Arrow give.
    fn orders(array: &ArrayRef, options: SortOptions) -> (Vec<usize>, Vec<usize>) {
        let writer = OrderedWriter::new(array, options);
        let bytes = |row: usize| {
            let mut out = Vec::new();
            writer.write(row, &mut out);
            out
        };
        let field = SortField::new_with_options(array.data_type().clone(), options);
        let converter = RowConverter::new(vec![field]).unwrap();
        let theirs = converter
            .convert_columns(std::slice::from_ref(array))
            .unwrap();
        let mut ours: Vec<usize> = (0..array.len()).collect();
        let mut expected = ours.clone();
        ours.sort_by_key(|row| bytes(*row));
        expected.sort_by(|a, b| theirs.row(*a).cmp(&theirs.row(*b)));
        (ours, expected)
    }

    fn arrays() -> impl Strategy<Value = ArrayRef> {
        let float = prop_oneof![any::<f64>(), Just(-0.0), Just(0.0), Just(f64::NAN)];
        let bytes = prop::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()],
            0..4,
        );
        let text = "[a-c\u{0}é]{0,3}";
        fn some<T: std::fmt::Debug>(
            of: impl Strategy<Value = T>,
        ) -> impl Strategy<Value = Vec<Option<T>>> {
            prop::collection::vec(prop::option::weighted(0.9, of), 0..40)
        }
        prop_oneof![
            some(any::<i64>()).prop_map(|v| Arc::new(Int64Array::from(v)) as ArrayRef),
            some(-3_i64..3).prop_map(|v| Arc::new(Int64Array::from(v)) as ArrayRef),
            some(any::<u32>()).prop_map(|v| Arc::new(UInt32Array::from(v)) as ArrayRef),
            some(float).prop_map(|v| Arc::new(Float64Array::from(v)) as ArrayRef),
            some(any::<bool>()).prop_map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef),
            some(-9_i128..9).prop_map(|v| Arc::new(Decimal128Array::from(v)) as ArrayRef),
            some(text).prop_map(|v| Arc::new(StringArray::from(v)) as ArrayRef),
            some(bytes).prop_map(|v| {
                let all: BinaryArray = v.iter().map(Option::as_deref).collect();
                Arc::new(all) as ArrayRef
            }),
        ]
    }

    proptest! {
        #[test]
        fn bytes_have_the_order_of_the_values(
            array in arrays(),
            descending in any::<bool>(),
            nulls_first in any::<bool>(),
            cut in 0_usize..5,
        ) {
            let array = array.slice(cut.min(array.len()), array.len().saturating_sub(cut));
            let (ours, expected) = orders(&array, SortOptions { descending, nulls_first });
            prop_assert_eq!(ours, expected);
        }
    }
}
