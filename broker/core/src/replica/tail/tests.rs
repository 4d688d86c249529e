//! The shape of a log under appends, cuts and trims.

use super::*;

fn span(epoch: u32, first: u64, last: u64, bytes: u64) -> Span {
    Span {
        epoch: Epoch(epoch),
        first: Lsn(first),
        last: Lsn(last),
        bytes,
    }
}

fn tail(spans: &[Span]) -> Tail {
    Tail::recovered(LogId::default(), spans, 100).unwrap()
}

#[test]
fn small_spans_of_one_epoch_are_sent_together() {
    let tail = tail(&[
        span(1, 1, 2, 30),
        span(1, 3, 3, 30),
        span(2, 4, 4, 10),
        span(2, 5, 9, 200),
    ]);
    assert_eq!(tail.span_from(Lsn(1)), Some(span(1, 1, 3, 60)));
    assert_eq!(
        tail.span_from(Lsn(3)),
        Some(span(1, 3, 3, 60)),
        "too many bytes, never too few"
    );
    assert_eq!(tail.span_from(Lsn(4)), Some(span(2, 4, 4, 10)));
    assert_eq!(tail.span_from(Lsn(6)), Some(span(2, 6, 9, 200)));
    assert_eq!(tail.span_from(Lsn(10)), None);
    assert_eq!(tail.bytes_between(Lsn(3), Lsn(9)), 210);
    assert_eq!(tail.bytes_between(Lsn(9), Lsn(9)), 0);
    assert_eq!(tail.bytes_between(Lsn(0), Lsn(3)), 60);
}

#[test]
fn what_cannot_follow_is_refused() {
    let mut tail = tail(&[span(2, 1, 4, 10)]);
    for wrong in [
        span(2, 4, 6, 1),
        span(2, 6, 6, 1),
        span(1, 5, 5, 1),
        span(2, 5, 4, 1),
    ] {
        assert!(!tail.push(wrong), "{wrong:?}");
    }
    assert_eq!(tail.end(), Lsn(4));
}

#[test]
fn a_cut_and_a_trim_leave_what_is_between() {
    let mut tail = tail(&[span(1, 1, 9, 90), span(2, 10, 12, 60), span(3, 13, 13, 60)]);
    tail.cut(Lsn(11));
    assert_eq!((tail.end(), tail.durable()), (Lsn(11), Lsn(11)));
    assert_eq!(tail.span_from(Lsn(10)), Some(span(2, 10, 11, 60)));
    tail.trim(Lsn(5));
    assert_eq!(tail.span_from(Lsn(5)), None);
    assert_eq!(tail.span_from(Lsn(6)), Some(span(1, 6, 9, 90)));
    assert!(tail.push(span(3, 12, 12, 5)));
    let end = LogId {
        epoch: Epoch(3),
        lsn: Lsn(12),
    };
    assert_eq!(tail.end_id(), end);
    assert!(tail.has(end) && tail.durable() == Lsn(11));
    tail.replace(LogId {
        epoch: Epoch(4),
        lsn: Lsn(50),
    });
    assert_eq!(
        (tail.end(), tail.durable(), tail.span_from(Lsn(50))),
        (Lsn(50), Lsn(50), None)
    );
    assert!(tail.push(span(4, 51, 51, 5)));
}
