//! The demonstration as a page of text.

use super::Seen;
use crate::bench::{Times, us};
use comfy_table::{Table, presets};
use serde_json::Value;
use std::fmt::Write;

fn number(value: &Value) -> String {
    value.as_f64().map_or("-".into(), |v| format!("{v:.1}"))
}

/// The page; while it is `live` it says how to end it.
pub fn page(seen: &Seen, live: bool) -> String {
    let hint = if live { "  Ctrl-C ends it." } else { "" };
    let mut out = String::new();
    let rate = seen.records as f64 / seen.seconds.max(0.001);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "Flowstone demo: this computer, watched by a pipeline inside the broker.{hint}\n\n\
         {:>8.1} s   {:>8} records ({rate:.0}/s)   {:>6} windows   {:>4} alerts\n",
        seen.seconds, seen.records, seen.windows, seen.alerts
    );
    let _ = writeln!(out, "{}\n", latencies(seen));
    let _ = writeln!(out, "{}\n", windows(seen));
    let _ = writeln!(out, "Unlike the last 5 seconds (z-score of 6 and more):");
    if seen.last_alerts.is_empty() {
        let _ = writeln!(out, "  nothing so far");
    }
    for alert in &seen.last_alerts {
        let key = alert["key"].as_str().unwrap_or("-");
        let _ = writeln!(
            out,
            "  {key:<22} {:>12}   mean {:>10}   z {:>7}",
            number(&alert["value"]),
            number(&alert["mean"]),
            number(&alert["z"])
        );
    }
    out
}

fn latencies(seen: &Seen) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["LATENCY, us", "P50", "P99", "P99.9"]);
    let mut row = |name: &str, t: &Times| {
        let q = |q| format!("{:.1}", us(t, q));
        table.add_row([name.to_string(), q(0.5), q(0.99), q(0.999)]);
    };
    if let Ok(to_task) = seen.to_task.lock() {
        row("append to task", &to_task);
    }
    row("append to durable", &seen.to_durable);
    row("raw 4 KiB + fdatasync", &seen.raw_fdatasync);
    table
}

fn windows(seen: &Seen) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["LAST SECOND", "COUNT", "MIN", "AVG", "MAX"]);
    for (key, window) in &seen.last_windows {
        table.add_row([
            key.clone(),
            window["count"].to_string(),
            number(&window["min"]),
            number(&window["avg"]),
            number(&window["max"]),
        ]);
    }
    table
}
