//! Two nodes on loopback, and a mapping to send from.

use super::setting::Setting;
use bytes::Bytes;
use flowstone_core::replica::{Envelope, Header, Member, Message, Span};
use flowstone_peer::identity::{Authority, ClusterId, NodeKey, NodeName, Term, Trust};
use flowstone_peer::snapshot::{SnapshotHead, SnapshotSink};
use flowstone_peer::{Clock, Credentials, Inbox, Incoming, PeerEndpoint, PeerOptions};
use flowstone_storage::{Disk, RealDisk};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, Lsn, NodeId, ShardId};
use std::error::Error;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts what comes, and looks at nothing.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) bytes: AtomicU64,
}

impl Inbox for Count {
    fn deliver(&self, message: Incoming) {
        self.bytes.fetch_add(message.body.len() as u64, Relaxed);
    }

    fn peer_changed(&self, _node: NodeId, _is_up: bool) {}

    fn snapshot(&self, _head: SnapshotHead) -> Result<Box<dyn SnapshotSink>, String> {
        Err("none".into())
    }
}

pub(crate) fn credentials(authority: &Authority, node: u32) -> Credentials {
    let key = NodeKey::generate().expect("a key");
    let now_s = Clock::of_machine().now_s();
    let issued = authority.issue(NodeId(node), &key.public(), Term::of_node(now_s));
    let (node, cluster) = (NodeId(node), authority.cluster());
    Credentials {
        name: NodeName { node, cluster },
        key,
        issued: issued.expect("a certificate"),
        trust: Trust::only(authority.trusted()),
    }
}

pub(crate) fn authority() -> Authority {
    let now_s = Clock::of_machine().now_s();
    Authority::found(ClusterId([1; 16]), Term::of_authority(now_s)).expect("an authority")
}

pub(crate) struct Pair {
    pub(crate) one: PeerEndpoint,
    pub(crate) two: PeerEndpoint,
    pub(crate) inbox: Arc<Count>,
}

pub(crate) fn pair(setting: &Setting) -> Result<Pair, Box<dyn Error>> {
    let authority = authority();
    let inbox = Arc::new(Count::default());
    let start = |node| {
        let mut options = PeerOptions::new(credentials(&authority, node), 1, inbox.clone());
        options.wire = setting.wire.clone();
        options.threads = setting.threads;
        PeerEndpoint::start(options)
    };
    let (one, two) = (start(1)?, start(2)?);
    one.set_peer(NodeId(2), vec![two.local_addr()])?;
    if !one.wait_up(NodeId(2), Duration::from_secs(5)) {
        return Err("no connection".into());
    }
    Ok(Pair { one, two, inbox })
}

/// 128 MiB of a file, mapped, in memory.
pub(crate) fn mapping(dir: &Path) -> Result<Bytes, Box<dyn Error>> {
    const BYTES: usize = 128 << 20;
    let disk = RealDisk::new(dir)?;
    let name = Path::new("segment");
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(_) => disk.create(name, BYTES as u64)?,
    };
    let block: Vec<u8> = (0..1u32 << 20).map(|i| ((i * 31) >> 5) as u8).collect();
    for at in (0..BYTES as u64).step_by(block.len()) {
        file.write_at(at, &[IoSlice::new(&block)])?;
    }
    let bytes = file.map()?.slice(0, BYTES as u64);
    // The first touch of a page is the machine's, not the wire's.
    let touched: u64 = bytes.iter().step_by(4096).map(|b| u64::from(*b)).sum();
    assert!(touched > 0);
    Ok(bytes)
}

/// An append of one entry, from node 1 to node 2.
pub(crate) fn append(lsn: u64, bytes: u64) -> Envelope {
    let member = |node| Member {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    let (first, last) = (Lsn(lsn), Lsn(lsn));
    let epoch = Epoch(1);
    Envelope {
        header: Header {
            shard: ShardId(0),
            epoch,
            version: ConfigVersion(1),
            from: member(1),
            to: member(2),
        },
        message: Message::Append {
            span: Some(Span {
                epoch,
                first,
                last,
                bytes,
            }),
            committed: Lsn(0),
            sent_us: 0,
        },
    }
}
