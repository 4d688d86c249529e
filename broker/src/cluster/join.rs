//! From a token to the data directory of a node.

use super::IDENTITY;
use crate::config::ClusterSettings;
use crate::data_dir::{Unfinished, random_id};
use flowstone_peer::Clock;
use flowstone_peer::identity::NodeKey;
use flowstone_peer::identity::files::{read_secret, write_credentials, write_secret};
use flowstone_peer::join::{JoinToken, Joined, Joiner};
use flowstone_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// The key of a node that is joining: a second try has the same, and gets the same number.
const KEY: &str = "joining.key";

/// A cluster that elects a leader, or takes other nodes, has done so by then.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// What a joiner tells of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NoteOfJoiner {
    pub(super) name: String,
}

/// What a joiner is told of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NoteOfCluster {
    pub(super) shards: u16,
}

/// `TOKEN@HOST:PORT`, as `flowstone cluster token` prints it.
#[derive(Clone)]
struct JoinFrom {
    token: JoinToken,
    nodes: Vec<SocketAddr>,
}

impl FromStr for JoinFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (token, address) = text
            .trim()
            .split_once('@')
            .ok_or("say TOKEN@HOST:PORT, as `flowstone cluster token` prints it")?;
        let token = token
            .parse()
            .map_err(|e: flowstone_peer::join::NotAToken| e.to_string())?;
        let found = address.to_socket_addrs();
        let nodes = found.map_err(|e| format!("'{address}' is no address of a node: {e}"))?;
        let nodes = nodes.collect();
        Ok(Self { token, nodes })
    }
}

/// Joins a cluster and makes `path`, which is empty, the data directory of the new node. What fails can be
/// tried again with the same token.
///
/// # Errors
/// What is wrong, as text for an operator.
pub(crate) fn join(path: &Path, from: &str, settings: &ClusterSettings) -> Result<NodeId, String> {
    let (from, peer): (JoinFrom, _) = (from.parse()?, told_address(settings)?);
    let directory = Unfinished::begin(path, &[KEY, IDENTITY]).map_err(|e| e.to_string())?;
    let key = key_at(&path.join(KEY))?;
    let name = random_id().map_err(|e| e.to_string())?;
    let note = NoteOfJoiner {
        name: format!("node-{}", &name[..8]),
    };
    let joiner = Joiner {
        token: from.token,
        cluster: from.nodes,
        key,
        addresses: vec![peer],
        note: postcard::to_allocvec(&note).map_err(|e| e.to_string())?,
        clock: Clock::of_machine(),
        patience: JOIN_PATIENCE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let joined: Joined = runtime.block_on(joiner.join()).map_err(|e| e.to_string())?;
    let cluster: NoteOfCluster =
        postcard::from_bytes(&joined.note).map_err(|e| format!("what the cluster says: {e}"))?;
    let credentials = &joined.credentials;
    let name = credentials.name;
    write_credentials(&path.join(IDENTITY), credentials).map_err(|e| e.to_string())?;
    directory
        .finish(name.cluster.to_string(), cluster.shards)
        .map_err(|e| e.to_string())?;
    // It is in the credentials now.
    let _ = std::fs::remove_file(path.join(KEY));
    Ok(name.node)
}

/// Where the others reach this node.
fn told_address(settings: &ClusterSettings) -> Result<SocketAddr, String> {
    let (peer, advertise) = (&settings.peer, &settings.advertise);
    let text = match peer.rsplit_once(':') {
        Some((_, port)) if !advertise.is_empty() => format!("{advertise}:{port}"),
        _ => peer.clone(),
    };
    let found = text.to_socket_addrs();
    let address = found.map_err(|e| format!("'{text}': {e}"))?.next();
    let address = address.ok_or_else(|| format!("'{text}' is no address"))?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!(
            "the others must know where they reach this node, and {address} does not say so"
        ));
    }
    Ok(address)
}

fn key_at(path: &Path) -> Result<NodeKey, String> {
    let text = |e: flowstone_peer::identity::IdentityError| e.to_string();
    if path.exists() {
        return NodeKey::from_pkcs8(read_secret(path).map_err(text)?).map_err(text);
    }
    let key = NodeKey::generate().map_err(text)?;
    write_secret(path, &key.to_pkcs8()).map_err(text)?;
    Ok(key)
}
