//! An S3 server on loopback: one in this process, or moto in a process of its own.

use crate::child;
use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

pub(crate) const KEY: &str = "AKIATEST";
pub(crate) const SECRET: &str = "the-secret-of-the-test";
pub(crate) const BUCKET: &str = "bucket";

/// How the server treats what is to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Takes one put at a time, so that s3s-fs keeps to conditions.
    Honest,
    /// Takes conditions and ignores them, as some servers do.
    Ignorant,
}

/// Starts a server in this process that keeps its objects below `root`.
pub(crate) async fn start(root: &Path, manners: Manners) -> SocketAddr {
    std::fs::create_dir_all(root.join(BUCKET)).unwrap();
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, service, manners, root.into()));
    address
}

async fn accept(listener: TcpListener, service: S3Service, manners: Manners, root: Arc<Path>) {
    let turn = Arc::new(Mutex::new(()));
    while let Ok((socket, _)) = listener.accept().await {
        let (service, turn) = (service.clone(), Arc::clone(&turn));
        let root = Arc::clone(&root);
        let answer = move |request: hyper::Request<hyper::body::Incoming>| {
            let (service, turn) = (service.clone(), Arc::clone(&turn));
            let root = Arc::clone(&root);
            async move {
                let is_put = request.method() == Method::PUT;
                let _turn = match is_put {
                    true => Some(turn.lock().await),
                    false => None,
                };
                if is_put && manners == Manners::Ignorant {
                    // The header itself is signed: rather there is nothing that it could find.
                    let file = root.join(request.uri().path().trim_start_matches('/'));
                    std::fs::remove_file(file).ok();
                }
                hyper::service::Service::call(&service, request).await
            }
        };
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer));
        tokio::spawn(connection);
    }
}

/// A moto server. Dropping it kills it.
pub(crate) struct Moto(Child);

impl Moto {
    /// Starts `moto_server`, as `FLOWSTONE_MOTO` or the path names it, and makes the bucket. `None`
    /// where there is none.
    pub(crate) async fn start() -> Option<(Self, SocketAddr)> {
        let program = std::env::var_os("FLOWSTONE_MOTO").unwrap_or_else(|| "moto_server".into());
        // It does not tell which port it took: one that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let spawned = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut moto = Self(spawned.ok()?);
        while TcpStream::connect(address).await.is_err() {
            let ended = child::wait(&mut moto.0, Duration::from_millis(50));
            assert_eq!(ended, None, "moto_server does not start");
        }
        Some((moto, address))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
