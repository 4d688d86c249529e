//! What a queue takes, what it drops, and that neither grows.

use super::*;
use flowstone_core::replica::{Header, LogId, Member, Message, Span};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, Lsn, NodeId, ShardId};

fn envelope(message: Message) -> Envelope {
    let member = |node| Member {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    Envelope {
        header: Header {
            shard: ShardId(0),
            epoch: Epoch(1),
            version: ConfigVersion(1),
            from: member(1),
            to: member(2),
        },
        message,
    }
}

fn append(bytes: u64) -> Envelope {
    let span = Span {
        epoch: Epoch(1),
        first: Lsn(1),
        last: Lsn(1),
        bytes,
    };
    envelope(Message::Append {
        span: (bytes > 0).then_some(span),
        committed: Lsn(0),
        sent_us: 0,
    })
}

fn sealed(lsn: u64) -> Envelope {
    let (epoch, lsn) = (Epoch(1), Lsn(lsn));
    envelope(Message::Sealed {
        end: LogId { epoch, lsn },
    })
}

#[test]
fn nothing_waits_for_a_peer_that_is_not_there() {
    let queue = Queue::new();
    assert_eq!(queue.push(sealed(1), Vec::new()), Sent::Unreachable);
    queue.open();
    assert_eq!(queue.push(sealed(1), Vec::new()), Sent::Queued);
    assert_eq!(queue.push(append(0), Vec::new()), Sent::Queued);
    queue.close();
    queue.open();
    assert!(queue.pop_word().is_none() && queue.pop_span().is_none());
}

#[test]
fn of_words_the_newest_stay_and_of_spans_the_first() {
    let queue = Queue::new();
    queue.open();
    for n in 0..QUEUE_WORDS as u64 + 3 {
        queue.push(sealed(n), Vec::new());
    }
    assert_eq!(queue.pop_word(), Some(sealed(3)));
    let body = Bytes::from(vec![0; 1 << 20]);
    let taken =
        (0..100).filter(|_| queue.push(append(1 << 20), vec![body.clone()]) == Sent::Queued);
    assert_eq!(taken.count(), QUEUE_BYTES >> 20);
    assert_eq!(queue.bytes(), QUEUE_BYTES);
    assert_eq!(
        queue.push(append(0), Vec::new()),
        Sent::Queued,
        "a heartbeat"
    );
    while queue.pop_span().is_some() {}
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_large_message_goes_alone_and_a_huge_one_never() {
    let queue = Queue::new();
    queue.open();
    let piece = Bytes::from(vec![0; 1 << 20]);
    let body = |mib: usize| vec![piece.clone(); mib];
    assert_eq!(queue.push(append(1), body(64)), Sent::Queued);
    assert_eq!(queue.push(append(1), body(1)), Sent::Full);
    queue.pop_span().unwrap();
    assert_eq!(queue.push(append(1), body(65)), Sent::TooLarge);
    assert_eq!(queue.bytes(), 0);
}
