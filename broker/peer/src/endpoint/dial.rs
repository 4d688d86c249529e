//! Dialling a peer whenever there is no connection with it.

use super::connection;
use super::hello::{self, Hello, Standing};
use super::peer::{Peer, Task};
use super::shared::{Shared, close, code};
use crate::identity::tls::{self, Judge, Verdict};
use crate::identity::{NodeName, Side, check};
use crate::jitter::{Backoff, mix};
use crate::limits::GREETING_TIMEOUT;
use quinn::crypto::rustls::QuicClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection that stood for so long was no part of the trouble.
const STEADY: Duration = Duration::from_secs(1);

/// Keeps a connection with a peer, until it is removed or the endpoint stops.
pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut backoff = Backoff::new(mix(shared.seed ^ u64::from(peer.node.0)));
    let mut stamp = peer.watch();
    let mut stopping = shared.is_stopping.subscribe();
    let (mut up_since, mut pause) = (None::<Instant>, None::<Duration>);
    while !*stopping.borrow_and_update() {
        stamp.mark_unchanged();
        match peer.task() {
            Task::End => return,
            Task::Rest => {
                if peer.connection().is_some() {
                    up_since.get_or_insert_with(Instant::now);
                }
                tokio::select! {
                    _ = stamp.changed() => {}
                    _ = stopping.changed() => {}
                }
            }
            Task::Dial(addresses) => {
                if up_since.take().is_some_and(|at| at.elapsed() >= STEADY) {
                    backoff.reset();
                    pause = None;
                }
                if let Some(wait) = pause.take() {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = stopping.changed() => {}
                    }
                    continue;
                }
                dial_all(&shared, &peer, &addresses).await;
                pause = Some(backoff.next_wait());
            }
        }
    }
}

/// Tries the addresses in turn, until one has worked or the peer has dialled us.
async fn dial_all(shared: &Arc<Shared>, peer: &Arc<Peer>, addresses: &[SocketAddr]) {
    for address in addresses {
        peer.set_dialling(true);
        let dialled = tokio::select! {
            dialled = dial(shared, peer, *address) => dialled,
            _ = peer.wait_up() => Ok(None),
        };
        peer.set_dialling(false);
        match dialled {
            Ok(Some((connection, life))) => {
                let (shared, peer) = (shared.clone(), peer.clone());
                tokio::spawn(connection::run(shared, peer, connection, life));
                return;
            }
            Ok(None) => return,
            Err(why) => {
                tracing::debug!(node = %peer.node, %address, why, "cannot reach a peer");
                peer.note_error(format!("{address}: {why}"));
            }
        }
    }
}

/// Dials one address. `None` says that another connection stays.
async fn dial(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    address: SocketAddr,
) -> Result<Option<(quinn::Connection, u64)>, String> {
    let verdict = Verdict::default();
    let (config, name) = client_config(shared, peer, verdict.clone())?;
    let connecting = shared
        .endpoint
        .connect_with(config, address, &name.to_string())
        .map_err(|e| e.to_string())?;
    let connected = tokio::time::timeout(GREETING_TIMEOUT, connecting).await;
    let connection = connected
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|e| refusal(&verdict, &e))?;
    let greeted = tokio::time::timeout(GREETING_TIMEOUT, greet(shared, &connection)).await;
    let answer = greeted.map_err(|_| "no greeting in time".to_owned())??;
    if answer.flag == 0 {
        close(&connection, code::REPLACED, "another connection stays");
        return Ok(None);
    }
    // Who was dialled has decided; only a connection that began anew meanwhile is better.
    let adopted = peer.adopt(&connection, answer.life, |standing: Standing| {
        if standing.current.is_some() {
            Err(())
        } else {
            Ok(())
        }
    });
    if adopted.is_err() {
        close(&connection, code::REPLACED, "another connection stays");
        return Ok(None);
    }
    Ok(Some((connection, answer.life)))
}

fn client_config(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    verdict: Verdict,
) -> Result<(quinn::ClientConfig, NodeName), String> {
    let own = shared.credentials();
    let (node, cluster) = (peer.node, own.name.cluster);
    let (trust, clock) = (own.trust.clone(), shared.clock.clone());
    let judge = Judge::new(verdict, move |chain| {
        check(chain, &trust, Side::Dialled(node), cluster, clock.now_s()).map(|_| ())
    });
    let config = tls::client(&own, judge).map_err(|e| e.to_string())?;
    let config = QuicClientConfig::try_from(config).map_err(|e| e.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(config));
    config.transport_config(shared.transport.clone());
    Ok((config, NodeName { node, cluster }))
}

async fn greet(shared: &Shared, connection: &quinn::Connection) -> Result<Hello, String> {
    let told = |why: &dyn std::fmt::Display| match connection.close_reason() {
        Some(quinn::ConnectionError::ConnectionClosed(close)) => alert(&close),
        Some(reason) => reason.to_string(),
        None => why.to_string(),
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| told(&e))?;
    let hello = Hello::greeting(shared.life).encode();
    send.write_all(&hello).await.map_err(|e| told(&e))?;
    let mut bytes = [0; hello::BYTES];
    let read = receive.read_exact(&mut bytes).await;
    read.map_err(|e| told(&e))?;
    Hello::decode(&bytes).ok_or_else(|| "the peer does not greet".to_owned())
}

/// Why a handshake has failed: what this side has found, or else what the other side says.
fn refusal(verdict: &Verdict, error: &quinn::ConnectionError) -> String {
    if let Some(why) = verdict.take() {
        return why.to_string();
    }
    match error {
        quinn::ConnectionError::ConnectionClosed(close) => alert(close),
        other => other.to_string(),
    }
}

/// TLS says no more than a number (RFC 8446, section 6.2; RFC 9001, section 4.8). Ours are made in
/// `identity/tls.rs`.
fn alert(close: &quinn::ConnectionClose) -> String {
    let number = u64::from(close.error_code);
    let what = match number.checked_sub(0x100) {
        Some(42) => "the peer refuses this node's certificate",
        Some(45) => {
            "the peer finds this node's certificate expired or not valid yet; renew it, and compare the clocks of both nodes"
        }
        Some(48) => {
            "the peer does not trust the authority of this node's certificate; join the cluster again if the authority was changed meanwhile"
        }
        Some(49) => "the peer belongs to another cluster; check the addresses of the cluster",
        Some(120) => "the peer speaks another protocol or version; upgrade the older one of both",
        _ => return close.to_string(),
    };
    what.to_owned()
}
