//! What the filters of a query say about where to read.
//!
//! Always a superset: a filter that is not understood restricts nothing, and DataFusion holds the
//! rows against the filters once more.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use flowstone_sql::Stream;
use flowstone_sql::statement::ColumnSource;

/// Numbers from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: i64,
    pub(crate) max: i64,
}

/// Where the records can be that a filter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restriction {
    /// Timestamps, milliseconds since 1970.
    pub(crate) timestamp: Range,
    /// Numbers of partitions, as rows show them.
    pub(crate) partition: Range,
    pub(crate) offset: Range,
}

impl Range {
    const ALL: Self = Self {
        min: i64::MIN,
        max: i64::MAX,
    };

    pub(crate) fn contains(self, number: i64) -> bool {
        (self.min..=self.max).contains(&number)
    }

    fn and(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    fn or(self, other: Self) -> Self {
        if self.min > self.max {
            return other;
        }
        if other.min > other.max {
            return self;
        }
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Restriction {
    pub(crate) const NONE: Self = Self {
        timestamp: Range::ALL,
        partition: Range::ALL,
        offset: Range::ALL,
    };

    /// What all of these filters together say.
    pub(crate) fn of_all(filters: &[Expr], stream: &Stream) -> Self {
        let each = filters.iter().map(|f| Self::of(f, stream));
        each.fold(Self::NONE, |all, one| all.with(one, Range::and))
    }

    /// What a filter says.
    pub(crate) fn of(filter: &Expr, stream: &Stream) -> Self {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => Self::of(left, stream).with(Self::of(right, stream), Range::and),
                Operator::Or => Self::of(left, stream).with(Self::of(right, stream), Range::or),
                op => match (bound(right), bound(left)) {
                    (Some(bound), _) => Self::on(left, stream, range(*op, bound)),
                    (_, Some(bound)) => {
                        let op = op.swap();
                        Self::on(right, stream, op.and_then(|op| range(op, bound)))
                    }
                    _ => Self::NONE,
                },
            },
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => match (bound(low), bound(high)) {
                (Some(low), Some(high)) => {
                    let range = Range {
                        min: low.ceil,
                        max: high.floor,
                    };
                    Self::on(expr, stream, Some(range))
                }
                _ => Self::NONE,
            },
            Expr::InList(list) if !list.negated => {
                let bounds: Option<Vec<Bound>> = list.list.iter().map(bound).collect();
                let bounds = bounds.unwrap_or_default();
                let ends = bounds.iter().map(|b| b.floor).min();
                let ends = ends.zip(bounds.iter().map(|b| b.ceil).max());
                let range = ends.map(|(min, max)| Range { min, max });
                Self::on(&list.expr, stream, range)
            }
            _ => Self::NONE,
        }
    }

    /// A restriction of one column, if it shows something that reads can be restricted by.
    fn on(expr: &Expr, stream: &Stream, range: Option<Range>) -> Self {
        let (Some(column), Some(range)) = (column(expr), range) else {
            return Self::NONE;
        };
        let mut restriction = Self::NONE;
        let shown = stream.columns.iter().find(|c| c.name == column.name);
        // A number that is cast to a time counts in another unit.
        let is_cast = matches!(expr, Expr::Cast(_));
        let shown = shown.filter(|c| !is_cast || c.source == ColumnSource::Timestamp);
        match shown.map(|c| &c.source) {
            Some(ColumnSource::Timestamp) => restriction.timestamp = range,
            Some(ColumnSource::Partition | ColumnSource::PartitionIndex(_)) => {
                restriction.partition = range;
            }
            Some(ColumnSource::Offset) => restriction.offset = range,
            _ => {}
        }
        restriction
    }

    fn with(self, other: Self, join: fn(Range, Range) -> Range) -> Self {
        Self {
            timestamp: join(self.timestamp, other.timestamp),
            partition: join(self.partition, other.partition),
            offset: join(self.offset, other.offset),
        }
    }
}

/// The numbers for which `number op bound` may hold.
fn range(op: Operator, Bound { floor, ceil }: Bound) -> Option<Range> {
    let (min, max) = match op {
        Operator::Eq => (floor, ceil),
        Operator::Lt => (i64::MIN, ceil.saturating_sub(1)),
        Operator::LtEq => (i64::MIN, floor),
        Operator::Gt => (floor.saturating_add(1), i64::MAX),
        Operator::GtEq => (ceil, i64::MAX),
        _ => return None,
    };
    Some(Range { min, max })
}

/// A constant, between two whole numbers where it is none: times are compared in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Bound {
    floor: i64,
    ceil: i64,
}

fn bound(expr: &Expr) -> Option<Bound> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    let divided = |value: i64, by: i64| Bound {
        floor: value.div_euclid(by),
        ceil: value.div_euclid(by) + i64::from(value.rem_euclid(by) > 0),
    };
    match value {
        ScalarValue::Int64(n) => n.map(|n| divided(n, 1)),
        ScalarValue::TimestampMillisecond(n, zone) if is_utc(zone.as_deref()) => {
            n.map(|n| divided(n, 1))
        }
        ScalarValue::TimestampMicrosecond(n, zone) if is_utc(zone.as_deref()) => {
            n.map(|n| divided(n, 1_000))
        }
        ScalarValue::TimestampNanosecond(n, zone) if is_utc(zone.as_deref()) => {
            n.map(|n| divided(n, 1_000_000))
        }
        _ => None,
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("+00:00" | "UTC" | "Z"))
}

/// The column that an expression shows as it is, in whatever unit of time.
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => match cast.field.data_type() {
            DataType::Timestamp(unit, zone)
                if *unit != TimeUnit::Second && is_utc(zone.as_deref()) =>
            {
                column(&cast.expr)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
