//! Closing a window: its groups are given out and forgotten.

use super::Aggregate;
use crate::cell::Reader;
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::{from_ordered, prefix};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, TimestampMillisecondArray};
use std::sync::Arc;

/// Bytes of `number | end | start`.
pub(super) const KEY_BYTES: usize = 17;
/// Most groups that are given out at once; the rest of the window follows in units of its own.
const GROUPS_MAX: usize = 1024;

/// What is stored of a window whose timer has come, `most` groups of it; for the rest the timer is set
/// again.
pub(in crate::operator) fn groups_of_window(
    number: usize,
    (at_ms, key): (i64, &[u8]),
    most: usize,
    flow: &mut Flow<'_, '_>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut window = vec![prefix(number)];
    window.extend_from_slice(key);
    let stored = flow.ctx.scan(&window).take(most + 1);
    let mut stored: Vec<_> = stored.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    if stored.len() > most {
        stored.truncate(most);
        flow.set_timer(at_ms, &window);
    }
    stored
}

impl Aggregate {
    pub(crate) fn close(
        &self,
        number: usize,
        at_ms: i64,
        key: &[u8],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        if let Some(ttl) = self.ttl {
            return self.expire(ttl, (number, at_ms), key, flow);
        }
        let stored = groups_of_window(number, (at_ms, key), GROUPS_MAX, flow);
        if !self.changes {
            let rows = self.closed(at_ms, &stored)?;
            down.push(rows, flow)?;
        }
        for (key, _) in &stored {
            flow.ctx.delete(key);
        }
        Ok(())
    }

    /// The results of stored groups.
    fn closed(&self, at_ms: i64, stored: &[(Vec<u8>, Vec<u8>)]) -> Result<Rows> {
        let damaged = || reject("the stored key of a group is cut off or of another plan");
        let values = self.columns.iter().zip(self.schema.fields());
        let mut readers: Vec<Reader> = values
            .filter(|(c, _)| matches!(c, super::GroupColumn::Value(_)))
            .map(|(_, field)| Reader::new(field.data_type()))
            .collect();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (key, _) in stored {
            let mut rest = key.get(1..).ok_or_else(damaged)?;
            ends.push(take_time(&mut rest).ok_or_else(damaged)?);
            starts.push(take_time(&mut rest).ok_or_else(damaged)?);
            for reader in &mut readers {
                reader.read(&mut rest).ok_or_else(damaged)?;
            }
        }
        let values = readers.into_iter().map(|r| r.finish().map_err(reject));
        let values = values.collect::<Result<Vec<_>>>()?;
        let mut accumulators = self.aggregates.start()?;
        let states: Vec<(usize, &[u8])> = stored
            .iter()
            .enumerate()
            .map(|(n, (_, state))| (n, &state[..]))
            .collect();
        accumulators.merge(&states, stored.len())?;
        let count = stored.len();
        let marks = Marks {
            times_ms: ends.iter().map(|end| end.saturating_sub(1)).collect(),
            // What is behind has not seen its own timers of this time.
            watermarks_ms: vec![at_ms.saturating_sub(1); count],
            causes: vec![NO_RECORD; count],
            groups: Vec::new(),
            keys: Some(crate::format::encode::keys(&values, count)),
        };
        let column =
            |times: Vec<i64>| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(times)) };
        let bounds = Some((column(starts), column(ends)));
        let batch = self.batch(values, bounds, accumulators.results()?, count)?;
        Ok(Rows {
            batch,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        })
    }
}

/// Takes a time from the front of a key.
fn take_time(bytes: &mut &[u8]) -> Option<i64> {
    let (time, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(from_ordered(*time))
}
