//! What this computer says of itself in `/proc`: CPU, memory, disk and network.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// Bytes of a sector in `/proc/diskstats`, whatever the device's are.
const SECTOR_BYTES: f64 = 512.0;

/// Counters of the last sample: most of `/proc` counts up, and what is of interest is the rate.
#[derive(Default)]
pub struct Telemetry {
    last: BTreeMap<String, f64>,
    last_at: Option<Instant>,
}

impl Telemetry {
    /// One sample: names and values. Of what the kernel hides nothing is said.
    pub fn sample(&mut self) -> Vec<(String, f64)> {
        let now = Instant::now();
        let seconds = self.last_at.replace(now).map(|at| (now - at).as_secs_f64());
        let mut out = Vec::new();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        self.cpu(&read("/proc/stat"), &mut out);
        memory(&read("/proc/meminfo"), &mut out);
        if let Some(seconds) = seconds.filter(|s| *s > 0.0) {
            self.disk(&read("/proc/diskstats"), seconds, &mut out);
            self.network(&read("/proc/net/dev"), seconds, &mut out);
        } else {
            self.disk(&read("/proc/diskstats"), f64::INFINITY, &mut out);
            self.network(&read("/proc/net/dev"), f64::INFINITY, &mut out);
        }
        out
    }

    /// How much a counter has grown since the last sample.
    fn grown(&mut self, name: &str, value: f64) -> f64 {
        let before = self.last.insert(name.to_string(), value).unwrap_or(value);
        (value - before).max(0.0)
    }

    /// Per core, the share of time that was not idle, in per cent.
    fn cpu(&mut self, text: &str, out: &mut Vec<(String, f64)>) {
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            let Some(name) = fields
                .next()
                .filter(|n| n.starts_with("cpu") && n.len() > 3)
            else {
                continue;
            };
            let ticks: Vec<f64> = fields.map_while(|f| f.parse().ok()).collect();
            let idle: f64 = ticks.iter().skip(3).take(2).sum();
            let total = self.grown(&format!("{name}.total"), ticks.iter().take(8).sum());
            let idle = self.grown(&format!("{name}.idle"), idle);
            let busy = if total > 0.0 {
                100.0 * (total - idle) / total
            } else {
                0.0
            };
            out.push((format!("{name}.busy_pct"), busy));
        }
    }

    /// Whole disks together, in KiB a second.
    fn disk(&mut self, text: &str, seconds: f64, out: &mut Vec<(String, f64)>) {
        let (mut read, mut written) = (0.0, 0.0);
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let sectors = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
            // Field 2 is the name; loops and memory disks are not devices.
            let device = fields
                .get(2)
                .is_some_and(|n| !n.starts_with("loop") && !n.starts_with("zram"));
            if let (true, Some(r), Some(w)) = (device, sectors(5), sectors(9)) {
                read += r;
                written += w;
            }
        }
        let read = self.grown("disk.read", read) * SECTOR_BYTES / 1024.0 / seconds;
        let written = self.grown("disk.written", written) * SECTOR_BYTES / 1024.0 / seconds;
        out.push(("disk.read_kib_s".into(), read));
        out.push(("disk.written_kib_s".into(), written));
    }

    /// All interfaces but loopback together, in KiB a second.
    fn network(&mut self, text: &str, seconds: f64, out: &mut Vec<(String, f64)>) {
        let (mut received, mut sent) = (0.0, 0.0);
        for line in text.lines().skip(2) {
            let Some((name, fields)) = line.split_once(':') else {
                continue;
            };
            let fields: Vec<f64> = fields
                .split_whitespace()
                .map_while(|f| f.parse().ok())
                .collect();
            if name.trim() != "lo" && fields.len() > 8 {
                received += fields[0];
                sent += fields[8];
            }
        }
        let received = self.grown("net.received", received) / 1024.0 / seconds;
        let sent = self.grown("net.sent", sent) / 1024.0 / seconds;
        out.push(("net.received_kib_s".into(), received));
        out.push(("net.sent_kib_s".into(), sent));
    }
}

/// Memory in use, in MiB.
fn memory(text: &str, out: &mut Vec<(String, f64)>) {
    let kib = |name: &str| -> Option<f64> {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    if let (Some(total), Some(available)) = (kib("MemTotal:"), kib("MemAvailable:")) {
        out.push(("memory.used_mib".into(), (total - available) / 1024.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates_and_shares() {
        let mut t = Telemetry::default();
        let mut out = Vec::new();
        t.cpu("cpu 1 2\ncpu0 10 0 10 80 0 0 0 0 0 0\n", &mut out);
        t.cpu("cpu 1 2\ncpu0 20 0 20 140 20 0 0 0 0 0\n", &mut out);
        assert_eq!(out[1], ("cpu0.busy_pct".into(), 20.0));
        out.clear();
        let line =
            |r, w| format!(" 254 0 vda 1 2 {r} 4 5 6 {w} 8\n 7 0 loop0 1 2 999 4 5 6 999 8\n");
        t.disk(&line(100, 200), 1.0, &mut out);
        t.disk(&line(104, 208), 2.0, &mut out);
        assert_eq!(
            out[2..],
            [
                ("disk.read_kib_s".into(), 1.0),
                ("disk.written_kib_s".into(), 2.0)
            ]
        );
        out.clear();
        memory(
            "MemTotal: 2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n",
            &mut out,
        );
        assert_eq!(out, [("memory.used_mib".to_string(), 1.0)]);
    }

    #[test]
    fn what_the_kernel_hides_is_left_out() {
        let mut out = Vec::new();
        memory("", &mut out);
        Telemetry::default().cpu("garbage\ncpuX\n", &mut out);
        assert!(out.len() <= 1, "{out:?}");
    }
}
