//! Whether somebody may join, and what a node that has joined is given.

use super::found::{authority_of, hash_of, is_listed};
use super::join::{NoteOfCluster, NoteOfJoiner};
use super::wire::Wire;
use crate::service::Service;
use crate::worker::unix_ms;
use flowstone_core::catalog::{Addresses, Command, Event, NodeCommand, NodeSpec, NodeState, Role};
use flowstone_peer::identity::authority::Issued;
use flowstone_peer::identity::{Authority, PublicKey, Term, Trust};
use flowstone_peer::join::{Admission, Admitted, JoinAsk, JoinRefusal, MemberAddress, TokenKey};
use flowstone_peer::{BoxFuture, Clock, Issue, RENEW_KIND, RenewalHandler};
use flowstone_wire::{ErrorCode, NodeId};
use std::sync::{Arc, Weak};

struct Door {
    service: Weak<Service>,
    certificate_hours: u64,
}

impl Admission for Door {
    fn admit(&self, ask: JoinAsk) -> BoxFuture<Result<Admitted, JoinRefusal>> {
        let (service, hours) = (self.service.upgrade(), self.certificate_hours);
        Box::pin(async move {
            let stopping = || JoinRefusal::NotNow("this node is stopping".into());
            admit(service.ok_or_else(stopping)?, ask, hours).await
        })
    }
}

async fn admit(service: Arc<Service>, ask: JoinAsk, hours: u64) -> Result<Admitted, JoinRefusal> {
    let not_now = JoinRefusal::NotNow;
    let authority = authority_of(service.catalog_store()).map_err(not_now)?;
    let authority = authority.ok_or_else(|| not_now("the authority is not known here".into()))?;
    let note: NoteOfJoiner =
        postcard::from_bytes(ask.note()).map_err(|e| JoinRefusal::Request(e.to_string()))?;
    let node = match again(&service, &ask) {
        Some(node) => node,
        None => make_node(&service, &ask, note).await?,
    };
    let issued = issue(&authority, node, &ask.public_key(), hours).map_err(not_now)?;
    let catalog = service.catalog();
    let members = catalog.nodes().filter(|n| n.state != NodeState::Removed);
    let members = members.filter_map(|n| {
        let addresses = vec![n.addresses.peer.parse().ok()?];
        Some(MemberAddress {
            node: n.id,
            addresses,
        })
    });
    let note = NoteOfCluster {
        shards: catalog.shards(),
    };
    Ok(Admitted {
        node,
        cluster: authority.cluster(),
        issued,
        trust: Trust::only(authority.trusted()),
        members: members.collect(),
        note: postcard::to_allocvec(&note).expect("a vector takes everything"),
    })
}

/// The number that this very key was given before: the answer did not arrive.
fn again(service: &Service, ask: &JoinAsk) -> Option<NodeId> {
    let hash = hash_of(&ask.public_key());
    let catalog = service.catalog();
    let mut joining = catalog.nodes().filter(|n| n.state == NodeState::Joining);
    joining
        .find(|n| n.fingerprints.contains(&hash))
        .map(|n| n.id)
}

async fn make_node(
    service: &Arc<Service>,
    ask: &JoinAsk,
    note: NoteOfJoiner,
) -> Result<NodeId, JoinRefusal> {
    let catalog = service.catalog();
    let mut tokens = catalog.tokens().map(|(hash, _)| *hash);
    let token = tokens.find(|hash| ask.is_proven(&TokenKey(*hash)));
    let token = token.ok_or(JoinRefusal::Token)?;
    let peer = ask.addresses().first();
    let node = NodeSpec {
        name: note.name,
        addresses: Addresses {
            peer: peer.map_or(String::new(), ToString::to_string),
            ..Addresses::default()
        },
        // What it is for is what the token is good for.
        role: Role::Data,
        fingerprint: Some(hash_of(&ask.public_key())),
    };
    let now_ms = u64::try_from(unix_ms()).unwrap_or(0);
    let join = NodeCommand::Join {
        token,
        now_ms,
        node,
    };
    let joined = service.clone().command(Command::Node(join)).await;
    match joined {
        Ok(Event::NodeJoined(node)) => {
            tracing::info!(node = node.0, "a node has joined");
            Ok(node)
        }
        Ok(_) => Err(JoinRefusal::NotNow("the catalog gave no number".into())),
        Err(e) if e.code == ErrorCode::NotFound => Err(JoinRefusal::Token),
        Err(e) if e.code == ErrorCode::InvalidRequest || e.code == ErrorCode::LimitReached => {
            Err(JoinRefusal::Unwanted(e.to_string()))
        }
        Err(e) => Err(JoinRefusal::NotNow(e.to_string())),
    }
}

fn issue(
    authority: &Authority,
    node: NodeId,
    key: &PublicKey,
    hours: u64,
) -> Result<Issued, String> {
    let now_s = Clock::of_machine().now_s();
    let issued = authority.issue(node, key, Term::of_hours(now_s, hours));
    issued.map_err(|e| e.to_string())
}

/// Gives a node that is still listed a certificate for another key.
async fn renew(
    service: Option<Arc<Service>>,
    node: NodeId,
    key: PublicKey,
    hours: u64,
) -> Result<(Issued, Trust), String> {
    let service = service.ok_or("this node is stopping")?;
    if !is_listed(service.catalog_store(), node) {
        return Err(format!("node {node} is not of this cluster any more"));
    }
    let authority = authority_of(service.catalog_store())?.ok_or("no authority is known here")?;
    let fingerprint = hash_of(&key);
    let certify = Command::Node(NodeCommand::Certify { node, fingerprint });
    let certified = service.clone().command(certify).await;
    certified.map_err(|e| e.to_string())?;
    Ok((
        issue(&authority, node, &key, hours)?,
        Trust::only(authority.trusted()),
    ))
}

/// Issues certificates for as long as there is a service.
pub(super) fn issue_by(service: &Arc<Service>, certificate_hours: u64) -> Arc<Issue> {
    let weak = Arc::downgrade(service);
    Arc::new(move |node, key| {
        let service = weak.upgrade();
        Box::pin(renew(service, node, key, certificate_hours))
    })
}

pub(super) fn answer(wire: &Wire, service: &Arc<Service>, certificate_hours: u64) {
    let renewals = RenewalHandler(issue_by(service, certificate_hours));
    wire.with(|endpoint| {
        endpoint.register(RENEW_KIND, Arc::new(renewals));
        endpoint.set_admission(Some(Arc::new(Door {
            service: Arc::downgrade(service),
            certificate_hours,
        })));
    });
}
