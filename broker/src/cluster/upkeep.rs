//! Where the other nodes are, and a certificate that does not end.

use super::IDENTITY;
use super::admission;
use super::wire::Wire;
use crate::service::Service;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Addresses, Command, Node, NodeCommand, NodeState};
use flowstone_peer::identity::files::write_credentials;
use flowstone_peer::{Clock, renew, renew_here};
use flowstone_wire::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The certificate is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// An address that could not be told is told again after so long.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(200);
/// Names that were not found are looked up again after so long.
const LOOKUP_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(wire: &Arc<Wire>, service: &Arc<Service>, data: &Path, certificate_hours: u64) {
    let runtime = service.runtime();
    runtime.spawn(keep_peers(wire.clone(), Arc::downgrade(service)));
    let (wire, weak) = (wire.clone(), Arc::downgrade(service));
    let path = data.join(IDENTITY);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(service) = weak.upgrade() else {
                return;
            };
            keep_certified(&wire, &service, path.clone(), certificate_hours).await;
        }
    });
}

/// Tells the endpoint where nodes are, as the catalog changes.
async fn keep_peers(wire: Arc<Wire>, service: std::sync::Weak<Service>) {
    let Some(mut changes) = service.upgrade().map(|s| s.catalog_store().watch()) else {
        return;
    };
    let mut told: BTreeMap<NodeId, String> = BTreeMap::new();
    loop {
        let catalog = changes.borrow_and_update().clone();
        let Some(me) = service.upgrade().map(|s| s.me()) else {
            return;
        };
        let all_found = tell_peers(&wire, &catalog, me, &mut told).await;
        drop(catalog);
        let changed = changes.changed();
        let ended = if all_found {
            changed.await.is_err()
        } else {
            let waited = tokio::time::timeout(LOOKUP_EVERY, changed).await;
            waited.is_ok_and(|changed| changed.is_err())
        };
        if ended {
            return;
        }
    }
}

async fn tell_peers(
    wire: &Wire,
    catalog: &Catalog,
    me: NodeId,
    told: &mut BTreeMap<NodeId, String>,
) -> bool {
    let mut all_found = true;
    for node in catalog.nodes().filter(|n| n.id != me) {
        if node.state == NodeState::Removed {
            wire.with(|endpoint| endpoint.remove_peer(node.id));
            continue;
        }
        let address = &node.addresses.peer;
        if told.get(&node.id) == Some(address) || address.is_empty() {
            continue;
        }
        match tell_peer(wire, node).await {
            Ok(()) => drop(told.insert(node.id, address.clone())),
            Err(why) => {
                tracing::warn!(node = node.id.0, "another node is not found: {why}");
                all_found = false;
            }
        }
    }
    all_found
}

async fn tell_peer(wire: &Wire, node: &Node) -> Result<(), String> {
    let address = &node.addresses.peer;
    let found = tokio::net::lookup_host(address).await;
    let found = found.map_err(|e| format!("'{address}': {e}"))?.collect();
    match wire.with(|endpoint| endpoint.set_peer(node.id, found)) {
        Some(Err(e)) => Err(e.to_string()),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Gets another certificate in time.
async fn keep_certified(
    wire: &Arc<Wire>,
    service: &Arc<Service>,
    path: PathBuf,
    certificate_hours: u64,
) {
    let now_s = Clock::of_machine().now_s();
    let me = service.me();
    let due = wire.with(|e| e.credentials().renew_at_s(u64::from(me.0)) <= now_s);
    if due != Some(true) {
        return;
    }
    let catalog = service.catalog();
    let others = catalog.nodes().filter(|n| n.state == NodeState::Active);
    let others: Vec<NodeId> = others.map(|n| n.id).filter(|id| *id != me).collect();
    let (wire, handle) = (wire.clone(), service.runtime().clone());
    let issue = admission::issue_by(service, certificate_hours);
    // On a thread that may wait: the endpoint might be dropped there.
    let renewed = tokio::task::spawn_blocking(move || {
        let endpoint = wire.endpoint().ok_or("the node is stopping")?;
        let by_others = others.into_iter().find_map(|node| {
            let renewed = handle.block_on(renew(&endpoint, node));
            let why = |e| tracing::debug!(by = node.0, "the certificate is not renewed: {e}");
            renewed.map_err(why).ok()
        });
        let next = match by_others {
            Some(next) => next,
            None => handle
                .block_on(renew_here(&endpoint, &*issue))
                .map_err(|e| e.to_string())?,
        };
        write_credentials(&path, &next).map_err(|e| e.to_string())
    });
    match renewed.await {
        Ok(Ok(())) => tracing::info!("this node has another certificate"),
        Ok(Err(why)) => tracing::warn!("this node's certificate is not renewed: {why}"),
        Err(e) => tracing::warn!("this node's certificate is not renewed: {e}"),
    }
}

/// Addresses of the doors: for other nodes, native, HTTP.
type Doors = (Option<SocketAddr>, Option<SocketAddr>, Option<SocketAddr>);

/// Where others reach the doors of this node.
///
/// # Errors
/// Where that is not to be seen.
pub(crate) fn addresses(advertise: &str, doors: Doors) -> Result<Addresses, String> {
    let told = |door: Option<SocketAddr>| match door {
        None => Ok(String::new()),
        Some(door) if !advertise.is_empty() => Ok(format!("{advertise}:{}", door.port())),
        Some(door) if door.ip().is_unspecified() => Err(format!(
            "others cannot reach {door}: say by which host they do, in `cluster.advertise`"
        )),
        Some(door) => Ok(door.to_string()),
    };
    Ok(Addresses {
        peer: told(doors.0)?,
        native: told(doors.1)?,
        http: told(doors.2)?,
    })
}

/// Has the catalog say where this node is, as soon as that can be agreed on.
pub(crate) fn announce(service: &Arc<Service>, addresses: Addresses) {
    let weak = Arc::downgrade(service);
    service.runtime().spawn(async move {
        loop {
            let Some(service) = weak.upgrade() else {
                return;
            };
            let node = service.me();
            let known = service.catalog().node(node).map(|n| n.addresses.clone());
            if known.as_ref() == Some(&addresses) {
                return;
            }
            if known.is_some() {
                let addresses = addresses.clone();
                let set = Command::Node(NodeCommand::SetAddresses { node, addresses });
                if let Err(e) = service.clone().command(set).await {
                    tracing::warn!("the cluster does not know yet where this node is: {e}");
                }
            }
            drop(service);
            tokio::time::sleep(ANNOUNCE_EVERY).await;
        }
    });
}
