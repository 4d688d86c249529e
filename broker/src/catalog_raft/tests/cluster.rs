//! Nodes in one process, and a network between them that can be cut and that loses answers.

use super::*;
use crate::catalog_raft::peers::PeerError;
use flowstone_client::BoxFuture;
use flowstone_core::Catalog;
use flowstone_core::catalog::{
    Addresses, ClusterCommand, NodeCommand, NodeSpec, Placed, Role as NodeRole, Token,
};
use flowstone_core::replica::{Ask, Asked, LogId as ShardLogId, Member as Replica, Phase, Report};
use flowstone_wire::{ConfigVersion, Epoch, Failure, Incarnation, Lsn, ShardId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(60);
const SHARD: ShardId = ShardId(0);

#[derive(Default)]
struct Net {
    nodes: RwLock<BTreeMap<NodeId, (Arc<member::Member>, tokio::runtime::Handle)>>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// So many answers to proposals are lost.
    lose: AtomicU32,
}

/// The way of one node to the others.
struct From(Arc<Net>, NodeId);

impl Net {
    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        let cut = self.cut.lock().unwrap();
        cut.contains(&a) || cut.contains(&b)
    }
}

impl Peers for From {
    fn call(
        &self,
        to: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<PeerAnswer, PeerError>> {
        let (net, me) = (self.0.clone(), self.1);
        Box::pin(async move {
            let why = String::from("cut");
            let there = net.nodes.read().unwrap().get(&to).cloned();
            let Some((member, handle)) = there.filter(|_| !net.is_cut(me, to)) else {
                return Err(PeerError::Unreachable { to, why });
            };
            // As over a wire.
            let bytes = postcard::to_stdvec(&request).unwrap();
            let request: PeerRequest = postcard::from_bytes(&bytes).unwrap();
            let is_proposal = matches!(request, PeerRequest::Propose(_));
            let served = handle.spawn(async move { member.serve(me, request).await });
            let lost = PeerError::Lost { to, why };
            let Ok(answer) = served.await else {
                return Err(lost);
            };
            let loses = || {
                let less = |n: u32| n.checked_sub(1);
                let order = Ordering::Relaxed;
                net.lose.fetch_update(order, order, less).is_ok()
            };
            if net.is_cut(me, to) || is_proposal && loses() {
                return Err(lost);
            }
            let bytes = postcard::to_stdvec(&answer).unwrap();
            Ok(postcard::from_bytes(&bytes).unwrap())
        })
    }
}

pub(super) struct Cluster {
    net: Arc<Net>,
    dirs: BTreeMap<NodeId, TempDir>,
    running: BTreeMap<NodeId, CatalogThread>,
    proposals: u128,
    stop_replicas: Arc<AtomicBool>,
}

impl Cluster {
    pub(super) fn of_rows(rows: &[(String, Vec<u8>)]) -> Self {
        let mut cluster = Self {
            net: Arc::default(),
            dirs: BTreeMap::new(),
            running: BTreeMap::new(),
            proposals: 0,
            stop_replicas: Arc::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("catalog.redb"), rows).unwrap();
        cluster.dirs.insert(NodeId(1), dir);
        cluster.start(NodeId(1));
        cluster
    }

    /// So many nodes, of which an odd number vote.
    pub(super) fn of(nodes: usize) -> Self {
        let mut cluster = Self::of_rows(&[]);
        cluster.found();
        for _ in 1..nodes {
            cluster.join();
        }
        let voters = if nodes.is_multiple_of(2) {
            nodes - 1
        } else {
            nodes
        };
        cluster.wait("they vote", |c| {
            let all = (1..=nodes as u32).map(NodeId);
            all.into_iter().all(|n| c.voters(n).len() == voters)
        });
        cluster
    }

    pub(super) fn found(&mut self) {
        let (id, node) = ("c1".into(), spec(1));
        let found = ClusterCommand::Found { id, node };
        self.apply(NodeId(1), Command::Cluster(found)).unwrap();
    }

    pub(super) fn join(&mut self) -> NodeId {
        let (hash, now_ms) = ([7; 32], 0);
        let token = Token {
            role: NodeRole::Data,
            expires_ms: 10,
        };
        let add = ClusterCommand::AddToken {
            hash,
            token,
            now_ms,
        };
        self.apply(NodeId(1), Command::Cluster(add)).unwrap();
        let join = NodeCommand::Join {
            token: hash,
            now_ms,
            node: spec(self.dirs.len() + 1),
        };
        let Ok(Event::NodeJoined(id)) = self.apply(NodeId(1), Command::Node(join)) else {
            panic!("it joins");
        };
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("catalog.redb"), &[]).unwrap();
        self.dirs.insert(id, dir);
        self.start(id);
        id
    }

    pub(super) fn start(&mut self, node: NodeId) {
        let dir = self.dirs[&node].path();
        let path = dir.join("catalog.redb");
        let role = match node.0 {
            1 => Role::Founder,
            id => Role::Joiner(id),
        };
        let thread = CatalogThread::start(&path, 1, reserve(dir), role).unwrap();
        thread
            .member
            .connect(Arc::new(From(self.net.clone(), node)));
        let here = (thread.member.clone(), thread.handle());
        self.net.nodes.write().unwrap().insert(node, here);
        self.running.insert(node, thread);
    }

    pub(super) fn stop(&mut self, node: NodeId) {
        self.net.nodes.write().unwrap().remove(&node);
        self.running.remove(&node);
    }

