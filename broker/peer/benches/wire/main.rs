//! The wire beside raw figures of the same machine: quinn alone, and a UDP echo.
//!
//! `FLOWSTONE_WIRE=mtu,cipher,congestion,least` chooses, for example `8972,aes128,cubic,8972`; a name filters the
//! parts.
#![forbid(unsafe_code)]

mod calls;
mod links;
mod nodes;
mod raw;
mod setting;

use setting::{Setting, setting};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

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
        ("raw", quinn_alone),
        ("link", links::run),
        ("echo", |_, _| {
            print_times("raw UDP echo of 64 bytes", &calls::echoes()?)
        }),
        ("call", |setting, _| {
            print_times("call of 64 bytes", &calls::calls(setting)?)
        }),
    ];
    for (name, part) in parts.iter().filter(|(name, _)| name.contains(&filter)) {
        part(&setting, dir.path()).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

fn quinn_alone(setting: &Setting, dir: &Path) -> Result<(), Box<dyn Error>> {
    let (per_s, datagram) = raw::throughput(setting, dir)?;
    println!("{:<32} {:>9.1} MB/s", "raw quinn, one stream", per_s / 1e6);
    println!("  datagrams of {datagram} bytes");
    Ok(())
}

fn print_times(name: &str, sorted: &[Duration]) -> Result<(), Box<dyn Error>> {
    let at = |of_hundred: usize| sorted[sorted.len() * of_hundred / 100].as_secs_f64() * 1e6;
    println!("{name:<32} p50 {:>7.1} us, p99 {:>7.1} us", at(50), at(99));
    Ok(())
}

/// Prints a throughput.
pub(crate) fn print_rate(name: &str, bytes: u64, seconds: f64) {
    let rate = bytes as f64 / seconds / 1e6;
    println!("{name:<32} {rate:>9.1} MB/s");
}
