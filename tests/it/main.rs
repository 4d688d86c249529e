//! The real binary over real sockets: one file per kind of promise.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod across_shards;
mod bad_http;
mod bad_input;
mod cgroup;
mod child;
mod cluster_failover;
mod cluster_late;
mod cluster_net;
mod cluster_pair;
mod cluster_power;
mod cluster_site;
mod cluster_sql;
mod cluster_task;
mod cluster_tier;
mod command_line;
mod confined;
mod crash;
mod crash_connected;
mod crowd;
mod crowd_peers;
mod dice;
mod disk_fills;
mod disk_full;
mod doors;
mod embedded;
mod exactly_once;
mod examples;
mod flood;
mod http;
mod http_api;
mod launch;
mod load;
mod loop_disk;
mod netns;
mod overload;
mod ports;
mod power_book;
mod power_cut;
mod power_load;
mod process;
mod queries;
mod raw;
mod reading;
mod repair;
mod server;
mod settling;
mod slow_disk;
mod slow_readers;
mod sql;
mod sql_data;
mod sql_replay;
mod sql_spread;
mod sql_upgrade;
mod sync_failure;
mod tier_back;
mod tier_faults;
mod tier_gone;
mod tier_kills;
mod tier_outage;
mod tier_restore;
mod tier_server;
mod tier_settings;
mod tier_site;
mod tier_topics;

/// A file without its `mod` line is compiled by nobody and tests nothing.
#[test]
fn no_file_is_forgotten() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/it");
    let text = include_str!("main.rs");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|m| *m != "main") else {
            continue;
        };
        let line = format!("mod {module};");
        assert!(text.lines().any(|l| l == line), "main.rs lacks `{line}`");
        seen += 1;
    }
    assert_eq!(
        seen,
        text.lines().filter(|l| l.starts_with("mod ")).count(),
        "a `mod` line stands for something else than a file in {dir}"
    );
}
