//! What a node has that is one of a cluster: the wire to the others, and its copies of shards.
//!
//! ```text
//!  catalog (raft) --watch--> service --Appointed--> shard (worker) --ToPeer--> wire --> other nodes
//!        ^                                             |   ^                     |
//!        +---- reports, questions ---------------------+   +---- inbox ----------+
//! ```
//!
//! | module | what it is |
//! | - | - |
//! | `found` | the first node: its authority and its own certificate |
//! | `join` | another node: from a token to a data directory |
//! | `admission` | whether somebody may join |
//! | `wire` | the endpoint, while there is one |
//! | `inbox` | what arrives, on its way to the worker of its shard |
//! | `catalog_calls` | the catalog's messages as calls |
//! | `requests` | requests for a shard that another node leads |
//! | `lanes` | those that must keep their order |
//! | `copies` | copies that are opened again, and snapshots |
//! | `reports` | how copies stand, for whoever decides |
//! | `upkeep` | where the others are, and certificates that end |

mod admission;
mod catalog_calls;
mod copies;
mod found;
mod inbox;
mod incoming;
mod join;
mod lanes;
mod reports;
mod requests;
mod snapshot_parts;
mod token;
mod upkeep;
mod wire;

pub(crate) use copies::{Copies, Sending, end, is_over};
pub(crate) use found::{credentials_of, found};
pub(crate) use join::join;
pub(crate) use requests::ShardRequest;
pub(crate) use upkeep::{addresses, announce};

use crate::catalog_store::CatalogStore;
use crate::config::ClusterSettings;
use crate::service::Service;
use bytes::Bytes;
use flowstone_core::replica::{Envelope, Report};
use flowstone_peer::{Credentials, PeerEndpoint, PeerOptions, StartError};
use flowstone_wire::{NodeId, ShardId};
use inbox::NodeInbox;
use lanes::Lanes;
use reports::Reports;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use wire::Wire;

/// The file with what a node of a cluster shows to others.
pub(crate) const IDENTITY: &str = "node-identity.toml";

/// See the module.
pub(crate) struct Cluster {
    pub(crate) me: NodeId,
    pub(crate) copies: Arc<Copies>,
    wire: Arc<Wire>,
    inbox: Arc<NodeInbox>,
    reports: Arc<Reports>,
    lanes: Lanes,
    address: SocketAddr,
    certificate_hours: u64,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster(node {} at {})", self.me, self.address)
    }
}

impl Cluster {
    /// Opens the node's socket for others. Nothing is answered before [`Self::run`].
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn open(
        settings: &ClusterSettings,
        listen: SocketAddr,
        credentials: Credentials,
        life: u64,
        copies: Arc<Copies>,
    ) -> Result<Self, StartError> {
        let me = credentials.name.node;
        let inbox = Arc::new(NodeInbox::new(copies.clone()));
        let options = PeerOptions {
            listen,
            allow_remote: true,
            snapshot_bytes_per_s: settings.snapshot_rate_bytes_per_s,
            ..PeerOptions::new(credentials, life, inbox.clone())
        };
        let endpoint = PeerEndpoint::start(options)?;
        let address = endpoint.local_addr();
        let wire = Arc::new(Wire::new(endpoint));
        copies.connect(wire.clone());
        Ok(Self {
            me,
            copies,
            wire,
            inbox,
            reports: Arc::new(Reports::default()),
            lanes: Lanes::default(),
            address,
            certificate_hours: settings.certificate_hours,
        })
    }

    /// Where other nodes reach this one.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer others and to ask them.
    pub(crate) fn run(&self, service: &Arc<Service>, data: &Path) {
        self.inbox.connect(service);
        catalog_calls::connect(&self.wire, service);
        requests::answer_calls(&self.wire, service);
        admission::answer(&self.wire, service, self.certificate_hours);
        reports::run(&self.reports, service);
        upkeep::run(&self.wire, service, data, self.certificate_hours);
    }

    /// Sends what a copy says. Never waits; what there is no room for is sent again.
    pub(crate) fn send(&self, envelope: Envelope, bodies: Vec<Bytes>) {
        let to = envelope.header.to.node;
        self.wire.with(|endpoint| {
            // It is told again, or sent again, in any case.
            let _ = endpoint.send(to, envelope, bodies);
        });
    }

    /// Takes how a copy stands.
    pub(crate) fn take_report(&self, shard: ShardId, report: Report) {
        self.reports.take(shard, report);
    }

    /// Says nothing more to others, and hears nothing.
    pub(crate) fn stop(&self) {
        self.wire.stop();
    }
}

/// Opens the way of the catalog to other nodes.
pub(crate) fn connect_catalog(cluster: &Cluster, catalog: &CatalogStore) {
    catalog.connect(Arc::new(catalog_calls::Calls(cluster.wire.clone())));
}
