//! A cluster's authority, and nodes with inboxes that tests can look into.

use bytes::Bytes;
use flowstone_core::replica::{Envelope, Header, LogId, Member, Message, Span};
use flowstone_peer::identity::{Authority, ClusterId, NodeKey, NodeName, Term, Trust};
use flowstone_peer::snapshot::{SnapshotHead, SnapshotSink};
use flowstone_peer::{Clock, Credentials, Inbox, Incoming, PeerEndpoint, PeerOptions};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, Lsn, NodeId, ShardId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes that is to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const NOW_S: u64 = 1_800_000_000;

type Sinks = Box<dyn Fn(SnapshotHead) -> Result<Box<dyn SnapshotSink>, String> + Send + Sync>;

/// An inbox that keeps what comes.
pub(crate) struct Kept {
    messages: Mutex<Sender<Incoming>>,
    changes: Mutex<Sender<(NodeId, bool)>>,
    pub(crate) sinks: Mutex<Option<Sinks>>,
}

impl Inbox for Kept {
    fn deliver(&self, message: Incoming) {
        // A test that is over does not look any more.
        let _ = self.messages.lock().unwrap().send(message);
    }

    fn peer_changed(&self, node: NodeId, is_up: bool) {
        let _ = self.changes.lock().unwrap().send((node, is_up));
    }

    fn snapshot(&self, head: SnapshotHead) -> Result<Box<dyn SnapshotSink>, String> {
        match &*self.sinks.lock().unwrap() {
            Some(sinks) => sinks(head),
            None => Err("no snapshots here".into()),
        }
    }
}

pub(crate) struct Node {
    pub(crate) endpoint: PeerEndpoint,
    pub(crate) inbox: Arc<Kept>,
    pub(crate) messages: Receiver<Incoming>,
    pub(crate) changes: Receiver<(NodeId, bool)>,
}

/// A cluster that is only its authority and a clock.
pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    pub(crate) now_s: Arc<AtomicU64>,
    lives: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(byte: u8) -> Self {
        let cluster = ClusterId([byte; 16]);
        Self {
            authority: Authority::found(cluster, Term::of_authority(NOW_S)).unwrap(),
            now_s: Arc::new(AtomicU64::new(NOW_S)),
            lives: AtomicU64::new(1),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        let now_s = self.now_s.clone();
        Clock::new(move || now_s.load(Ordering::SeqCst))
    }

    pub(crate) fn credentials(&self, node: u32) -> Credentials {
        credentials(&self.authority, node, Trust::only(self.authority.trusted()))
    }

    pub(crate) fn node(&self, node: u32) -> Node {
        self.node_with(node, |_| {})
    }

    pub(crate) fn node_with(&self, node: u32, change: impl FnOnce(&mut PeerOptions)) -> Node {
        let (messages, seen) = channel();
        let (changes, changed) = channel();
        let inbox = Arc::new(Kept {
            messages: Mutex::new(messages),
            changes: Mutex::new(changes),
            sinks: Mutex::new(None),
        });
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        let mut options = PeerOptions::new(self.credentials(node), life, inbox.clone());
        options.clock = self.clock();
        change(&mut options);
        Node {
            endpoint: PeerEndpoint::start(options).unwrap(),
            inbox,
            messages: seen,
            changes: changed,
        }
    }

    /// Two nodes that know one another, and are connected.
    pub(crate) fn pair(&self) -> (Node, Node) {
        let (one, two) = (self.node(1), self.node(2));
        one.knows(2, two.address());
        two.knows(1, one.address());
        one.up(2);
        two.up(1);
        (one, two)
    }
}

pub(crate) fn credentials(by: &Authority, node: u32, trust: Trust) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let term = Term::of_node(NOW_S);
    let issued = by.issue(NodeId(node), &key.public(), term).unwrap();
    let (node, cluster) = (NodeId(node), by.cluster());
    Credentials {
        name: NodeName { node, cluster },
        key,
        issued,
        trust,
    }
}

impl Node {
    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    pub(crate) fn knows(&self, node: u32, address: SocketAddr) {
        self.endpoint.set_peer(NodeId(node), vec![address]).unwrap();
    }

    pub(crate) fn up(&self, node: u32) {
        let up = self.endpoint.wait_up(NodeId(node), SOON);
        assert!(up, "{:?}", self.endpoint.status(NodeId(node)));
    }

    /// The next message.
    pub(crate) fn next(&self) -> Incoming {
        self.messages.recv_timeout(SOON).unwrap()
    }

    /// Sends until something arrives at `to`: what is sent while a connection comes up may get lost.
    pub(crate) fn reaches(&self, to: &Node, from: u32, node: u32) {
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            let message = word(from, node, u64::MAX);
            self.endpoint.send(NodeId(node), message, Vec::new());
            let came = to.messages.recv_timeout(Duration::from_millis(20));
            if came.is_ok_and(|m| m.envelope == word(from, node, u64::MAX)) {
                return;
            }
        }
        panic!(
            "nothing gets through: {:?}",
            self.endpoint.status(NodeId(node))
        );
    }

    /// Waits for a change of a peer.
    pub(crate) fn sees(&self, node: u32, is_up: bool) {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let change = self.changes.recv_timeout(left).unwrap();
            if change == (NodeId(node), is_up) {
                return;
            }
        }
    }
}

fn header(from: u32, to: u32, shard: u16) -> Header {
    let member = |node| Member {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    Header {
        shard: ShardId(shard),
        epoch: Epoch(1),
        version: ConfigVersion(1),
        from: member(from),
        to: member(to),
    }
}

/// A message without a body, with a number in it.
pub(crate) fn word(from: u32, to: u32, number: u64) -> Envelope {
    let (epoch, lsn) = (Epoch(1), Lsn(number));
    Envelope {
        header: header(from, to, 0),
        message: Message::Sealed {
            end: LogId { epoch, lsn },
        },
    }
}

/// An append of one entry.
pub(crate) fn append(from: u32, to: u32, shard: u16, lsn: u64, bytes: usize) -> Envelope {
    let (first, last) = (Lsn(lsn), Lsn(lsn));
    let span = Span {
        epoch: Epoch(1),
        first,
        last,
        bytes: bytes as u64,
    };
    Envelope {
        header: header(from, to, shard),
        message: Message::Append {
            span: (bytes > 0).then_some(span),
            committed: Lsn(0),
            sent_us: 0,
        },
    }
}

/// The LSN of an append.
pub(crate) fn lsn_of(message: &Incoming) -> u64 {
    match &message.envelope.message {
        Message::Append {
            span: Some(span), ..
        } => span.first.0,
        other => panic!("no span: {other:?}"),
    }
}

/// Bytes that tell where they come from.
pub(crate) fn pattern(seed: u64, size: usize) -> Bytes {
    let bytes = (0..size as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i * 7) >> 3) as u8);
    bytes.collect::<Vec<u8>>().into()
}

/// Waits for a future without a runtime's timers.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}
