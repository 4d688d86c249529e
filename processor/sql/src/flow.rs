//! What an operator can reach while rows flow: state, timers, the output, and the operators behind.

use crate::operator::Operator;
use crate::rows::{NO_RECORD, Rows};
use datafusion::arrow::array::{Array, BinaryArray};
use flowstone_processor::{Bulk, Cause, Context, ProcessError, TimeKind, Timer};
use flowstone_wire::Header;

/// The result of everything that happens while rows flow.
pub(crate) type Result<T> = std::result::Result<T, ProcessError>;

/// An operator and the one behind it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) operator: Operator,
    /// Its number is higher; the last one has none behind it.
    pub(crate) next: Option<usize>,
    /// Which input of that one it is.
    pub(crate) port: usize,
    /// What its state is found by: its place among those that have some, so that it stays the same where
    /// filters and columns change.
    pub(crate) id: usize,
}

impl Node {
    pub(crate) fn new(operator: Operator, next: Option<usize>) -> Self {
        Self {
            operator,
            next,
            port: 0,
            id: 0,
        }
    }
}

/// A failure that no second attempt mends.
pub(crate) fn reject(error: impl std::fmt::Display) -> ProcessError {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    ProcessError::Reject(text.strip_prefix("Arrow error: ").unwrap_or(text).into())
}

/// The unit of work: records, or a timer.
pub(crate) struct Flow<'a, 'c> {
    pub(crate) ctx: &'a mut Context<'c>,
    /// The records, if it is not a timer.
    pub(crate) bulk: Option<Bulk<'a>>,
    /// What a timer goes back to.
    pub(crate) cause: Cause,
    /// The records are of an exchange: these are the keys of those that their rows come from.
    pub(crate) keys: Option<&'a BinaryArray>,
    /// The record of the last row that was late: of rows that come from one record, as those of an
    /// unfolded list do, the first one tells.
    pub(crate) late: Option<u32>,
}

impl<'a> Flow<'a, '_> {
    /// The key of the record that a row comes from.
    pub(crate) fn key_of(&self, row: u32) -> Option<&'a [u8]> {
        let bulk = self.bulk.as_ref().filter(|_| row != NO_RECORD)?;
        match self.keys {
            Some(keys) => {
                let row = row as usize;
                keys.is_valid(row).then(|| keys.value(row))
            }
            None => bulk.records[row as usize].view.key,
        }
    }

    /// What the outputs of a row go back to.
    pub(crate) fn cause_of(&self, row: u32) -> Cause {
        match self.bulk.as_ref().filter(|_| row != NO_RECORD) {
            Some(bulk) => {
                let record = &bulk.records[row as usize];
                Cause {
                    partition: record.partition,
                    offset: record.view.offset,
                    rekeyed: false,
                }
            }
            None => self.cause,
        }
    }

    /// Sets an event timer; `key` begins with the number of the operator.
    pub(crate) fn set_timer(&mut self, at_ms: i64, key: &[u8]) {
        self.ctx.set_timer(event_timer(at_ms, key));
    }

    /// Sets a timer that goes by the clock; `key` begins with the number of the operator.
    pub(crate) fn set_clock_timer(&mut self, at_ms: i64, key: &[u8]) {
        self.ctx.set_timer(Timer {
            kind: TimeKind::Processing,
            ..event_timer(at_ms, key)
        });
    }

    /// Removes an event timer.
    pub(crate) fn cancel_timer(&mut self, at_ms: i64, key: &[u8]) {
        self.ctx.cancel_timer(event_timer(at_ms, key));
    }

    /// Gives a row that came after its window was closed to the late ones: the record that it comes
    /// from, or what `row` says where it comes from a timer or an exchange.
    pub(crate) fn late(&mut self, rows: &Rows, at: usize, (start, end): (i64, i64)) {
        let window = format!("{start}..{end}");
        let note = Header {
            name: b"x-late-window",
            value: Some(window.as_bytes()),
        };
        let cause_row = rows.marks.causes.get(at).copied().unwrap_or(NO_RECORD);
        let cause = self.cause_of(cause_row);
        let is_original = cause_row != NO_RECORD && self.keys.is_none();
        match self.bulk.as_ref().filter(|_| is_original) {
            Some(_) if self.late == Some(cause_row) => {}
            Some(bulk) => {
                self.late = Some(cause_row);
                let view = bulk.records[cause_row as usize].view;
                let mut headers: Vec<Header<'_>> = view.headers().collect();
                headers.push(note);
                self.ctx
                    .emit_late_for(cause, view.timestamp, view.key, view.value, &headers);
            }
            None => {
                let mut value = Vec::new();
                crate::format::encode::Json::new(&rows.batch).write(at, &mut value);
                let time_ms = rows.marks.times_ms[at];
                let key = self.key_of(cause_row);
                let cause = Cause {
                    rekeyed: cause.rekeyed || key.is_some(),
                    ..cause
                };
                self.ctx
                    .emit_late_for(cause, time_ms, key, Some(&value), &[note]);
            }
        }
    }
}

fn event_timer(at_ms: i64, key: &[u8]) -> Timer {
    Timer {
        kind: TimeKind::Event,
        at_ms,
        key: key.to_vec(),
    }
}

/// The operators behind one.
pub(crate) struct Down<'n> {
    next: Option<usize>,
    port: usize,
    /// Number of the first of `nodes`.
    first: usize,
    nodes: &'n mut [Node],
}

impl<'n> Down<'n> {
    /// All operators of a query; what is pushed goes to number `to`.
    pub(crate) fn all(nodes: &'n mut [Node], to: usize) -> Self {
        Self::at(nodes, (to, 0))
    }

    /// The same; what is pushed goes to one of its inputs.
    pub(crate) fn at(nodes: &'n mut [Node], (to, port): (usize, usize)) -> Self {
        Self {
            next: Some(to),
            port,
            first: 0,
            nodes,
        }
    }

    /// The operator that is next, and what is behind it.
    pub(crate) fn split(&mut self) -> Option<(usize, &mut Operator, Down<'_>)> {
        let number = self.next?;
        let (front, rest) = self.nodes.split_at_mut(number - self.first + 1);
        let node = front.last_mut()?;
        let down = Down {
            next: node.next,
            port: node.port,
            first: number + 1,
            nodes: rest,
        };
        Some((node.id, &mut node.operator, down))
    }

    /// Gives rows to the next operator.
    pub(crate) fn push(&mut self, rows: Rows, flow: &mut Flow<'_, '_>) -> Result<()> {
        let (port, Some(number)) = (self.port, self.next) else {
            return Ok(());
        };
        let Some((id, operator, mut down)) = self.split() else {
            return Ok(());
        };
        // Where it fails it stays the one at work, so that it is known which one did.
        let before = flow.ctx.enter(number, rows.len());
        operator.push((id, port), rows, flow, &mut down)?;
        flow.ctx.leave(before);
        Ok(())
    }
}
