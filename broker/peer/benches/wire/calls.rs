//! The round trip of a small call beside that of a UDP packet.

use super::nodes::pair;
use super::setting::Setting;
use bytes::Bytes;
use flowstone_peer::{BoxFuture, CallFailure, CallHandler};
use flowstone_wire::NodeId;
use std::error::Error;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COUNT: usize = 20_000;
const KIND: u16 = 1;

struct Echo;

impl CallHandler for Echo {
    fn call(
        &self,
        _from: NodeId,
        request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        Box::pin(async move { Ok(request) })
    }
}

/// Times of round trips of a call of 64 bytes, sorted.
pub(crate) fn calls(setting: &Setting) -> Result<Vec<Duration>, Box<dyn Error>> {
    let pair = pair(setting)?;
    pair.two.register(KIND, Arc::new(Echo));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let start = Instant::now();
        let request = Bytes::from_static(&[7; 64]);
        let call = pair
            .one
            .call(NodeId(2), KIND, request, Duration::from_secs(5));
        runtime.block_on(call)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Times of round trips of a UDP packet of 64 bytes, sorted: two threads and two sockets; each waits in the
/// kernel.
pub(crate) fn echoes() -> Result<Vec<Duration>, Box<dyn Error>> {
    let (one, two) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    one.connect(two.local_addr()?)?;
    two.connect(one.local_addr()?)?;
    let echo = std::thread::spawn(move || {
        let mut packet = [0; 64];
        while two.recv(&mut packet).is_ok_and(|n| n == 64) {
            if two.send(&packet).is_err() {
                return;
            }
        }
    });
    let mut times = Vec::with_capacity(COUNT);
    let mut packet = [7; 64];
    for _ in 0..COUNT {
        let start = Instant::now();
        one.send(&packet)?;
        one.recv(&mut packet)?;
        times.push(start.elapsed());
    }
    one.send(&[0])?;
    echo.join().map_err(|_| "the echo died")?;
    times.sort();
    Ok(times)
}
