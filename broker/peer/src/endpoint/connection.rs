//! A connection that stays: its streams, from its first to its last moment.

use super::peer::Peer;
use super::shared::{Shared, close, code};
use crate::stream::{CALL, Reader, SNAPSHOT, SPANS, StreamError, WORDS};
use crate::{call, link, snapshot};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What the streams of a connection share.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) connection: quinn::Connection,
    pub(crate) held: link::Held,
    pub(crate) calls: call::Budget,
    pub(crate) snapshots: tokio::sync::Semaphore,
}

/// Serves a connection until it is lost.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    connection: quinn::Connection,
    life: u64,
) {
    let node = peer.node;
    tracing::info!(%node, life, remote = %connection.remote_address(), "connected with a node");
    shared.inbox.peer_changed(node, true);
    let wire = Arc::new(Wire {
        shared: shared.clone(),
        peer: peer.clone(),
        connection: connection.clone(),
        held: link::Held::default(),
        calls: call::Budget::new(),
        snapshots: tokio::sync::Semaphore::new(crate::limits::SNAPSHOTS_MAX as usize),
    });
    // Dropped with everything in it when the connection is lost.
    let mut tasks = JoinSet::new();
    tasks.spawn(ended(wire.clone(), link::send_words(wire.clone())));
    tasks.spawn(ended(wire.clone(), link::send_spans(wire.clone())));
    tasks.spawn(one_way(wire.clone()));
    tasks.spawn(two_way(wire));
    let why = connection.closed().await.to_string();
    if peer.lost(&connection, &why) {
        tracing::info!(%node, why, "the connection with a node was lost");
        shared.inbox.peer_changed(node, false);
    }
}

/// A peer that breaks the protocol is not believed any further: the connection goes, and comes anew.
async fn ended(wire: Arc<Wire>, task: impl Future<Output = Result<(), StreamError>>) {
    if let Err(StreamError::Peer(why)) = task.await {
        tracing::warn!(node = %wire.peer.node, why, "a node breaks the protocol");
        close(&wire.connection, code::BROKEN, &why);
    }
}

async fn one_way(wire: Arc<Wire>) {
    let mut tasks = JoinSet::new();
    let mut seen = Vec::with_capacity(2);
    while let Ok(stream) = wire.connection.accept_uni().await {
        let mut reader = Reader::new(stream);
        let Ok(Some([kind])) = reader.head::<1>().await else {
            continue;
        };
        let task = match kind {
            WORDS | SPANS if !seen.contains(&kind) => link::receive(wire.clone(), reader),
            _ => {
                let why = format!("it opens a stream of kind {kind}, which it may not");
                close(&wire.connection, code::BROKEN, &why);
                return;
            }
        };
        seen.push(kind);
        tasks.spawn(ended(wire.clone(), task));
    }
}

async fn two_way(wire: Arc<Wire>) {
    let mut tasks = JoinSet::new();
    while let Ok((send, receive)) = wire.connection.accept_bi().await {
        // As many as the peer may open at once; those that are done make room here.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(asked(wire.clone(), send, Reader::new(receive)));
    }
}

async fn asked(wire: Arc<Wire>, send: quinn::SendStream, mut reader: Reader) {
    let served = async {
        match reader.head::<1>().await? {
            Some([CALL]) => call::serve(&wire, send, reader).await,
            Some([SNAPSHOT]) => snapshot::receive(&wire, send, reader).await,
            other => Err(StreamError::Peer(format!(
                "it opens a stream of kind {other:?}"
            ))),
        }
    };
    ended(wire.clone(), served).await;
}
