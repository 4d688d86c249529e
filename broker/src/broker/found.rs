//! The first start of a node: it founds a cluster of one.

use crate::catalog_store::CatalogStore;
use crate::config::Config;
use crate::data_dir::DataDir;
use flowstone_core::catalog::{Addresses, ClusterCommand, Command, NodeSpec, Role};

/// Makes the first node of a cluster of one, at the first start. Nothing fails for its sake: a full disk
/// has it tried again at the next start.
pub(super) fn found(catalog: &CatalogStore, data: &DataDir, config: &Config) {
    if catalog.current().cluster().is_some() {
        return;
    }
    let identity = &data.identity;
    let name = identity.node_id.get(..8).unwrap_or(&identity.node_id);
    let node = NodeSpec {
        name: format!("node-{name}"),
        addresses: Addresses {
            peer: String::new(),
            native: config.node.native.clone(),
            http: config.node.http.clone(),
        },
        role: Role::Data,
        fingerprint: None,
    };
    let id = identity.cluster_id.clone();
    let command = ClusterCommand::Found { id, node };
    if let Err(e) = catalog.apply(Command::Cluster(command)) {
        tracing::warn!("the cluster of this node is not founded yet: {e}");
    }
}
