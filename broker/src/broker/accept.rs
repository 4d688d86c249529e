//! The listeners of the native door: a thread each, which hands connections to the workers in turn.

use super::StartError;
use crate::config::Node;
use crate::service::Service;
use crate::worker::{Incoming, Message, Socket};
use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon a listener notices that it should stop.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// After an error of accept (no file descriptors left) the next is tried this much later.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A listening thread. Dropping it stops it.
pub(super) struct Acceptor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The address of a door; one that is not loopback must be allowed.
pub(super) fn resolve(
    door: &'static str,
    address: &str,
    allow_remote: bool,
) -> Result<SocketAddr, StartError> {
    let refuse = |why: &str| StartError::Door {
        door,
        address: address.into(),
        why: why.into(),
    };
    let found = address
        .to_socket_addrs()
        .map_err(|e| refuse(&e.to_string()))?
        .next()
        .ok_or_else(|| refuse("it has no address"))?;
    if !found.ip().is_loopback() && !allow_remote {
        return Err(refuse(
            "it is not loopback and there is no authentication yet; set node.allow_remote = true \
             if the network is trusted",
        ));
    }
    Ok(found)
}

impl Acceptor {
    pub(super) fn tcp(
        node: &Node,
        service: &Arc<Service>,
    ) -> Result<(Self, SocketAddr), StartError> {
        let door = |e: std::io::Error| StartError::Door {
            door: "native",
            address: node.native.clone(),
            why: e.to_string(),
        };
        let address = resolve("native", &node.native, node.allow_remote)?;
        let listener = TcpListener::bind(address).map_err(door)?;
        // The standard library asks for 128: a crowd that comes at once would wait for its retries.
        rustix::net::listen(&listener, BACKLOG).map_err(|e| door(e.into()))?;
        listener.set_nonblocking(true).map_err(door)?;
        let address = listener.local_addr().map_err(door)?;
        let acceptor = Self::start(Listener::Tcp(listener), service).map_err(door)?;
        Ok((acceptor, address))
    }

    pub(super) fn unix(path: &str, service: &Arc<Service>) -> Result<Self, StartError> {
        let door = |e: std::io::Error| StartError::Door {
            door: "native",
            address: path.into(),
            why: e.to_string(),
        };
        let file = PathBuf::from(path);
        // The data directory is locked: a socket that is there belongs to a dead process.
        if std::fs::symlink_metadata(&file).is_ok_and(|m| m.file_type().is_socket()) {
            std::fs::remove_file(&file).map_err(door)?;
        }
        let listener = UnixListener::bind(&file).map_err(door)?;
        listener.set_nonblocking(true).map_err(door)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(&file, mode).map_err(door)?;
        Self::start(Listener::Unix(listener, file), service).map_err(door)
    }

    fn start(listener: Listener, service: &Arc<Service>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, service) = (stop.clone(), service.clone());
        let thread = std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || run(&listener, &service, &stopping))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

fn run(listener: &Listener, service: &Service, stop: &AtomicBool) {
    let mut next_worker = 0;
    while !stop.load(Ordering::Relaxed) {
        let fd = match listener {
            Listener::Tcp(l) => l.as_fd(),
            Listener::Unix(l, _) => l.as_fd(),
        };
        if !poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&POLL)).is_ok_and(|n| n > 0) {
            continue;
        }
        match accept(listener) {
            Ok(socket) => {
                // Over the limit it is closed at once: the peer sees it.
                let Some(permit) = service.connection_permit() else {
                    continue;
                };
                let incoming = Incoming {
                    socket,
                    buffered: BytesMut::new(),
                    permit,
                };
                service.tell_worker(next_worker, Message::Connection(incoming));
                next_worker = (next_worker + 1) % service.workers();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => {
                tracing::warn!("a connection was not accepted: {e}");
                std::thread::park_timeout(PAUSE);
            }
        }
    }
    if let Listener::Unix(_, path) = listener {
        // If it is gone already, so much the better.
        let _ = std::fs::remove_file(path);
    }
}

fn accept(listener: &Listener) -> std::io::Result<Socket> {
    Ok(match listener {
        Listener::Tcp(l) => Socket::Tcp(l.accept()?.0),
        Listener::Unix(l, _) => Socket::Unix(l.accept()?.0),
    })
}
