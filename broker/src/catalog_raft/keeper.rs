//! The controller of shards beside the catalog: hears every report, and decides where this node leads.
//!
//! Every voter hears every report, so the next leader knows at once who has been silent, and since when.

use super::member::Member;
use super::peers::{NodeReport, PeerAnswer, PeerRequest};
use flowstone_core::catalog::Command;
use flowstone_core::catalog::placement::{Answer, Controller, Now, Policy};
use flowstone_core::replica::{Asked, Report};
use flowstone_wire::native::LeaderMove;
use flowstone_wire::{NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// The leader looks this often, if there is more than one node.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A node that has nothing to report says so this often.
const ALIVE_EVERY: u32 = 3;
/// A report that has not arrived by then is of no use.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Keeper {
    started: Instant,
    controller: Mutex<Controller>,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            controller: Mutex::new(Controller::new(Policy::default(), 0)),
        }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            us: self.started.elapsed().as_micros() as u64,
            unix_ms: unix.map_or(0, |d| d.as_millis() as u64),
        }
    }

    fn with<T>(&self, run: impl FnOnce(&mut Controller, Now) -> T) -> T {
        let now = self.now();
        let controller = self.controller.lock();
        run(&mut controller.unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// How nodes and shards stand, as far as they have told: every voter hears all.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Vitals {
    /// What the leader of each shard told lately.
    pub(crate) leaders: BTreeMap<ShardId, Report>,
    /// For how long each node was not heard, in milliseconds.
    pub(crate) silent_ms: BTreeMap<NodeId, u64>,
    /// The last time that another node came to lead each shard.
    pub(crate) moves: BTreeMap<ShardId, LeaderMove>,
}

impl Member {
    /// How nodes and shards stand.
    pub(crate) fn vitals(&self) -> Vitals {
        let catalog = self.shown.catalog.borrow().clone();
        self.keeper.with(|controller, now| {
            let told = |shard| {
                let report = controller.leader_report(&catalog, shard, now)?;
                Some((shard, report.clone()))
            };
            let moved = |shard| Some((shard, controller.last_move(shard)?.clone()));
            let silent = |node| Some((node, controller.silent_us(node, now)? / 1000));
            Vitals {
                leaders: catalog.all_placed().filter_map(|(s, _)| told(s)).collect(),
                silent_ms: catalog.nodes().filter_map(|n| silent(n.id)).collect(),
                moves: catalog.all_placed().filter_map(|(s, _)| moved(s)).collect(),
            }
        })
    }

    /// For how long a node was not heard, in microseconds; `None` if it never was.
    pub(super) fn silent_us(&self, node: NodeId) -> Option<u64> {
        self.keeper
            .with(|controller, now| controller.silent_us(node, now))
    }

    /// How they stand, as the leader says it: one that has just started knows of moves only that they were. Where
    /// it does not answer, as this node sees it; `None` if it does not vote, and hears nobody else.
    pub(crate) async fn vitals_heard(&self) -> Option<Vitals> {
        let own = || self.voters().contains(&self.me).then(|| self.vitals());
        let leader = self.leader().filter(|leader| *leader != self.me);
        let Some(leader) = leader else {
            return own();
        };
        let asked = self.ways.call(leader, PeerRequest::Vitals);
        match timeout(REPORT_TIMEOUT, asked).await {
            Ok(Ok(PeerAnswer::Vitals(vitals))) => Some(vitals),
            _ => own(),
        }
    }

    /// Takes how a node and its replicas stand.
    pub(super) fn take_report(&self, from: NodeId, report: NodeReport) {
        let catalog = self.shown.catalog.borrow().clone();
        self.keeper.with(|controller, now| {
            controller.heard(&catalog, from, now);
            for (shard, report) in report.shards {
                // Who is behind hears of the newest configuration with the log.
                controller.reported(&catalog, shard, report, now);
            }
        });
    }

    /// Takes what a replica asks, where this node leads; it is asked again if it gets lost.
    pub(super) async fn take_ask(&self, shard: ShardId, asked: &Asked) {
        if !self.leads() {
            return;
        }
        let catalog = self.shown.catalog.borrow().clone();
        let answer = self
            .keeper
            .with(|controller, now| controller.asked(&catalog, shard, asked, now));
        if let Answer::Do(command) = answer {
            self.decide(command).await;
        }
    }

    /// Tells every voter how this node stands.
    pub(crate) async fn report(self: Arc<Self>, report: NodeReport) {
        for voter in self.voters() {
            if voter == self.me {
                self.take_report(voter, report.clone());
                continue;
            }
            let this = self.clone();
            let request = PeerRequest::Report(report.clone());
            tokio::spawn(async move {
                // The next one comes soon.
                let _ = timeout(REPORT_TIMEOUT, this.ways.call(voter, request)).await;
            });
        }
        if self.voters().len() == 1 && self.leads() {
            self.look().await;
        }
    }

    /// Asks the leader.
    pub(crate) async fn ask(&self, shard: ShardId, asked: Asked) {
        match self.leader() {
            Some(leader) if leader != self.me => {
                let request = PeerRequest::Ask(shard, asked);
                // It is asked again.
                let _ = timeout(REPORT_TIMEOUT, self.ways.call(leader, request)).await;
            }
            _ => self.take_ask(shard, &asked).await,
        }
    }

    /// Decides what is to be decided now.
    async fn look(&self) {
        let catalog = self.shown.catalog.borrow().clone();
        let commands = self
            .keeper
            .with(|controller, now| controller.look(&catalog, now));
        for command in commands {
            self.decide(command).await;
        }
    }

    /// A decision that comes too late is refused by the catalog, and made again.
    async fn decide(&self, command: Command) {
        let told = format!("{command:?}");
        if let Err(e) = self.apply(0, command).await {
            tracing::debug!("not done: {told}: {e}");
        }
    }

    /// Runs as long as the node does.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut turn = 0u32;
        loop {
            let catalog = self.shown.catalog.borrow().clone();
            if catalog.nodes().count() < 2 {
                let mut changes = self.shown.catalog.subscribe();
                let has_more = changes.wait_for(|c| c.nodes().count() > 1);
                if has_more.await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(ALIVE_EVERY) {
                self.clone().report(NodeReport::default()).await;
            }
            if self.leads() {
                self.look().await;
                self.keep_voters().await;
            } else {
                let catalog = self.shown.catalog.borrow().clone();
                self.keeper
                    .with(|controller, now| controller.observe(&catalog, now));
            }
        }
    }
}
