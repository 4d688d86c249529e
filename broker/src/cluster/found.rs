//! The first node of a cluster: the authority, and the node's own certificate.

use super::IDENTITY;
use crate::catalog_store::CatalogStore;
use crate::config::ClusterSettings;
use crate::data_dir::DataDir;
use flowstone_core::catalog::{Authority as Stored, ClusterCommand, Command, NodeCommand};
use flowstone_peer::Clock;
use flowstone_peer::Credentials;
use flowstone_peer::identity::files::{read_credentials, write_credentials};
use flowstone_peer::identity::{
    Authority, ClusterId, IdentityError, NodeKey, NodeName, PublicKey, Term, Trust,
};
use flowstone_wire::NodeId;

/// What a data directory shows to other nodes; `None` where it is of no cluster of several.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn credentials_of(data: &DataDir) -> Result<Option<Credentials>, String> {
    let path = data.path.join(IDENTITY);
    if !path.exists() {
        return Ok(None);
    }
    read_credentials(&path).map(Some).map_err(|e| e.to_string())
}

/// Makes the only node of a cluster one that others can join: its authority and its own certificate.
///
/// # Errors
/// What the catalog or the disk says; it can be tried again.
pub(crate) fn found(
    data: &DataDir,
    catalog: &CatalogStore,
    settings: &ClusterSettings,
) -> Result<Credentials, String> {
    let text = |e: IdentityError| e.to_string();
    let me = catalog.me();
    let id: ClusterId = data.identity.cluster_id.parse().map_err(|_| {
        format!(
            "the cluster's number '{}' is none",
            data.identity.cluster_id
        )
    })?;
    let now_s = Clock::of_machine().now_s();
    let authority = match authority_of(catalog)? {
        Some(authority) => authority,
        None => {
            let authority = Authority::found(id, Term::of_authority(now_s)).map_err(text)?;
            let stored = Stored {
                certificate: authority.trusted().certificate,
                key: authority.to_bytes(),
            };
            let command = Command::Cluster(ClusterCommand::SetAuthority(stored));
            catalog.apply(command).map_err(|e| e.to_string())?;
            authority
        }
    };
    let key = NodeKey::generate().map_err(text)?;
    let issued = authority
        .issue(
            me,
            &key.public(),
            Term::of_hours(now_s, settings.certificate_hours),
        )
        .map_err(text)?;
    let certify = NodeCommand::Certify {
        node: me,
        fingerprint: hash_of(&key.public()),
    };
    catalog
        .apply(Command::Node(certify))
        .map_err(|e| e.to_string())?;
    let credentials = Credentials {
        name: NodeName {
            node: me,
            cluster: id,
        },
        key,
        issued,
        trust: Trust::only(authority.trusted()),
    };
    write_credentials(&data.path.join(IDENTITY), &credentials).map_err(text)?;
    Ok(credentials)
}

/// The authority that the catalog has.
///
/// # Errors
/// One that cannot be read.
pub(super) fn authority_of(catalog: &CatalogStore) -> Result<Option<Authority>, String> {
    let current = catalog.current();
    let Some(stored) = current.authority() else {
        return Ok(None);
    };
    let authority = Authority::from_bytes(&stored.key);
    authority.map(Some).map_err(|e| e.to_string())
}

/// What the catalog keeps of a node's key.
pub(super) fn hash_of(key: &PublicKey) -> [u8; 32] {
    key.0
}

/// Whether a node may still have certificates.
pub(super) fn is_listed(catalog: &CatalogStore, node: NodeId) -> bool {
    use flowstone_core::catalog::NodeState;
    let current = catalog.current();
    let node = current.node(node);
    node.is_some_and(|n| n.state != NodeState::Removed)
}
