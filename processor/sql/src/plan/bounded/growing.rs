//! A function that looks at what it would make before it makes it.

use super::made::{Growth, made};
use super::size;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// Most bytes that a function makes of the rows of one batch.
pub(super) const MADE_BYTES_MAX: u64 = 64 << 20;
/// Most pairs of characters that are compared for the rows of one batch: a second, about.
const COMPARED_MAX: u64 = 1 << 30;

/// Functions whose results may be larger than what they are made of, by their own names. All others make about as
/// much as they are given, or a few bytes; tests name each.
const GROWING: [(&str, Growth); 26] = [
    ("||", Growth::Sum),
    ("concat", Growth::Sum),
    ("overlay", Growth::Sum),
    ("make_array", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_union", Growth::Sum),
    ("arrays_zip", Growth::Sum),
    ("struct", Growth::Sum),
    ("named_struct", Growth::Sum),
    ("map", Growth::Sum),
    ("concat_ws", Growth::Between),
    ("replace", Growth::Replaced),
    ("translate", Growth::Sum),
    ("regexp_replace", Growth::Matched),
    ("regexp_match", Growth::Groups),
    ("array_to_string", Growth::Elements),
    ("array_replace", Growth::Swapped),
    ("array_replace_n", Growth::Swapped),
    ("array_replace_all", Growth::Swapped),
    ("lpad", Growth::Filled),
    ("rpad", Growth::Filled),
    ("encode", Growth::Digits),
    ("decode", Growth::Sum),
    ("levenshtein", Growth::Compared),
];

fn growth(name: &str) -> Option<Growth> {
    let found = GROWING.iter().find(|(n, _)| *n == name);
    found.map(|(_, growth)| *growth)
}

/// Whether the result of a function may be larger than what it is made of.
pub(super) fn grows(name: &str) -> bool {
    growth(name).is_some()
}

/// Another function, within bounds. It is not simplified: what DataFusion puts in its place would have none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Growing {
    inner: Arc<ScalarUDF>,
}

impl Growing {
    pub(super) fn around(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        if inner.inner().is::<Self>() {
            return inner;
        }
        Arc::new(ScalarUDF::new_from_impl(Self { inner }))
    }

    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let Some(growth) = growth(self.name()) else {
            return Ok(());
        };
        let made = made(growth, &args.args, args.number_rows.max(1))?;
        if growth == Growth::Compared {
            return match made > COMPARED_MAX {
                true => exec_err!("{} of texts that are too long", self.name()),
                false => Ok(()),
            };
        }
        self.within(made)
    }

    fn within(&self, made: u64) -> Result<()> {
        if made > MADE_BYTES_MAX {
            return exec_err!(
                "{} would make up to {made} bytes, over the limit of {MADE_BYTES_MAX}",
                self.name()
            );
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Growing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        let rows = args.number_rows.max(1);
        let made = self.inner.invoke_with_args(args)?;
        // What was foreseen was an estimate where values are of types that were not thought of.
        self.within(size::of_value(&made, rows)?)?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LEFT_OUT;
    use super::grows;
    use datafusion::execution::SessionStateDefaults;

    /// Functions that make about as much as they are given, or a few bytes. One that a new version of DataFusion brings
    /// is in neither list: somebody has to look at how its result grows.
    const STEADY: &str = "
        abs acos acosh array_any_value array_add array_avg array_compact array_dims array_distance array_distinct
        array_element array_except array_first array_has array_has_all array_has_any array_intersect array_length array_max
        array_min array_ndims array_normalize array_pop_back array_pop_front array_position array_positions array_product
        array_remove array_remove_all array_remove_n array_reverse array_scale array_slice array_sort array_subtract
        array_sum arrow_cast arrow_field arrow_metadata arrow_try_cast arrow_typeof ascii asin asinh atan atan2 atanh
        bit_length btrim cardinality cast_to_type cbrt ceil character_length chr coalesce contains cos cosh
        cosine_distance cot current_date current_time date_bin date_part date_trunc degrees digest empty ends_with exp
        factorial file_row_index find_in_set flatten floor from_unixtime gcd get_field greatest initcap inner_product
        input_file_name isnan iszero lcm least left ln log log10 log2 lower ltrim make_date make_time map_entries map_extract
        map_keys map_values md5 nanvl now nullif nvl nvl2 octet_length pi power radians random regexp_count regexp_instr
        regexp_like reverse right round rtrim sha224 sha256 sha384 sha512 signum sin sinh split_part sqrt starts_with
        string_to_array strpos substr substr_index tan tanh to_char to_date to_hex to_local_time to_time to_timestamp
        to_timestamp_micros to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime trunc try_cast_to_type
        union_extract union_tag upper uuid version with_metadata";

    #[test]
    fn how_the_result_of_each_function_grows_is_known() {
        let functions = SessionStateDefaults::default_scalar_functions();
        let steady: Vec<&str> = STEADY.split_whitespace().collect();
        let unknown = functions.iter().map(|f| f.name()).filter(|name| {
            let known = grows(name) || LEFT_OUT.contains(name);
            known == steady.contains(name)
        });
        let unknown: Vec<&str> = unknown.collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
