//! Ports that a process is told before it opens them.
//!
//! One that the kernel has chosen and that was closed again may be chosen for somebody else before the
//! process opens it, or while it is down. So these are below those that the kernel chooses from.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port that is given here.
const FIRST: u16 = 10_240;
/// See ip(7).
const CHOSEN_BY_KERNEL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A port on loopback, of UDP and of TCP, that nobody has and that no other test is given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let count = below_chosen().saturating_sub(FIRST);
    assert!(
        count > 1000,
        "{CHOSEN_BY_KERNEL} leaves too few ports for tests"
    );
    // Several processes of tests may run at once.
    let begin = std::process::id().wrapping_mul(101);
    let is_free = |port: &u16| {
        let at = (Ipv4Addr::LOCALHOST, *port);
        UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
    };
    let mut ports = std::iter::repeat_with(|| {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        FIRST + (begin.wrapping_add(given) % u32::from(count)) as u16
    });
    let free = ports.by_ref().take(usize::from(count)).find(is_free);
    free.expect("one of thousands of ports is free")
}

/// The lowest port that the kernel chooses.
fn below_chosen() -> u16 {
    let range = std::fs::read_to_string(CHOSEN_BY_KERNEL).unwrap();
    range.split_whitespace().next().unwrap().parse().unwrap()
}
