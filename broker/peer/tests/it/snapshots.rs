//! Snapshots: whole or not at all, no faster than allowed, and out of the way of heartbeats.

use crate::rig::{Cluster, Node, SOON, append, pattern, word};
use bytes::{Bytes, BytesMut};
use flowstone_peer::PeerError;
use flowstone_peer::snapshot::{SnapshotHead, SnapshotSink, SnapshotSource};
use flowstone_wire::NodeId;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const PIECE: usize = 256 << 10;

/// Gives a pattern; fails at a piece if it is told so.
struct Pieces {
    next: u64,
    count: u64,
    fails_at: Option<u64>,
}

impl SnapshotSource for Pieces {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let at = self.next;
        if self.fails_at == Some(at) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.next += 1;
        Ok((at < self.count).then(|| pattern(at, PIECE)))
    }
}

/// Collects what comes; waits while its gate is shut.
struct Collect {
    bytes: BytesMut,
    done: Sender<Result<Bytes, ()>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    is_finished: bool,
}

impl SnapshotSink for Collect {
    fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let (is_open, opened) = &*self.gate;
        let is_open = is_open.lock().unwrap();
        drop(opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.is_finished = true;
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let _ = self.done.send(Ok(bytes));
        Ok(())
    }
}

impl Drop for Collect {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.done.send(Err(()));
        }
    }
}

type Gate = Arc<(Mutex<bool>, Condvar)>;

fn collects(node: &Node) -> (Receiver<Result<Bytes, ()>>, Gate) {
    let (done, finished) = channel();
    let gate: Gate = Arc::new((Mutex::new(true), Condvar::new()));
    let (done, shut) = (Mutex::new(done), gate.clone());
    *node.inbox.sinks.lock().unwrap() = Some(Box::new(move |head: SnapshotHead| {
        assert_eq!(head.manifest, Bytes::from_static(b"two files"));
        Ok(Box::new(Collect {
            bytes: BytesMut::new(),
            done: done.lock().unwrap().clone(),
            gate: shut.clone(),
            is_finished: false,
        }))
    }));
    (finished, gate)
}

fn send(node: &Node, count: u64, fails_at: Option<u64>) -> Receiver<Result<(), PeerError>> {
    let (told, outcome) = channel();
    let head = SnapshotHead {
        envelope: word(1, 2, 99),
        manifest: Bytes::from_static(b"two files"),
    };
    let source = Box::new(Pieces {
        next: 0,
        count,
        fails_at,
    });
    let done = Box::new(move |result| told.send(result).unwrap());
    node.endpoint.send_snapshot(NodeId(2), head, source, done);
    outcome
}

#[test]
fn a_snapshot_arrives_whole_and_its_sender_is_told() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let (finished, _gate) = collects(&two);
    let size = 20 * PIECE as u64;
    let outcome = send(&one, 20, None);
    let bytes = finished.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Ok(()));
    assert_eq!(bytes.len() as u64, size);
    for at in 0..20 {
        let piece = bytes.slice(at * PIECE..(at + 1) * PIECE);
        assert!(piece == pattern(at as u64, PIECE), "piece {at}");
    }
}

#[test]
fn what_is_not_whole_is_not_finished() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let (finished, _gate) = collects(&two);
    let outcome = send(&one, 20, Some(5));
    let error = outcome.recv_timeout(SOON).unwrap().unwrap_err();
    assert!(error.to_string().contains("the disk is broken"), "{error}");
    assert_eq!(finished.recv_timeout(SOON), Ok(Err(())));
}

#[test]
fn a_receiver_that_wants_none_says_why() {
    let cluster = Cluster::new(1);
    let (one, _two) = cluster.pair();
    let outcome = send(&one, 200, None);
    let error = outcome.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error, PeerError::Refused("no snapshots here".into()));
    let nobody = {
        let (told, outcome) = channel();
        let head = SnapshotHead {
            envelope: word(1, 9, 1),
            manifest: Bytes::new(),
        };
        let source = Box::new(Pieces {
            next: 0,
            count: 0,
            fails_at: None,
        });
        let done = Box::new(move |result| told.send(result).unwrap());
        one.endpoint.send_snapshot(NodeId(9), head, source, done);
        outcome.recv_timeout(SOON).unwrap()
    };
    assert_eq!(nobody, Err(PeerError::Unknown(NodeId(9))));
}

#[test]
fn a_disk_that_stands_still_holds_up_neither_words_nor_spans() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let (finished, gate) = collects(&two);
    *gate.0.lock().unwrap() = false;
    // More than all windows of a stream hold.
    let outcome = send(&one, 400, None);
    for n in 0..100 {
        one.endpoint.send(NodeId(2), word(1, 2, n), Vec::new());
        let body = pattern(n, 100_000);
        let message = append(1, 2, 0, n, body.len());
        one.endpoint.send(NodeId(2), message, vec![body]);
        two.next();
        two.next();
    }
    assert!(outcome.try_recv().is_err() && finished.try_recv().is_err());
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Ok(()));
    assert!(finished.recv_timeout(SOON).unwrap().is_ok());
}

#[test]
fn snapshots_are_no_faster_than_allowed() {
    let cluster = Cluster::new(1);
    let one = cluster.node_with(1, |o| o.snapshot_bytes_per_s = 8 * PIECE as u64);
    let two = cluster.node(2);
    one.knows(2, two.address());
    one.up(2);
    let (_finished, _gate) = collects(&two);
    let start = Instant::now();
    let outcome = send(&one, 9, None);
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Ok(()));
    assert!(
        start.elapsed() >= Duration::from_millis(990),
        "it takes a second"
    );
}
