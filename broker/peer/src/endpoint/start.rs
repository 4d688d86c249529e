//! Opening the socket and starting the threads.

use super::options::{PeerOptions, StartError};
use super::shared::{Shared, Table, server_config};
use super::{PeerEndpoint, accept, transport};
use crate::snapshot::Rate;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, RwLock};
use tokio::sync::watch;

/// Largest datagram that is received: what loopback carries.
const DATAGRAM_BYTES_MAX: u16 = 65_527;

pub(super) fn start(options: PeerOptions) -> Result<PeerEndpoint, StartError> {
    if !options.listen.ip().is_loopback() && !options.allow_remote {
        return Err(StartError::Remote(options.listen));
    }
    options.credentials.check(options.clock.now_s())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .thread_name("peer")
        .enable_all()
        .build()
        .map_err(|e| StartError::Setup(e.to_string()))?;
    let shared = {
        // quinn registers the socket with the runtime that it finds.
        let _entered = runtime.enter();
        Arc::new(shared(options, runtime.handle().clone())?)
    };
    runtime.spawn(accept::run(shared.clone()));
    Ok(PeerEndpoint {
        shared,
        runtime: Some(runtime),
    })
}

fn shared(options: PeerOptions, runtime: tokio::runtime::Handle) -> Result<Shared, StartError> {
    let transport = transport::transport(&options.wire)?;
    let server = server_config(&options.credentials, &options.clock, &transport)?;
    let socket = socket(options.listen, options.wire.socket_bytes)?;
    let wire = &options.wire;
    let largest = wire
        .datagram_bytes_max
        .max(wire.datagram_bytes_min)
        .max(1472);
    let mut config = quinn::EndpointConfig::default();
    config
        .max_udp_payload_size(DATAGRAM_BYTES_MAX.min(largest))
        .map_err(|e| StartError::Setup(e.to_string()))?;
    let quinn_runtime = Arc::new(quinn::TokioRuntime);
    let setup = |e: std::io::Error| StartError::Setup(e.to_string());
    let endpoint =
        quinn::Endpoint::new(config, Some(server), socket, quinn_runtime).map_err(setup)?;
    let table = Table {
        credentials: Arc::new(options.credentials.clone()),
        admission: None,
        handlers: BTreeMap::new(),
        peers: BTreeMap::new(),
        removed: BTreeSet::new(),
    };
    Ok(Shared {
        me: options.credentials.name.node,
        life: options.life,
        seed: options.seed,
        local_addr: endpoint.local_addr().map_err(setup)?,
        endpoint,
        transport,
        clock: options.clock,
        inbox: options.inbox,
        rate: Rate::new(options.snapshot_bytes_per_s),
        runtime,
        table: RwLock::new(table),
        is_stopping: watch::Sender::new(false),
    })
}

fn socket(address: SocketAddr, buffer_bytes: usize) -> Result<UdpSocket, StartError> {
    let failed = |source| StartError::Listen { address, source };
    let socket = UdpSocket::bind(address).map_err(failed)?;
    // The kernel gives what it may (net.core.rmem_max); less is slower, not wrong.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, buffer_bytes);
    Ok(socket)
}
