//! An S3 server in this process, on loopback.

use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

pub(crate) const KEY: &str = "AKIATEST";
pub(crate) const SECRET: &str = "the-secret-of-the-test";
pub(crate) const BUCKET: &str = "bucket";

/// How the server treats what is to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Takes one put at a time, so that s3s-fs keeps to conditions.
    Honest,
    /// s3s-fs as it is: it looks first and writes then.
    Racy,
    /// Takes conditions and ignores them, as some servers do.
    Ignorant,
}

/// Starts a server with one bucket, which keeps its objects below `root`.
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
                let _turn = match is_put && manners != Manners::Racy {
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
