//! quinn alone: one connection, one stream, the same tuning, nothing of ours in between.

use super::nodes::{authority, credentials, mapping};
use super::setting::Setting;
use bytes::Bytes;
use flowstone_peer::endpoint::transport;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Bytes a second, and the size of the datagrams.
pub(crate) fn throughput(setting: &Setting, dir: &Path) -> Result<(f64, u16), Box<dyn Error>> {
    let bytes = mapping(dir)?;
    let (server, client, name) = configs(setting)?;
    let (there, here) = (runtime(setting)?, runtime(setting)?);
    let receiver = endpoint(setting, &there, Some(server))?;
    let address = receiver.local_addr()?;
    let received = there.spawn(receive(receiver));
    let sender = endpoint(setting, &here, None)?;
    let total = setting.bytes;
    let sent = here.spawn(async move {
        let connection = sender.connect_with(client, address, &name)?.await?;
        let mut stream = connection.open_uni().await?;
        let start = Instant::now();
        let mut left = total;
        let mut at = 0;
        while left > 0 {
            let size = left.min(1 << 20) as usize;
            stream.write_chunk(bytes.slice(at..at + size)).await?;
            left -= size as u64;
            at = (at + size) % bytes.len();
        }
        stream.finish()?;
        stream.stopped().await?;
        let mtu = connection.stats().path.current_mtu;
        Ok::<_, Box<dyn Error + Send + Sync>>((start.elapsed(), mtu, sender))
    });
    let sent = here.block_on(sent)?;
    let (elapsed, mtu, _sender) = sent.map_err(|e| e.to_string())?;
    let arrived = there.block_on(received)?;
    if arrived != total {
        return Err(format!("{arrived} of {total} bytes").into());
    }
    Ok((total as f64 / elapsed.as_secs_f64(), mtu))
}

async fn receive(endpoint: quinn::Endpoint) -> u64 {
    let Some(incoming) = endpoint.accept().await else {
        return 0;
    };
    let Ok(connection) = incoming.await else {
        return 0;
    };
    let Ok(mut stream) = connection.accept_uni().await else {
        return 0;
    };
    let mut pieces = [const { Bytes::new() }; 32];
    let mut bytes = 0;
    while let Ok(Some(count)) = stream.read_chunks(&mut pieces).await {
        bytes += pieces[..count].iter().map(Bytes::len).sum::<usize>() as u64;
    }
    drop(stream);
    connection.closed().await;
    bytes
}

fn runtime(setting: &Setting) -> Result<tokio::runtime::Runtime, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(setting.threads)
        .enable_all()
        .build()?)
}

fn endpoint(
    setting: &Setting,
    runtime: &tokio::runtime::Runtime,
    server: Option<quinn::ServerConfig>,
) -> Result<quinn::Endpoint, Box<dyn Error>> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let buffer = setting.wire.socket_bytes;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, buffer)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, buffer)?;
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(setting.wire.datagram_bytes_max.max(1472))?;
    let _entered = runtime.enter();
    let quinn_runtime = Arc::new(quinn::TokioRuntime);
    Ok(quinn::Endpoint::new(config, server, socket, quinn_runtime)?)
}

fn provider(setting: &Setting) -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let mut provider = ring::default_provider();
    // QUIC's first packets have AES-128 whatever is agreed on.
    provider.cipher_suites = match setting.cipher.as_str() {
        "aes256" => vec![TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256],
        "chacha" => vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256],
        _ => vec![TLS13_AES_128_GCM_SHA256],
    };
    Arc::new(provider)
}

type Configs = (quinn::ServerConfig, quinn::ClientConfig, String);

fn configs(setting: &Setting) -> Result<Configs, Box<dyn Error>> {
    let authority = authority();
    let node = credentials(&authority, 2);
    let transport = transport(&setting.wire)?;
    let versions = &[&rustls::version::TLS13];
    let chain = vec![CertificateDer::from(node.issued.certificate.clone())];
    let key = PrivatePkcs8KeyDer::from(node.key.to_pkcs8());
    let server = rustls::ServerConfig::builder_with_provider(provider(setting))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(chain, key.into())?;
    let server = QuicServerConfig::try_from(server)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport.clone());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(authority.trusted().certificate))?;
    let client = rustls::ClientConfig::builder_with_provider(provider(setting))
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = QuicClientConfig::try_from(client)?;
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport);
    Ok((server, client, node.name.to_string()))
}
