//! An S3 server on loopback: one in this process, or moto in a process of its own.

#[path = "../../storage/tier/tests/it/s3_server.rs"]
#[allow(dead_code, reason = "not every manner is looked at here")]
mod s3_server;

pub(crate) use s3_server::{BUCKET, KEY, Manners, SECRET, start};

use crate::child;
use crate::ports::free_port;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

/// A moto server. Dropping it kills it.
pub(crate) struct Moto(Child);

impl Moto {
    /// Starts `moto_server`, as `FLOWSTONE_MOTO` or the path names it, and makes the bucket. `None`
    /// where there is none.
    pub(crate) async fn start() -> Option<(Self, SocketAddr)> {
        let program = std::env::var_os("FLOWSTONE_MOTO").unwrap_or_else(|| "moto_server".into());
        // It does not tell which port it took.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
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
