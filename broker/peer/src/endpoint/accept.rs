//! Those who dial this node: nodes of the cluster, joiners, and strangers.

use super::connection;
use super::hello::{self, Choice, Hello, choose};
use super::peer::Peer;
use super::shared::{Shared, close, code};
use crate::identity::tls::ALPN_JOIN;
use crate::identity::{IdentityError, check::name_in};
use crate::join;
use crate::limits::{GREETING_TIMEOUT, HANDSHAKES_FREE, HANDSHAKES_MAX};
use crate::stream::HELLO;
use flowstone_wire::NodeId;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets in whom it may, until the endpoint is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = shared.endpoint.accept().await {
        let taken = HANDSHAKES_MAX - places.available_permits();
        if taken >= HANDSHAKES_FREE && incoming.may_retry() && !incoming.remote_address_validated()
        {
            // Costs the sender of made-up addresses more than us.
            let _ = incoming.retry();
            continue;
        }
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(welcome(shared.clone(), incoming, place));
            }
            Err(_) => incoming.refuse(),
        }
    }
}

/// One that dials. It has its place until it is known who it is.
async fn welcome(shared: Arc<Shared>, incoming: quinn::Incoming, place: OwnedSemaphorePermit) {
    let remote = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(GREETING_TIMEOUT, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::info!(%remote, %error, "a handshake failed");
            return;
        }
        Err(_) => return,
    };
    if is_joiner(&connection) {
        // A joiner has its place for as long as it takes: joiners are few.
        let admission = shared.table().admission.clone();
        join::serve(connection, admission).await;
        return;
    }
    match greeted(&shared, &connection).await {
        Ok(Some((peer, life))) => {
            drop(place);
            connection::run(shared, peer, connection, life).await;
        }
        Ok(None) => close(&connection, code::REPLACED, "another connection stays"),
        Err(error) => {
            tracing::warn!(%remote, %error, "a connection was refused");
            close(&connection, code::STRANGER, &error);
        }
    }
}

fn is_joiner(connection: &quinn::Connection) -> bool {
    let data = connection.handshake_data();
    let data = data.and_then(|any| any.downcast::<HandshakeData>().ok());
    data.is_some_and(|d| d.protocol.as_deref() == Some(ALPN_JOIN))
}

/// Whose certificate it is; that it is valid was seen in the handshake.
fn who(connection: &quinn::Connection) -> Result<NodeId, IdentityError> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.ok_or(IdentityError::NoCertificate)?;
    let shown = chain.first().ok_or(IdentityError::NoCertificate)?;
    Ok(name_in(shown)?.node)
}

/// Reads the greeting of a node, and takes or leaves the connection.
async fn greeted(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
) -> Result<Option<(Arc<Peer>, u64)>, String> {
    let node = who(connection).map_err(|e| e.to_string())?;
    let peer = shared.peer_or_new(node).map_err(|e| e.to_string())?;
    let greeting = async {
        let (send, mut receive) = connection.accept_bi().await.map_err(|e| e.to_string())?;
        let mut bytes = [0; hello::BYTES];
        let read = receive.read_exact(&mut bytes).await;
        read.map_err(|e| e.to_string())?;
        match Hello::decode(&bytes) {
            Some(hello) if hello.flag == HELLO => Ok((send, hello.life)),
            _ => Err(format!("node {node} does not greet")),
        }
    };
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, greeting).await;
    let (mut send, life) =
        greeting.map_err(|_| format!("node {node} does not greet in time"))??;
    let stays = settle(shared, &peer, connection, life).await;
    let answer = Hello::answer(stays, shared.life).encode();
    let told = send.write_all(&answer).await;
    let _ = send.finish();
    if !stays {
        // The other side closes; if it does not, this side does.
        let _ = tokio::time::timeout(GREETING_TIMEOUT, connection.closed()).await;
        return Ok(None);
    }
    if let Err(error) = told {
        peer.lost(connection, &error.to_string());
        return Err(error.to_string());
    }
    Ok(Some((peer, life)))
}

/// Whether this connection stays. Waits for this node's own dial where that decides.
async fn settle(
    shared: &Shared,
    peer: &Arc<Peer>,
    connection: &quinn::Connection,
    life: u64,
) -> bool {
    let mut stamp = peer.watch();
    loop {
        stamp.mark_unchanged();
        let chosen = peer.adopt(connection, life, |standing| {
            match choose(shared.me, peer.node, life, standing) {
                Choice::Take => Ok(()),
                other => Err(other),
            }
        });
        match chosen {
            Ok(replaced) => {
                if let Some(other) = replaced {
                    close(&other, code::REPLACED, "another connection stays");
                }
                return true;
            }
            Err(Some(Choice::Wait)) => {}
            Err(_) => return false,
        }
        tokio::select! {
            _ = stamp.changed() => {}
            _ = connection.closed() => return false,
        }
    }
}