    pub(super) fn cut(&self, node: NodeId, is_cut: bool) {
        let mut cut = self.net.cut.lock().unwrap();
        if is_cut {
            cut.insert(node);
        } else {
            cut.remove(&node);
        }
    }

    pub(super) fn lose_answers(&self, count: u32) {
        self.net.lose.store(count, Ordering::Relaxed);
    }

    pub(super) fn apply(&mut self, node: NodeId, command: Command) -> Result<Event, Failure> {
        self.apply_all(node, vec![command]).pop().unwrap()
    }

    pub(super) fn apply_all(
        &mut self,
        node: NodeId,
        commands: Vec<Command>,
    ) -> Vec<Result<Event, Failure>> {
        let thread = &self.running[&node];
        let mut doing = Vec::new();
        for command in commands {
            self.proposals += 1;
            let (member, id) = (thread.member.clone(), self.proposals);
            doing.push(thread.spawn(async move { member.apply(id, command).await }));
        }
        let all = thread.wait_for(async move {
            let mut done = Vec::new();
            for one in doing {
                done.push(one.await.unwrap());
            }
            done
        });
        all.unwrap()
    }

    /// Waits until something is so; it is looked at whenever anything has changed.
    #[track_caller]
    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + WAIT;
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}: {:?}", self.told());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn told(&self) -> Vec<(NodeId, Standing)> {
        let all = self.running.iter();
        all.map(|(id, t)| (*id, t.member.standing())).collect()
    }

    pub(super) fn catalog(&self, node: NodeId) -> Option<Arc<Catalog>> {
        Some(self.running.get(&node)?.member.watch().borrow().clone())
    }

    pub(super) fn rows(&self, node: NodeId) -> Vec<(String, Vec<u8>)> {
        self.running[&node].member.file.rows().unwrap()
    }

    pub(super) fn voters(&self, node: NodeId) -> BTreeSet<NodeId> {
        let thread = self.running.get(&node);
        thread.map_or_else(BTreeSet::new, |t| t.member.voters())
    }

    pub(super) fn purged(&self, node: NodeId) -> u64 {
        let metrics = self.running[&node].member.metrics();
        metrics.purged.map_or(0, |id| id.index)
    }

    pub(super) fn leader_but(&self, not: NodeId) -> Option<NodeId> {
        let others = self.running.iter().filter(|(id, _)| **id != not);
        others
            .filter(|(_, t)| t.member.leads())
            .map(|(id, _)| *id)
            .next()
    }

    pub(super) fn leader(&self) -> NodeId {
        let nobody = NodeId(0);
        self.wait("somebody leads", |c| c.leader_but(nobody).is_some());
        self.leader_but(nobody).unwrap()
    }

    /// What a node answers another one.
    pub(super) fn serve(&self, node: NodeId, from: NodeId) -> PeerAnswer {
        let thread = &self.running[&node];
        let member = thread.member.clone();
        let request = PeerRequest::Report(NodeReport::default());
        let served = thread.wait_for(async move { member.serve(from, request).await });
        served.unwrap()
    }

    pub(super) fn set_copies(&mut self, copies: u8) {
        let copies = Some(copies);
        let command = ClusterCommand::SetCopies {
            group: None,
            copies,
        };
        self.apply(NodeId(1), Command::Cluster(command)).unwrap();
    }

    pub(super) fn placed(&self) -> Option<Placed> {
        let (_, thread) = self.running.iter().next()?;
        thread.member.watch().borrow().placed(SHARD).cloned()
    }

    /// Replicas of a shard that have everything at once.
    pub(super) fn run_replicas(&self) {
        for (node, thread) in &self.running {
            let me = Replica {
                node: *node,
                incarnation: Incarnation(1),
            };
            let (member, stop) = (thread.member.clone(), self.stop_replicas.clone());
            thread.spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(50));
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let placed = member.watch().borrow().placed(SHARD).cloned();
                    let (report, ask) = of_replica(me, placed.as_ref());
                    let shards = vec![(SHARD, report)];
                    member.clone().report(NodeReport { shards }).await;
                    if let Some(asked) = ask {
                        member.ask(SHARD, asked).await;
                    }
                }
            });
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_replicas.store(true, Ordering::Relaxed);
        self.net.nodes.write().unwrap().clear();
    }
}

fn of_replica(me: Replica, placed: Option<&Placed>) -> (Report, Option<Asked>) {
    let config = placed.map(|p| &p.config);
    let leads = config.is_some_and(|c| c.leader == me);
    let version = config.map_or(ConfigVersion(0), |c| c.version);
    let epoch = config.map_or(Epoch(0), |c| c.epoch);
    let report = Report {
        me,
        version,
        phase: if leads {
            Phase::Leading
        } else {
            Phase::Following
        },
        epoch,
        durable: ShardLogId { epoch, lsn: Lsn(1) },
        committed: Lsn(1),
        copies: 1,
        followers: Vec::new(),
    };
    let ask = placed.filter(|_| leads).and_then(|p| {
        if !p.is_active() {
            return Some(Ask::Activate);
        }
        p.config.learners.first().map(|l| Ask::Admit(*l))
    });
    let asked = ask.map(|ask| Asked {
        from: me,
        epoch,
        version,
        ask,
    });
    (report, asked)
}

fn spec(number: usize) -> NodeSpec {
    NodeSpec {
        name: format!("n{number}"),
        addresses: Addresses::default(),
        role: NodeRole::Data,
        fingerprint: None,
    }
}
