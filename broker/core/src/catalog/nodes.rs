//! The nodes of a cluster: numbers, addresses, what they are for, and how they come and go.
//!
//! ```text
//!   Join (token used up)         Active              Draining            Removed
//!        joining ------------> active <-----------> draining ----------> removed
//!           |                    |                                          ^
//!           +--------------------+---------- nothing is placed there -------+
//! ```

use super::cluster::{Hash, not_founded};
use super::{Catalog, Event, Row};
use flowstone_wire::{ErrorCode, Failure, NodeId, name};
use serde::{Deserialize, Serialize};

/// Most nodes that a cluster has, those that were removed and are remembered included.
const NODES_MAX: usize = 1000;
/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 300;

/// Where a node is to be reached, each `host:port`; empty where it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// By other nodes, over QUIC.
    pub peer: String,
    /// By clients of the native protocol.
    pub native: String,
    /// Over HTTP.
    pub http: String,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It holds shards.
    Data,
    /// It votes on the catalog, and holds nothing else.
    Witness,
}

/// Whether shards may be placed on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It has its number, and was not heard yet.
    Joining,
    /// It belongs to the cluster.
    Active,
    /// What it has is moved elsewhere.
    Draining,
    /// It is gone. Its number stays its own.
    Removed,
}

/// A node as it is made known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// A name for people; no two nodes of a cluster have the same.
    pub name: String,
    /// Where it is to be reached.
    pub addresses: Addresses,
    /// What it is for.
    pub role: Role,
    /// Hash of its certificate, if it has one already.
    pub fingerprint: Option<Hash>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number, never given to another.
    pub id: NodeId,
    /// A name for people.
    pub name: String,
    /// Where it is to be reached.
    pub addresses: Addresses,
    /// What it is for.
    pub role: Role,
    /// Whether shards may be placed on it.
    pub state: NodeState,
    /// Hashes of the certificates that it may show, the newest first: while certificates change there
    /// are two.
    pub fingerprints: Vec<Hash>,
}

impl Node {
    /// Whether it is one of those that shards are placed on.
    pub fn takes_shards(&self) -> bool {
        self.role == Role::Data && self.state == NodeState::Active
    }
}

/// Something of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeCommand {
    /// Give a node its number, for a token that is used up by it.
    Join {
        /// The hash of the token.
        token: Hash,
        /// The time, in milliseconds since 1970.
        now_ms: u64,
        /// The node; what it is for is what the token is good for.
        node: NodeSpec,
    },
    /// Let a node show a certificate, and the one before as well.
    Certify {
        /// The node.
        node: NodeId,
        /// Hash of the certificate.
        fingerprint: Hash,
    },
    /// A node is to be reached elsewhere.
    SetAddresses {
        /// The node.
        node: NodeId,
        /// Where.
        addresses: Addresses,
    },
    /// A node comes or goes.
    SetState {
        /// The node.
        node: NodeId,
        /// What it is now.
        state: NodeState,
    },
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, what)
}

impl NodeSpec {
    pub(super) fn check(&self) -> Result<(), Failure> {
        name::check("node", &self.name)?;
        self.addresses.check()
    }
}

impl Addresses {
    fn check(&self) -> Result<(), Failure> {
        let all = [&self.peer, &self.native, &self.http];
        let is_bad =
            |a: &&&String| a.len() > ADDRESS_BYTES_MAX || !a.bytes().all(|b| b.is_ascii_graphic());
        match all.iter().find(is_bad) {
            Some(_) => Err(invalid(format!(
                "an address is up to {ADDRESS_BYTES_MAX} letters without spaces"
            ))),
            None => Ok(()),
        }
    }
}

impl Catalog {
    pub(super) fn apply_to_node(
        &mut self,
        command: NodeCommand,
    ) -> Result<(Event, Vec<Row>), Failure> {
        match command {
            NodeCommand::Join {
                token,
                now_ms,
                node,
            } => self.join(token, now_ms, node),
            NodeCommand::Certify { node, fingerprint } => self.change_node(node, |n| {
                n.fingerprints.retain(|f| *f != fingerprint);
                n.fingerprints.insert(0, fingerprint);
                n.fingerprints.truncate(2);
            }),
            NodeCommand::SetAddresses { node, addresses } => {
                addresses.check()?;
                self.change_node(node, |n| n.addresses = addresses)
            }
            NodeCommand::SetState { node, state } => self.set_node_state(node, state),
        }
    }

    fn join(
        &mut self,
        token: Hash,
        now_ms: u64,
        mut node: NodeSpec,
    ) -> Result<(Event, Vec<Row>), Failure> {
        node.check()?;
        self.cluster.as_ref().ok_or_else(not_founded)?;
        let good = self.tokens.get(&token).filter(|t| t.expires_ms > now_ms);
        let Some(good) = good else {
            let what =
                "there is no such token: it was used, taken back or has expired; make another one";
            return Err(Failure::new(ErrorCode::NotFound, what));
        };
        let is_there = |n: &&Node| n.name == node.name && n.state != NodeState::Removed;
        if let Some(other) = self.nodes.values().find(is_there) {
            let what = format!("node {} has the name '{}' already", other.id, node.name);
            return Err(invalid(what));
        }
        if self.nodes.len() >= NODES_MAX {
            let what = format!("there are {NODES_MAX} nodes already, or were");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        node.role = good.role;
        self.tokens.remove(&token);
        let (id, mut rows) = self.add_node(node, false);
        rows.push(Row::no_token(&token));
        Ok((Event::NodeJoined(id), rows))
    }

    /// Gives a node its number. The caller has looked at everything.
    pub(super) fn add_node(&mut self, spec: NodeSpec, is_active: bool) -> (NodeId, Vec<Row>) {
        let cluster = self
            .cluster
            .as_mut()
            .expect("callers look whether there is one");
        let id = NodeId(cluster.next_node);
        cluster.next_node += 1;
        let state = if is_active {
            NodeState::Active
        } else {
            NodeState::Joining
        };
        let node = Node {
            id,
            name: spec.name,
            addresses: spec.addresses,
            role: spec.role,
            state,
            fingerprints: spec.fingerprint.into_iter().collect(),
        };
        let rows = vec![Row::cluster(cluster), Row::node(&node)];
        self.nodes.insert(id, node);
        (id, rows)
    }

    fn change_node(
        &mut self,
        id: NodeId,
        change: impl FnOnce(&mut Node),
    ) -> Result<(Event, Vec<Row>), Failure> {
        let node = self.nodes.get_mut(&id);
        let node = node.filter(|n| n.state != NodeState::Removed);
        let node = node.ok_or_else(|| unknown_node(id))?;
        change(node);
        Ok((Event::NodeChanged, vec![Row::node(node)]))
    }

    fn set_node_state(
        &mut self,
        id: NodeId,
        state: NodeState,
    ) -> Result<(Event, Vec<Row>), Failure> {
        let holds = self.shards_on(id).next();
        if state == NodeState::Removed
            && let Some(shard) = holds
        {
            let what = format!(
                "node {id} has shard {shard}, and maybe others; drain it first, or wait until it is done"
            );
            return Err(invalid(what));
        }
        if state == NodeState::Joining {
            return Err(invalid("a node joins once, with a token"));
        }
        self.change_node(id, |n| n.state = state)
    }

    /// All nodes, those that were removed included.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The node of this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }
}

fn unknown_node(id: NodeId) -> Failure {
    let what = format!("there is no node {id}; `flowstone cluster status` lists them");
    Failure::new(ErrorCode::NotFound, what)
}
