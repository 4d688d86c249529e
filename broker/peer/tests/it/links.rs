//! What replicas say: whole, in order, and never more of it than there is room for.

use crate::rig::{Cluster, SOON, append, lsn_of, pattern, word};
use bytes::Bytes;
use flowstone_peer::Sent;
use flowstone_peer::limits::SHARD_HELD_BYTES;
use flowstone_wire::NodeId;
use std::time::{Duration, Instant};

#[test]
fn bodies_of_all_sizes_arrive_whole_and_in_order() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let sizes = [1, 1199, 1200, 1201, 65_535, 65_536, 1 << 20, 5 << 20, 0, 17];
    for (lsn, size) in sizes.iter().enumerate() {
        let body = pattern(lsn as u64, *size);
        // As slices, as they come out of a log.
        let slices = body.chunks(70_000).map(|s| body.slice_ref(s)).collect();
        let message = append(1, 2, 3, lsn as u64, *size);
        let sent = one.endpoint.send(NodeId(2), message.clone(), slices);
        assert_eq!(sent, Sent::Queued);
        let came = two.next();
        assert_eq!(came.envelope, message);
        assert!(came.body == body, "{size} bytes are not the same");
    }
    let status = one.endpoint.status(NodeId(2)).unwrap();
    assert_eq!(status.counts.sent_messages, sizes.len() as u64);
    assert_eq!(status.counts.sent_bytes, sizes.iter().sum::<usize>() as u64);
}

#[test]
fn words_go_both_ways_at_once() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    for n in 0..500 {
        one.endpoint.send(NodeId(2), word(1, 2, n), Vec::new());
        two.endpoint.send(NodeId(1), word(2, 1, n), Vec::new());
    }
    for n in 0..500 {
        assert_eq!(two.next().envelope, word(1, 2, n));
        assert_eq!(one.next().envelope, word(2, 1, n));
    }
}

#[test]
fn who_speaks_for_another_node_is_cut_off() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    two.sees(1, true);
    one.endpoint.send(NodeId(2), word(3, 2, 1), Vec::new());
    two.sees(1, false);
    // It comes back, and is believed again as long as it speaks for itself.
    one.reaches(&two, 1, 2);
    one.endpoint
        .send(NodeId(2), append(1, 4, 0, 1, 0), Vec::new());
    two.sees(1, true);
    two.sees(1, false);
    one.reaches(&two, 1, 2);
    let heard = two.messages.try_iter();
    assert!(
        heard
            .into_iter()
            .all(|m| m.envelope.header.from.node == NodeId(1))
    );
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let cluster = Cluster::new(1);
    let one = cluster.node(1);
    let send = |node| {
        one.endpoint
            .send(NodeId(node), word(1, node, 1), Vec::new())
    };
    assert_eq!(send(9), Sent::Unreachable);
    one.endpoint.set_peer(NodeId(2), Vec::new()).unwrap();
    assert_eq!(send(2), Sent::Unreachable);
    let counts = one.endpoint.status(NodeId(2)).unwrap().counts;
    assert_eq!((counts.dropped_down, counts.sent_messages), (1, 0));
}

#[test]
fn a_shard_that_does_not_get_on_holds_up_nobody() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let body = pattern(1, 1 << 20);
    // Shard 1 keeps everything that it gets: its messages are never looked at.
    let mut kept: Vec<Bytes> = Vec::new();
    let mut sent = 0;
    while sent < 3 * (SHARD_HELD_BYTES >> 20) as u64 {
        let message = append(1, 2, 1, sent, body.len());
        match one.endpoint.send(NodeId(2), message, vec![body.clone()]) {
            Sent::Queued => sent += 1,
            Sent::Full => {
                kept.extend(two.messages.try_iter().map(|m| m.body));
                std::thread::park_timeout(Duration::from_millis(1));
            }
            other => panic!("{other:?}"),
        }
    }
    // The others are served as if nothing were.
    let end = Instant::now() + SOON;
    let mut lsn = 1000;
    'served: loop {
        assert!(Instant::now() < end, "another shard is held up");
        one.endpoint
            .send(NodeId(2), append(1, 2, 2, lsn, 10), vec![pattern(lsn, 10)]);
        lsn += 1;
        while let Ok(came) = two.messages.recv_timeout(Duration::from_millis(20)) {
            if came.envelope.header.shard.0 == 2 {
                break 'served;
            }
            kept.push(came.body);
        }
    }
    let held: usize = kept.iter().map(Bytes::len).sum();
    assert!(
        held <= SHARD_HELD_BYTES && held > SHARD_HELD_BYTES / 2,
        "{held}"
    );
    let counts = two.endpoint.status(NodeId(1)).unwrap().counts;
    assert!(counts.dropped_held > 0);
    // When it has got on, it gets more.
    kept.clear();
    let again = append(1, 2, 1, 7777, body.len());
    one.endpoint.send(NodeId(2), again, vec![body]);
    while lsn_of(&two.next()) != 7777 {}
}
