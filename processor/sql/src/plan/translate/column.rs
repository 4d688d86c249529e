//! What is known of columns beside their types, on the way through a plan.

use super::unaliased;
use crate::plan::WindowKind;
use crate::statement::ColumnSource;
use crate::stream::Stream;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::Expr;

/// What a column stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// It is event time: watermarks speak of it.
    pub(super) time: bool,
    /// It is the key of the record: equal ones lie in one partition.
    pub(super) key: bool,
    /// It is the key of the record, of one of several streams: equal ones lie in partitions of one number where these
    /// have equally many.
    pub(super) key_of_one: bool,
    /// It is the primary key of a table.
    pub(super) primary: bool,
    /// It is the start of a window that is not grouped yet.
    pub(super) start: bool,
    /// It is the end of one.
    pub(super) end: bool,
    /// It is the start of a window that was grouped.
    pub(super) began: bool,
    /// It is the end of one.
    pub(super) ended: bool,
}

/// What the columns of some rows stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub(super) meanings: Vec<Meaning>,
    /// Windows of the rows that are not grouped yet.
    pub(super) window: Option<WindowKind>,
}

impl Columns {
    pub(super) fn of_stream(stream: &Stream, columns: &[usize]) -> Self {
        let meaning = |c: &usize| Meaning {
            time: stream.watermark.is_some_and(|w| w.column == *c),
            key: stream.columns[*c].source == ColumnSource::Key,
            key_of_one: stream.columns[*c].source == ColumnSource::Key,
            primary: stream.primary_key == Some(*c),
            ..Meaning::default()
        };
        Self {
            meanings: columns.iter().map(meaning).collect(),
            window: None,
        }
    }

    /// What is left if rows of all these come together. Keys of records are keys no more: equal ones of two streams may
    /// lie in partitions of different numbers.
    pub(super) fn common<'c>(mut all: impl Iterator<Item = &'c Self>) -> Self {
        let mut common = all.next().cloned().unwrap_or_default();
        common.window = None;
        for other in all {
            for (mine, other) in common.meanings.iter_mut().zip(&other.meanings) {
                *mine = Meaning {
                    time: mine.time && other.time,
                    key_of_one: mine.key_of_one && other.key_of_one,
                    began: mine.began && other.began,
                    ended: mine.ended && other.ended,
                    ..Meaning::default()
                };
            }
        }
        common
    }

    /// The column that an expression shows unchanged.
    pub(super) fn shown(&self, expr: &Expr, schema: &DFSchema) -> Option<(usize, Meaning)> {
        let Expr::Column(column) = unaliased(expr) else {
            return None;
        };
        let at = schema.index_of_column(column).ok()?;
        Some((at, *self.meanings.get(at)?))
    }

    pub(super) fn project(&self, exprs: &[Expr], schema: &DFSchema) -> Self {
        let meaning = |e: &Expr| self.shown(e, schema).map(|(_, m)| m).unwrap_or_default();
        Self {
            meanings: exprs.iter().map(meaning).collect(),
            window: self.window,
        }
    }

    /// With the bounds of windows as two more columns.
    pub(super) fn windowed(mut self, kind: WindowKind) -> Self {
        self.meanings.push(Meaning {
            start: true,
            ..Meaning::default()
        });
        self.meanings.push(Meaning {
            end: true,
            ..Meaning::default()
        });
        self.window = Some(kind);
        self
    }

    /// A window function needs a column that watermarks speak of.
    pub(super) fn check_time(&self, at: usize, name: &str) -> Result<()> {
        if self.meanings.get(at).is_some_and(|m| m.time) {
            return Ok(());
        }
        plan_err!(
            "column '{name}' is no event time: take the one that the stream has a WATERMARK for, or \
             window_end of a grouping"
        )
    }

    /// Windows whose bounds follow from the rows of their group.
    fn in_session(&self) -> Option<&'static str> {
        match self.window {
            Some(WindowKind::Session { .. }) => Some("SESSION"),
            Some(WindowKind::Count { .. }) => Some("COUNT_WINDOW"),
            _ => None,
        }
    }

    /// The bounds of sessions and count windows are known when they are grouped, not before.
    pub(super) fn no_session(&self, what: &str) -> Result<()> {
        if let Some(function) = self.in_session()
            && self.meanings.iter().any(|m| m.start || m.end)
        {
            return plan_err!(
                "{what} over {function} before GROUP BY: the bounds of its windows are known for groups only"
            );
        }
        Ok(())
    }

    /// An expression that is computed row by row does not use the bounds of sessions.
    pub(super) fn no_session_in(&self, expr: &Expr, schema: &DFSchema) -> Result<()> {
        if self.in_session().is_none() {
            return Ok(());
        }
        for column in expr.column_refs() {
            let meaning = schema
                .index_of_column(column)
                .ok()
                .and_then(|at| self.meanings.get(at));
            if meaning.is_some_and(|m| m.start || m.end) {
                return self.no_session(&format!("'{expr}'"));
            }
        }
        Ok(())
    }
}
