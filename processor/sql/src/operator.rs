//! The operators of a query. Rows are pushed from one to the next, down to the sink.
//!
//! An operator keeps nothing between two units except room to work in: what must last is in the
//! state and the timers of the task, under keys that begin with the number of the operator.

pub(crate) mod aggregate;
pub(crate) mod asof;
pub(crate) mod counted;
pub(crate) mod dedup;
pub(crate) mod every;
pub(crate) mod exchange;
mod filter;
pub(crate) mod join;
pub(crate) mod lookup;
mod project;
pub(crate) mod rank;
pub(crate) mod regroup;
mod session;
mod sink;
pub(crate) mod top;
mod unnest;
mod window;

pub(crate) use aggregate::accumulate::{Aggregates, Call};
pub(crate) use aggregate::{Aggregate, GroupColumn, WindowColumns};
pub(crate) use filter::Filter;
pub(crate) use project::Project;
pub(crate) use session::Session;
pub(crate) use sink::Sink;
pub(crate) use unnest::Unnest;
pub(crate) use window::Window;

use crate::flow::{Down, Flow, Result};
use crate::rows::Rows;

/// One operator.
#[derive(Clone)]
pub(crate) enum Operator {
    /// Passes rows on as they are: where several inputs meet, or a stream comes in.
    Pass,
    Filter(Filter),
    Project(Project),
    Window(Window),
    Aggregate(Box<Aggregate>),
    Session(Box<Session>),
    Rank(Box<rank::Rank>),
    Top(Box<top::Top>),
    Regroup(Box<regroup::Regroup>),
    Join(std::sync::Arc<join::Join>),
    Lookup(std::sync::Arc<lookup::Lookup>),
    Dedup(dedup::Dedup),
    AsOf(std::sync::Arc<asof::AsOf>),
    Every(every::Every),
    Counted(Box<counted::Counted>),
    Unnest(Unnest),
    Sink(Sink),
    Exchange(exchange::Exchange),
}

impl Operator {
    /// What it is, in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pass => "union",
            Self::Filter(_) => "filter",
            Self::Project(_) => "project",
            Self::Window(_) => "windows",
            Self::Aggregate(_) | Self::Regroup(_) => "group",
            Self::Session(_) => "sessions",
            Self::Rank(_) => "rank",
            Self::Top(_) => "top",
            Self::Join(_) => "join",
            Self::Lookup(_) => "lookup",
            Self::Dedup(_) => "dedup",
            Self::AsOf(_) => "asof join",
            Self::Every(_) => "every",
            Self::Counted(_) => "count windows",
            Self::Unnest(_) => "unnest",
            Self::Sink(_) => "sink",
            Self::Exchange(_) => "exchange",
        }
    }

    /// Whether it deals with each row by itself, and keeps nothing.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(
            self,
            Self::Pass
                | Self::Filter(_)
                | Self::Project(_)
                | Self::Window(_)
                | Self::Unnest(_)
                | Self::Sink(_)
                | Self::Exchange(_)
        )
    }

    /// Takes rows at one of its inputs; gives what follows from them to `down`.
    pub(crate) fn push(
        &mut self,
        (number, port): (usize, usize),
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        match self {
            Self::Pass => down.push(rows, flow),
            Self::Filter(filter) => filter.push(rows, flow, down),
            Self::Project(project) => project.push(&rows, flow, down),
            Self::Window(window) => window.push(&rows, flow, down),
            Self::Aggregate(aggregate) => aggregate.push(number, rows, flow, down),
            Self::Session(session) => session.push(number, rows, flow, down),
            Self::Rank(rank) => rank.push(number, rows, flow, down),
            Self::Top(top) => top.push(number, rows, flow, down),
            Self::Regroup(regroup) => regroup.push(number, rows, flow, down),
            Self::Join(join) => join.push(number, port, rows, flow, down),
            Self::Lookup(lookup) => lookup.push(number, port, rows, flow, down),
            Self::Dedup(dedup) => dedup.push(number, rows, flow, down),
            Self::AsOf(asof) => asof.push(number, port, rows, flow),
            Self::Every(every) => every.push(number, &rows, flow),
            Self::Counted(counted) => counted.push(number, &rows, flow, down),
            Self::Unnest(unnest) => unnest.push(&rows, flow, down),
            Self::Sink(sink) => sink.push(&rows, flow),
            Self::Exchange(exchange) => exchange.push(&rows, flow),
        }
    }

    /// Takes a timer that it has set; `key` is what stands behind the operator's number.
    pub(crate) fn on_timer(
        &mut self,
        number: usize,
        at_ms: i64,
        key: &[u8],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        match self {
            Self::Aggregate(aggregate) => aggregate.close(number, at_ms, key, flow, down),
            Self::Session(session) => session.close(number, at_ms, key, flow, down),
            Self::Rank(rank) => rank.close(number, at_ms, key, flow, down),
            Self::Join(join) => join.close(number, at_ms, key, flow, down),
            Self::AsOf(asof) => asof.close(number, at_ms, key, flow, down),
            Self::Every(every) => every.close(number, at_ms, key, flow, down),
            Self::Dedup(dedup) => {
                dedup.forget(number, key, flow);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The first byte of all keys of an operator.
pub(crate) fn prefix(number: usize) -> u8 {
    number as u8
}

/// A number as bytes that have its order.
pub(crate) fn ordered(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

/// What [`ordered`] wrote.
pub(crate) fn from_ordered(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}
