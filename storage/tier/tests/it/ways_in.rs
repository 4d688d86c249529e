//! Ways to a bucket beside keys and plain HTTP: a server with a certificate of its own, and keys that the
//! metadata service of the machine hands out.

use crate::buckets::{s3_settings, there_and_back};
use crate::s3_server::{self, KEY, Manners, SECRET};
use base64::Engine;
use flowstone_tier::{Credentials, Tier};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A server's side of TLS with a certificate for loopback, and the file of the authority that made it.
fn tls(dir: &Path) -> TlsAcceptor {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let of_authority = authority.self_signed(&authority_key).unwrap();
    std::fs::write(dir.join("ca.pem"), pem(of_authority.der())).unwrap();
    let issuer = Issuer::from_params(&authority, &authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Takes TLS for a server that does not.
async fn behind_tls(tls: TlsAcceptor, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                // A client that does not believe it goes.
                let Ok(mut client) = tls.accept(socket).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_ones_own_is_believed_if_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let tls = tls(dir.path());
    let root = dir.path().join("root");
    let server = s3_server::start(&root, Manners::Honest).await;
    let server = behind_tls(tls, server).await;
    let mut settings = s3_settings(server);
    settings.endpoint = Some(format!("https://{server}"));
    settings.retry_for_ms = 0;
    let place = dir.path().join("cache");
    let unknown = Tier::open(settings.clone(), &place, Handle::current()).await;
    assert!(unknown.is_err(), "nobody vouches for it");
    settings.ca_file = Some(dir.path().join("ca.pem"));
    settings.retry_for_ms = 2_000;
    there_and_back(&settings, &place).await;

    std::fs::write(dir.path().join("ca.pem"), "nothing").unwrap();
    let empty = Tier::open(settings.clone(), &place, Handle::current()).await;
    let why = empty.err().unwrap().to_string();
    assert!(why.contains("it has no certificate"), "{why}");
    settings.ca_file = Some(dir.path().join("not-there.pem"));
    let missing = Tier::open(settings, &place, Handle::current()).await;
    let why = missing.err().unwrap().to_string();
    assert!(why.contains("not-there.pem"), "{why}");
}

/// A metadata service (IMDSv2): a token first, then the name of the role, then its keys.
async fn metadata(asked: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let asked = asked.clone();
            let answer = move |request: Request<Incoming>| {
                let text = answer(&request, &asked);
                async move { Ok::<_, Infallible>(Response::new(text)) }
            };
            let served =
                http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer));
            tokio::spawn(served);
        }
    });
    address
}

fn answer(request: &Request<Incoming>, asked: &AtomicUsize) -> String {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let path = request.uri().path();
    if (request.method(), path) == (&Method::PUT, "/latest/api/token") {
        return "the-token".into();
    }
    let token = request.headers().get("x-aws-ec2-metadata-token");
    assert_eq!(token.unwrap(), "the-token");
    match path.strip_prefix(ROLES).unwrap() {
        "" => "the-role".into(),
        "the-role" => {
            asked.fetch_add(1, Ordering::Relaxed);
            json!({
                "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
                "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "of-the-session",
                "Expiration": "2100-01-01T00:00:00Z"
            })
            .to_string()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_the_metadata_service() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let server = s3_server::start(&root, Manners::Honest).await;
    let asked = Arc::<AtomicUsize>::default();
    let service = metadata(asked.clone()).await;
    let mut settings = s3_settings(server);
    settings.credentials = Credentials::InstanceMetadata;
    settings.metadata_endpoint = Some(format!("http://{service}"));
    there_and_back(&settings, &dir.path().join("cache")).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!(
        (1..10).contains(&asked),
        "keys are kept while they are valid: asked {asked} times"
    );
}
