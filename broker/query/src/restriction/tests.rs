//! Which expressions restrict what is read, and how far.

use super::*;
use datafusion::logical_expr::{col, lit};
use flowstone_sql::Stream;

fn time(ms: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMillisecond(Some(ms), None), None)
}

fn of(filter: &Expr) -> Restriction {
    Restriction::of(filter, &Stream::of_topic("t", &[]))
}

fn range_of(min: i64, max: i64) -> Range {
    Range { min, max }
}

#[test]
fn comparisons_of_what_stands_beside_the_value_restrict() {
    assert_eq!(
        of(&col("offset").gt_eq(lit(5_i64))).offset,
        range_of(5, i64::MAX)
    );
    assert_eq!(
        of(&lit(5_i64).gt(col("offset"))).offset,
        range_of(i64::MIN, 4)
    );
    assert_eq!(
        of(&col("partition").eq(lit(2_i64))).partition,
        range_of(2, 2)
    );
    assert_eq!(
        of(&col("timestamp").between(time(10), time(20))).timestamp,
        range_of(10, 20)
    );
    let list = col("partition").in_list(vec![lit(7_i64), lit(3_i64)], false);
    assert_eq!(of(&list).partition, range_of(3, 7));
}

#[test]
fn and_narrows_and_or_widens() {
    let both = col("offset")
        .gt(lit(1_i64))
        .and(col("offset").lt(lit(9_i64)));
    assert_eq!(of(&both).offset, range_of(2, 8));
    let either = col("offset")
        .eq(lit(1_i64))
        .or(col("offset").eq(lit(9_i64)));
    assert_eq!(of(&either).offset, range_of(1, 9));
    let other = col("offset").eq(lit(1_i64)).or(col("value").eq(lit("x")));
    assert_eq!(
        of(&other),
        Restriction::NONE,
        "the other side may be anywhere"
    );
}

#[test]
fn what_is_not_understood_restricts_nothing() {
    for filter in [
        col("value").eq(lit("x")),
        col("offset").not_eq(lit(1_i64)),
        col("offset").eq(col("partition")),
        (col("offset") % lit(2_i64)).eq(lit(0_i64)),
        col("partition").in_list(vec![lit(7_i64)], true),
        col("offset").gt(lit(1_i64)).is_not_true(),
    ] {
        assert_eq!(of(&filter), Restriction::NONE, "{filter}");
    }
}

#[test]
fn bounds_beyond_all_numbers_hold() {
    assert_eq!(of(&col("offset").gt(lit(i64::MAX))).offset.min, i64::MAX);
    assert_eq!(of(&col("offset").lt(lit(i64::MIN))).offset.max, i64::MIN);
}

#[test]
fn times_of_other_units_restrict_where_the_zone_is_the_same() {
    use datafusion::logical_expr::cast;
    let nanos = |ns: i64, zone: Option<&str>| {
        let value = ScalarValue::TimestampNanosecond(Some(ns), zone.map(Into::into));
        Expr::Literal(value, None)
    };
    let shown = |zone: Option<&str>| {
        let unit = DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
        cast(col("timestamp"), unit)
    };
    for (filter, range) in [
        (
            shown(None).gt_eq(nanos(1_500_000, None)),
            range_of(2, i64::MAX),
        ),
        (
            shown(None).gt(nanos(1_500_000, None)),
            range_of(2, i64::MAX),
        ),
        (
            shown(None).gt(nanos(1_000_000, None)),
            range_of(2, i64::MAX),
        ),
        (
            shown(Some("+00:00")).lt(nanos(1_500_000, Some("+00:00"))),
            range_of(i64::MIN, 1),
        ),
        (
            shown(None).lt_eq(nanos(-1_500_000, None)),
            range_of(i64::MIN, -2),
        ),
    ] {
        assert_eq!(of(&filter).timestamp, range, "{filter}");
    }
    let elsewhere = shown(Some("+02:00")).lt(nanos(0, Some("+02:00")));
    assert_eq!(of(&elsewhere), Restriction::NONE);
}
