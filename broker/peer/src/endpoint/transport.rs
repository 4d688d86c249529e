//! How quinn is tuned; the figures behind each choice are in docs/decisions/0005-peers.md.

use super::options::{Congestion, StartError, WireOptions};
use crate::limits::{CALLS_HELD_BYTES, CALLS_MAX, SNAPSHOTS_MAX};
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// What every network carries.
const DATAGRAM_BYTES_MIN: u16 = 1200;
/// Before anything is known. A first packet that is lost is sent again after three times this.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// The tuning of a connection. Public so that quinn alone can be measured with the same.
///
/// # Errors
/// [`StartError::Setup`], for values that QUIC does not have.
pub fn transport(wire: &WireOptions) -> Result<Arc<TransportConfig>, StartError> {
    let setup = |e: &dyn std::fmt::Display| StartError::Setup(e.to_string());
    let idle = IdleTimeout::try_from(wire.idle).map_err(|e| setup(&e))?;
    let window = u64::from(wire.window_bytes);
    // Snapshots wait for disks, so their windows may stand full; calls are refused instead. What is left
    // is enough for both streams of the link, whatever the others do.
    let all = window * (u64::from(SNAPSHOTS_MAX) + 4) + CALLS_HELD_BYTES as u64;
    let all = VarInt::from_u64(all).map_err(|e| setup(&e))?;
    let least = wire.datagram_bytes_min.max(DATAGRAM_BYTES_MIN);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        .upper_bound(wire.datagram_bytes_max.max(least))
        .interval(Duration::from_secs(60));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(20))
        .max_ack_delay(Some(Duration::from_millis(5)));
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(wire.keep_alive))
        .max_concurrent_bidi_streams(VarInt::from_u32(CALLS_MAX + SNAPSHOTS_MAX + 1))
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .stream_receive_window(VarInt::from_u32(wire.window_bytes))
        .receive_window(all)
        .send_window(window)
        .initial_rtt(INITIAL_RTT)
        .initial_mtu(least)
        .min_mtu(least)
        .mtu_discovery_config(Some(discovery))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(congestion(wire));
    Ok(Arc::new(config))
}

fn congestion(wire: &WireOptions) -> Arc<dyn ControllerFactory + Send + Sync> {
    // A LAN takes more than the ten packets of the open internet to begin with.
    let initial = 1 << 20;
    match wire.congestion {
        Congestion::Cubic => {
            let mut config = CubicConfig::default();
            config.initial_window(initial);
            Arc::new(config)
        }
        Congestion::NewReno => {
            let mut config = NewRenoConfig::default();
            config.initial_window(initial);
            Arc::new(config)
        }
        Congestion::Bbr => {
            let mut config = BbrConfig::default();
            config.initial_window(initial);
            Arc::new(config)
        }
    }
}
