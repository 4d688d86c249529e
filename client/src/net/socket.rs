//! Opening a socket, TCP or Unix, as two halves of one kind.

use super::address::Address;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where answers come from.
pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// Where requests go.
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens a socket.
///
/// # Errors
/// Those of the system's connect.
pub(crate) async fn open(address: &Address) -> io::Result<(ReadHalf, WriteHalf)> {
    match address {
        Address::Tcp(host_and_port) => {
            let stream = TcpStream::connect(host_and_port.as_str()).await?;
            // Requests are gathered here already; the kernel must not hold them back as well.
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok((Box::new(read), Box::new(write)))
        }
        Address::Unix(path) => {
            let (read, write) = UnixStream::connect(path).await?.into_split();
            Ok((Box::new(read), Box::new(write)))
        }
    }
}
