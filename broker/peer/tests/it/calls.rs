//! Questions and answers: with limits, deadlines and refusals that say what to do.

use crate::rig::{Cluster, Node, wait};
use bytes::Bytes;
use flowstone_peer::limits::{CALL_BYTES_MAX, CALLS_HELD_BYTES};
use flowstone_peer::{BoxFuture, CallFailure, CallHandler, PeerError};
use flowstone_wire::NodeId;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::Notify;

const ECHO: u16 = 300;
const URGENT_ECHO: u16 = 3;
const REFUSE: u16 = 301;
const HOLD: u16 = 302;
const LONG: Duration = Duration::from_secs(20);

struct Echo;

impl CallHandler for Echo {
    fn call(
        &self,
        from: NodeId,
        request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        Box::pin(async move {
            let mut answer = from.0.to_le_bytes().to_vec();
            answer.extend_from_slice(&request);
            Ok(answer.into())
        })
    }
}

struct Refuse;

impl CallHandler for Refuse {
    fn call(
        &self,
        _from: NodeId,
        _request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        Box::pin(async { Err(CallFailure("topic 'x' exists; choose another name".into())) })
    }
}

/// Says when a call is there, and when it is dropped; answers when it is told.
struct Hold {
    came: std::sync::Mutex<Sender<&'static str>>,
    go: Arc<Notify>,
}

struct Dropped(Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("gone");
    }
}

impl CallHandler for Hold {
    fn call(
        &self,
        _from: NodeId,
        _request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        let (came, go) = (self.came.lock().unwrap().clone(), self.go.clone());
        Box::pin(async move {
            let _ = came.send("came");
            let _dropped = Dropped(came);
            go.notified().await;
            Ok(Bytes::new())
        })
    }
}

fn serve(node: &Node) {
    node.endpoint.register(ECHO, Arc::new(Echo));
    node.endpoint.register(URGENT_ECHO, Arc::new(Echo));
    node.endpoint.register(REFUSE, Arc::new(Refuse));
}

fn ask(node: &Node, to: u32, kind: u16, request: Bytes) -> Result<Bytes, PeerError> {
    wait(node.endpoint.call(NodeId(to), kind, request, LONG))
}

#[test]
fn answers_of_all_sizes_come_back() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    serve(&two);
    for size in [0, 1, 5000, 3 << 20, CALL_BYTES_MAX - 4] {
        let request = Bytes::from(vec![7; size]);
        let answer = ask(&one, 2, ECHO, request.clone()).unwrap();
        assert_eq!(answer[..4], 1u32.to_le_bytes());
        assert!(answer.slice(4..) == request);
    }
    let same = one
        .endpoint
        .call(NodeId(2), URGENT_ECHO, Bytes::new(), LONG);
    assert_eq!(wait(same).unwrap().len(), 4);
}

#[test]
fn what_is_refused_says_why() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    serve(&two);
    let refused = ask(&one, 2, REFUSE, Bytes::new()).unwrap_err();
    assert_eq!(refused.to_string(), "topic 'x' exists; choose another name");
    let (node, kind) = (NodeId(2), 999);
    let none = ask(&one, 2, kind, Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(none, PeerError::NoHandler { node, kind });
    let large = vec![0; CALL_BYTES_MAX + 1].into();
    let large = ask(&one, 2, ECHO, large).unwrap_err();
    assert!(matches!(large, PeerError::TooLarge { .. }));
    let answer = ask(&one, 2, ECHO, vec![0; CALL_BYTES_MAX].into()).unwrap_err();
    assert!(answer.to_string().contains("does not fit"), "{answer}");
    let nobody = ask(&one, 9, ECHO, Bytes::new()).unwrap_err();
    assert_eq!(nobody, PeerError::Unknown(NodeId(9)));
}

#[test]
fn nobody_waits_longer_than_it_said() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let (came, seen) = channel();
    let go = Arc::new(Notify::new());
    let came = std::sync::Mutex::new(came);
    two.endpoint.register(HOLD, Arc::new(Hold { came, go }));
    // The peer is told whole milliseconds: its time is over first, and the caller is told the same.
    let short = Duration::from_micros(100_900);
    let late = wait(one.endpoint.call(NodeId(2), HOLD, Bytes::new(), short));
    assert_eq!(late, Err(PeerError::Timeout(NodeId(2))));
    assert_eq!(seen.recv_timeout(LONG), Ok("came"));
    assert_eq!(
        seen.recv_timeout(LONG),
        Ok("gone"),
        "its handler is dropped"
    );
    // A caller that goes away does not leave its call behind, either.
    let call = one.endpoint.call(NodeId(2), HOLD, Bytes::new(), LONG);
    assert_eq!(seen.recv_timeout(LONG), Ok("came"));
    drop(call);
    assert_eq!(seen.recv_timeout(LONG), Ok("gone"));
}

#[test]
fn too_much_at_once_is_refused_and_what_is_urgent_gets_through() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    serve(&two);
    let (came, seen) = channel();
    let go = Arc::new(Notify::new());
    let came = std::sync::Mutex::new(came);
    two.endpoint.register(
        HOLD,
        Arc::new(Hold {
            came,
            go: go.clone(),
        }),
    );
    let request = Bytes::from(vec![0; CALL_BYTES_MAX]);
    let many = CALLS_HELD_BYTES / CALL_BYTES_MAX;
    let held: Vec<_> = (0..many)
        .map(|_| one.endpoint.call(NodeId(2), HOLD, request.clone(), LONG))
        .collect();
    for _ in 0..many {
        assert_eq!(seen.recv_timeout(LONG), Ok("came"));
    }
    let more = ask(&one, 2, ECHO, Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(more, PeerError::Busy(NodeId(2)));
    let more = ask(&one, 2, HOLD, request).unwrap_err();
    assert_eq!(
        more,
        PeerError::Busy(NodeId(2)),
        "also in the middle of a large one"
    );
    assert!(ask(&one, 2, URGENT_ECHO, Bytes::from_static(b"x")).is_ok());
    go.notify_waiters();
    for call in held {
        wait(call).unwrap();
    }
    assert!(ask(&one, 2, ECHO, Bytes::from_static(b"x")).is_ok());
}
