//! What the wire is measured with.

use flowstone_peer::WireOptions;
use flowstone_peer::endpoint::Congestion;

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

/// What the environment says.
pub(crate) fn setting() -> Setting {
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
