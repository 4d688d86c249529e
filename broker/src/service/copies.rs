//! A node among others: what its copies of shards hear of the catalog, and what they say.

use super::Service;
use super::deployed::forget_others;
use super::topics::openings;
use crate::catalog_raft::{NodeReport, PeerAnswer, PeerRequest};
use crate::catalog_store::CatalogStore;
use crate::cluster::{Cluster, Copies};
use crate::worker::Message;
use bytes::Bytes;
use flowstone_core::input::ReplicaInput;
use flowstone_core::replica::{Asked, Envelope, Report};
use flowstone_core::{Catalog, Input};
use flowstone_wire::native::{MakeToken, TokenAnswer};
use flowstone_wire::{ConfigVersion, ErrorCode, Failure, NodeId, PartitionId, ShardId};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What of a shard's place its copy was told: the version, and whether its epoch is active.
pub(super) type ToldPlace = (ConfigVersion, bool);

impl Service {
    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.catalog.me()
    }

    pub(crate) fn catalog_store(&self) -> &CatalogStore {
        &self.catalog
    }

    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    pub(crate) fn copies(&self) -> Option<Arc<Copies>> {
        self.cluster.as_ref().map(|c| c.copies.clone())
    }

    /// The node that leads a shard, as far as this one has heard.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        if self.cluster.is_none() {
            return Some(self.me());
        }
        let leader = self.leaders.get(usize::from(shard.0))?;
        Some(NodeId(leader.load(Ordering::Relaxed))).filter(|l| l.0 > 0)
    }

    /// Whether this node leads a shard, as far as it has heard.
    pub(crate) fn leads(&self, shard: ShardId) -> bool {
        self.leader_of(shard) == Some(self.me())
    }

    /// What the catalog knows of a shard's place, for its copy.
    fn place(catalog: &Catalog, shard: ShardId) -> Option<(ToldPlace, Vec<ReplicaInput>)> {
        let placed = catalog.placed(shard)?;
        let config = placed.config.clone();
        let told = (config.version, placed.is_active());
        let mut inputs = vec![ReplicaInput::Appointed(config)];
        if placed.is_active() {
            inputs.push(ReplicaInput::Activated(placed.config.epoch));
        }
        Some((told, inputs))
    }

    /// Tells copies where the catalog has moved, and notes who leads.
    pub(super) fn follow_places(
        &self,
        catalog: &Catalog,
        told: &mut std::collections::BTreeMap<ShardId, ToldPlace>,
    ) {
        if self.cluster.is_none() {
            return;
        }
        for shard in self.all_shards() {
            let Some((place, inputs)) = Self::place(catalog, shard) else {
                continue;
            };
            if let (Some(leader), Some(placed)) = (
                self.leaders.get(usize::from(shard.0)),
                catalog.placed(shard),
            ) {
                leader.store(placed.config.leader.node.0, Ordering::Relaxed);
            }
            if told.insert(shard, place) != Some(place) {
                for input in inputs {
                    self.tell_shard(shard, Input::Replica(input));
                }
            }
        }
    }

    /// What a shard must hear that was just opened, and the number below which there is no partition that
    /// it does not hear of.
    pub(crate) fn introduction(&self, shard: ShardId) -> (PartitionId, Vec<Input>) {
        let catalog = self.catalog();
        let all = catalog.topics().flat_map(openings);
        let here = all.filter(|(of, _)| *of == shard);
        let mut inputs: Vec<Input> = here.map(|(_, input)| input).collect();
        let tasks = self.tasks.lock();
        let tasks = tasks.ok().and_then(|all| all.get(&shard).cloned());
        let tasks = tasks
            .into_iter()
            .flat_map(std::collections::BTreeMap::into_values);
        inputs.extend(tasks.map(|config| Input::StartTask(Box::new(config))));
        inputs.push(forget_others(&catalog));
        let place = Self::place(&catalog, shard).map_or(Vec::new(), |(_, inputs)| inputs);
        inputs.extend(place.into_iter().map(Input::Replica));
        (catalog.next_partition(), inputs)
    }

    /// Tells a shard something that may get lost; `false` if it was.
    pub(crate) fn try_tell_shard(&self, shard: ShardId, input: Input) -> bool {
        let message = Message::Tell { shard, input };
        self.mailbox(shard).send(message).is_ok()
    }

    /// Sends what a copy says to another one.
    pub(crate) fn send_to_copy(&self, envelope: Envelope, bodies: Vec<Bytes>) {
        if let Some(cluster) = &self.cluster {
            cluster.send(envelope, bodies);
        }
    }

    /// Asks whoever decides, for a copy; and tells the copy again what is known here already.
    pub(crate) fn ask_catalog(&self, shard: ShardId, asked: Asked) {
        self.catalog.ask(shard, asked);
        let place = Self::place(&self.catalog(), shard);
        for input in place.map_or(Vec::new(), |(_, inputs)| inputs) {
            let input = Input::Replica(input);
            self.mailbox(shard).answer(Message::Tell { shard, input });
        }
    }

    /// Takes how a copy stands.
    pub(crate) fn take_report(&self, shard: ShardId, report: Report) {
        if let Some(cluster) = &self.cluster {
            cluster.take_report(shard, report);
        }
    }

    /// Tells whoever decides how copies stand.
    pub(crate) fn report(&self, shards: Vec<(ShardId, Report)>) {
        self.catalog.report(NodeReport { shards });
    }

    /// Answers a message of the catalog of another node.
    pub(crate) fn serve_catalog(
        &self,
        from: NodeId,
        request: PeerRequest,
    ) -> impl Future<Output = PeerAnswer> + Send + 'static {
        self.catalog.serve(from, request)
    }

    /// Makes a token, with which one node joins.
    ///
    /// # Errors
    /// What the catalog says; [`ErrorCode::InvalidRequest`] where this node takes no others.
    pub async fn make_token(self: Arc<Self>, asked: MakeToken) -> Result<TokenAnswer, Failure> {
        let Some(cluster) = self.cluster.clone() else {
            let what = "this node takes no others: start it with `--peer HOST:PORT`";
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        };
        cluster.make_token(self, &asked).await
    }
}
