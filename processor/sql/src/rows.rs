//! Rows on their way through the operators: columns, and what is known of each row beside them.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, OffsetSizeTrait, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{concat_batches, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use std::sync::Arc;

/// A cause that is no record of the input: a timer.
pub(crate) const NO_RECORD: u32 = u32::MAX;

/// What a row means to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is added.
    Insert,
    /// It was part of the result until now. Rows of this kind are followed by those that take their
    /// place, in a piece of their own.
    Before,
    /// It is part of the result from now on.
    After,
}

/// What is known of each row beside its columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Event time, milliseconds since 1970.
    pub(crate) times_ms: Vec<i64>,
    /// The watermark before the row.
    pub(crate) watermarks_ms: Vec<i64>,
    /// The record that the row comes from: an index into the records of the unit.
    pub(crate) causes: Vec<u32>,
    /// Which rows of `Before` and `After` belong together.
    pub(crate) groups: Vec<u32>,
    /// The key of the resulting record; without it that of the causing record.
    pub(crate) keys: Option<BinaryArray>,
}

/// Some rows.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    pub(crate) marks: Arc<Marks>,
    pub(crate) change: Change,
    /// Whether a row that is late here is late altogether, and not only for one of its windows.
    pub(crate) report_late: bool,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Bytes of the largest row, at most.
    pub(crate) fn widest(&self) -> usize {
        self.batch.columns().iter().map(|c| widest(c)).sum()
    }

    /// The same rows with other columns.
    pub(crate) fn with_batch(&self, batch: RecordBatch) -> Self {
        Self {
            batch,
            ..self.clone()
        }
    }

    /// These rows and others of the same columns behind them, as rows that are added.
    pub(crate) fn followed_by(&self, behind: &Self) -> Result<Self> {
        let batch = concat_batches(&self.batch.schema(), [&self.batch, &behind.batch])?;
        let both = |of: fn(&Marks) -> &[i64]| [of(&self.marks), of(&behind.marks)].concat();
        let causes = [self, behind].map(|rows| {
            let cause = |row| rows.marks.causes.get(row).copied().unwrap_or(NO_RECORD);
            (0..rows.len()).map(cause).collect::<Vec<_>>()
        });
        let marks = Marks {
            times_ms: both(|m| &m.times_ms),
            watermarks_ms: both(|m| &m.watermarks_ms),
            causes: causes.concat(),
            groups: Vec::new(),
            keys: None,
        };
        Ok(Self {
            batch,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: self.report_late,
        })
    }

    /// Only these rows, in this order.
    pub(crate) fn pick(&self, rows: &UInt32Array) -> Result<Self> {
        let pick = |c: &ArrayRef| take(c, rows, None);
        let columns = self
            .batch
            .columns()
            .iter()
            .map(pick)
            .collect::<std::result::Result<_, _>>()?;
        let options =
            datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.batch.schema(), columns, &options)?;
        Ok(Self {
            batch,
            marks: Arc::new(self.marks.pick(rows)?),
            ..*self
        })
    }
}

impl Marks {
    fn pick(&self, rows: &UInt32Array) -> Result<Self> {
        fn some<T: Copy>(from: &[T], rows: &UInt32Array) -> Vec<T> {
            if from.is_empty() {
                return Vec::new();
            }
            rows.values()
                .iter()
                .map(|row| from[*row as usize])
                .collect()
        }
        let keys = match &self.keys {
            Some(keys) => Some(BinaryArray::from(take(keys, rows, None)?.to_data())),
            None => None,
        };
        Ok(Self {
            times_ms: some(&self.times_ms, rows),
            watermarks_ms: some(&self.watermarks_ms, rows),
            causes: some(&self.causes, rows),
            groups: some(&self.groups, rows),
            keys,
        })
    }
}

/// Bytes of the largest value of a column, at most.
fn widest(column: &dyn Array) -> usize {
    fn most<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
        let lengths = offsets.windows(2).map(|w| (w[1] - w[0]).as_usize());
        lengths.max().unwrap_or(0)
    }
    match column.data_type() {
        DataType::Utf8 => most(column.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => most(column.as_string::<i64>().value_offsets()),
        DataType::Binary => most(column.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => most(column.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => column.as_string_view().lengths().max().unwrap_or(0) as usize,
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            most(list.value_offsets()).saturating_mul(widest(list.values()).max(1))
        }
        DataType::Struct(_) => {
            let columns = column.as_struct().columns().iter();
            columns.map(|c| widest(c)).sum()
        }
        DataType::Boolean | DataType::Null => 1,
        other => match other.primitive_width() {
            Some(width) => width,
            // It is not known how large one is: none is larger than all.
            None => column.get_array_memory_size(),
        },
    }
}
