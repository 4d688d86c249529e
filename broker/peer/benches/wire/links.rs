//! Spans out of a mapping, over a link.

use crate::nodes::{append, mapping, pair};
use crate::print_rate;
use crate::setting::Setting;
use flowstone_peer::Sent;
use flowstone_wire::NodeId;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(crate) fn run(setting: &Setting, dir: &Path) -> Result<(), Box<dyn Error>> {
    for kib in [64, 256, 1024] {
        one(setting, dir, kib)?;
    }
    Ok(())
}

fn one(setting: &Setting, dir: &Path, kib: usize) -> Result<(), Box<dyn Error>> {
    let bytes = mapping(dir)?;
    let pair = pair(setting)?;
    let size = kib << 10;
    let count = setting.bytes / size as u64;
    let start = Instant::now();
    let mut sent = 0;
    while sent < count {
        let at = (sent as usize * size) % bytes.len();
        let body = vec![bytes.slice(at..at + size)];
        match pair.one.send(NodeId(2), append(sent, size as u64), body) {
            Sent::Queued => sent += 1,
            Sent::Full => std::thread::park_timeout(Duration::from_micros(500)),
            other => return Err(format!("{other:?}").into()),
        }
    }
    let all = count * size as u64;
    while pair.inbox.bytes.load(Relaxed) < all {
        let lost = pair
            .two
            .status(NodeId(1))
            .map_or(0, |s| s.counts.dropped_held);
        if lost > 0 || start.elapsed() > Duration::from_secs(120) {
            return Err("not everything has come".into());
        }
        std::thread::park_timeout(Duration::from_micros(500));
    }
    let seconds = start.elapsed().as_secs_f64();
    print_rate(&format!("link, spans of {kib} KiB"), all, seconds);
    if let Some(status) = pair.one.status(NodeId(2)) {
        let (mtu, connections) = (status.datagram_bytes, status.counts.connections);
        println!("  datagrams of {mtu} bytes, {connections} connection");
    }
    Ok(())
}
