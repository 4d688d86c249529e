//! The wire beside raw figures of the same machine: quinn alone, and a UDP echo.
//!
//! `FLOWSTONE_WIRE=mtu,cipher,congestion,least` chooses, for example `8972,aes128,cubic,8972`; a name filters the
//! parts.
#![forbid(unsafe_code)]

mod calls;
mod links;
mod nodes;
mod raw;

use flowstone_peer::WireOptions;
use flowstone_peer::endpoint::Congestion;
use std::error::Error;
use std::path::Path;

/// What is measured with.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) wire: WireOptions,
    /// Of raw quinn only; the link has AES-128.
    pub(crate) cipher: String,
    /// Bytes of a run.
    pub(crate) bytes: u64,
    pub(crate) threads: usize,
}

fn setting() -> Setting {
    let text = std::env::var("FLOWSTONE_WIRE").unwrap_or_default();
    let mut parts = text.split(',');
    let mut wire = WireOptions::default();
    if let Some(mtu) = parts.next().and_then(|p| p.parse().ok()) {
        wire.datagram_bytes_max = mtu;
    }
    let cipher = parts.next().unwrap_or("aes128").to_owned();
    wire.congestion = match parts.next() {
        Some("newreno") => Congestion::NewReno,
        Some("bbr") => Congestion::Bbr,
        _ => Congestion::Cubic,
    };
    if let Some(least) = parts.next().and_then(|p| p.parse().ok()) {
        wire.datagram_bytes_min = least;
    }
    let number = |name: &str, default| {
        let set = std::env::var(name).ok();
        set.and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    Setting {
        wire,
        cipher,
        bytes: number("FLOWSTONE_WIRE_MIB", 2048) << 20,
        threads: number("FLOWSTONE_WIRE_THREADS", 1) as usize,
    }
}

type Part = fn(&Setting, &Path) -> Result<(), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let filter = filter.unwrap_or_default();
    let setting = setting();
    println!(
        "datagrams up to {}, {:?}, {} (raw)",
        setting.wire.datagram_bytes_max, setting.wire.congestion, setting.cipher
    );
    let dir = tempfile::tempdir()?;
    let parts: [(&str, Part); 4] = [
        ("raw", raw::run),
        ("link", links::run),
        ("echo", calls::echo),
        ("call", calls::run),
    ];
    for (name, part) in parts.iter().filter(|(name, _)| name.contains(&filter)) {
        part(&setting, dir.path()).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// Prints a throughput.
pub(crate) fn print_rate(name: &str, bytes: u64, seconds: f64) {
    let rate = bytes as f64 / seconds / 1e6;
    println!("{name:<32} {rate:>9.1} MB/s");
}
