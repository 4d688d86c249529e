//! A function that looks at what it would make before it makes it.

use super::made::{Growth, made};
use super::size;
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// Most bytes that a function makes of the rows of one batch.
pub(super) const MADE_BYTES_MAX: u64 = 64 << 20;
/// Most bytes that a function makes of constants, which may stand in every row.
const CONSTANT_BYTES_MAX: u64 = 64 << 10;
/// Most pairs of characters that are compared for the rows of one batch: part of a second.
const COMPARED_MAX: u64 = 1 << 28;

/// Functions whose results may be larger than what they are made of, by their own names. All others make about as
/// much as they are given, or a few bytes; tests name each.
const GROWING: [(&str, Growth); 28] = [
    ("||", Growth::Sum),
    ("concat", Growth::Sum),
    ("overlay", Growth::Sum),
    ("make_array", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_union", Growth::Sum),
    ("arrays_zip", Growth::Zipped),
    ("struct", Growth::Sum),
    ("named_struct", Growth::Sum),
    ("map", Growth::Sum),
    ("concat_ws", Growth::Between),
    ("replace", Growth::Replaced),
    ("translate", Growth::Times(4)),
    ("regexp_replace", Growth::Matched),
    ("regexp_match", Growth::Groups),
    ("array_to_string", Growth::Elements),
    ("array_replace", Growth::Swapped),
    ("array_replace_n", Growth::Swapped),
    ("array_replace_all", Growth::Swapped),
    ("lpad", Growth::Filled),
    ("rpad", Growth::Filled),
    ("encode", Growth::Times(2)),
    ("string_to_array", Growth::Times(16)),
    ("to_char", Growth::Written(16)),
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

    /// Whether that much may be made, as far as it can be told before.
    fn check(&self, growth: Growth, args: &ScalarFunctionArgs, most: u64) -> Result<()> {
        let made = made(growth, &args.args, args.number_rows.max(1))?;
        match growth {
            Growth::Compared if made > COMPARED_MAX => {
                exec_err!("{} of texts that are too long", self.name())
            }
            Growth::Compared => Ok(()),
            _ => self.within(made, most),
        }
    }

    fn within(&self, made: u64, most: u64) -> Result<()> {
        if made > most {
            return exec_err!(
                "{} would make up to {made} bytes, over the limit of {most}",
                self.name()
            );
        }
        Ok(())
    }

    /// What would be made was an estimate, far too high for some: of fewer rows at a time it is less.
    fn by_halves(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let half = |from: usize, rows: usize| {
            let part = |arg: &ColumnarValue| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
                scalar => scalar.clone(),
            };
            let part = ScalarFunctionArgs {
                args: args.args.iter().map(part).collect(),
                number_rows: rows,
                ..args.clone()
            };
            self.invoke_with_args(part)?.into_array(rows)
        };
        let (first, second) = (half(0, rows / 2)?, half(rows / 2, rows - rows / 2)?);
        self.within(size::of(&first) + size::of(&second), MADE_BYTES_MAX)?;
        Ok(ColumnarValue::Array(concat(&[&first, &second])?))
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
        let Some(growth) = growth(self.name()) else {
            return self.inner.invoke_with_args(args);
        };
        let is_constant = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        let constant = args.args.iter().all(is_constant);
        let most = if constant {
            CONSTANT_BYTES_MAX
        } else {
            MADE_BYTES_MAX
        };
        match self.check(growth, &args, most) {
            Ok(()) => {}
            Err(_) if !constant && args.number_rows > 1 && growth != Growth::Compared => {
                return self.by_halves(&args);
            }
            Err(error) => return Err(error),
        }
        let made = self.inner.invoke_with_args(args)?;
        // What was foreseen was an estimate where values are of types that were not thought of.
        self.within(size::of_value(&made, 1)?, most)?;
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
        bit_length btrim cardinality  cbrt ceil character_length chr coalesce contains cos cosh
        cosine_distance cot current_date current_time date_bin date_part date_trunc degrees digest empty ends_with exp
        factorial file_row_index find_in_set flatten floor from_unixtime gcd get_field greatest initcap inner_product
        input_file_name isnan iszero lcm least left ln log log10 log2 lower ltrim make_date make_time map_entries map_extract
        map_keys map_values md5 nanvl now nullif nvl nvl2 octet_length pi power radians random regexp_count regexp_instr
        regexp_like reverse right round rtrim sha224 sha256 sha384 sha512 signum sin sinh split_part sqrt starts_with
         strpos substr substr_index tan tanh  to_date to_hex to_local_time to_time to_timestamp
        to_timestamp_micros to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime trunc
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
