//! Real data: results against figures that a few lines of plain code find.

use crate::nexmark::generator::Chance;
use crate::rig::{Record, Rig, plan};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The lines of a file of real data; says so where it is not there.
pub(crate) fn lines(name: &str) -> Option<Vec<String>> {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.lines().map(Into::into).collect()),
        Err(error) => {
            eprintln!("SKIPPED: {} cannot be read: {error}", path.display());
            None
        }
    }
}

/// The lines in another order, none more than `by_ms` behind where its time belongs.
fn disordered(lines: Vec<String>, by_ms: u64) -> Vec<String> {
    let mut chance = Chance::new(7);
    let mut all: Vec<(i64, String)> = Vec::new();
    for line in lines {
        let row: Value = serde_json::from_str(&line).unwrap();
        all.push((ms(&row["ts"]) + chance.below(by_ms.max(1)) as i64, line));
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).collect()
}

/// The results over a file whose lines come out of order by as much as the watermark of the stream takes off.
fn run(sql: &str, name: &str, delay_ms: u64, last: &str) -> Option<Vec<Value>> {
    let lines = disordered(lines(name)?, delay_ms);
    let planned = plan(sql).remove(0);
    let mut rig = Rig::new(&planned, &[(1024, 0)]);
    for lines in lines.chunks(700) {
        let records: Vec<Record> = lines.iter().map(|l| Record::of(l.as_str())).collect();
        rig.send(1024, &records);
        rig.step();
        rig.crash();
    }
    rig.send(1024, &[Record::of(last)]);
    rig.run();
    assert_eq!(
        rig.values(&format!("{}.dlq", planned.pipeline.name())),
        [""; 0]
    );
    assert_eq!(
        rig.values(&format!("{}.late", planned.pipeline.name())),
        [""; 0]
    );
    let values = rig.values(planned.pipeline.name());
    Some(
        values
            .iter()
            .map(|v| serde_json::from_str(v).unwrap())
            .collect(),
    )
}

fn ms(value: &Value) -> i64 {
    flowstone_processor::rfc3339::parse_ms(value.as_str().unwrap()).unwrap()
}

const SSH: &str = "CREATE STREAM ssh (ts TIMESTAMP, host VARCHAR, kind VARCHAR, ip VARCHAR, message VARCHAR, \
     WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (topic = 'ssh', format = 'json');";

#[test]
fn attempts_by_address_and_minute() {
    let sql = format!(
        "{SSH} CREATE PIPELINE attempts AS \
         SELECT ip, window_start, window_end, count(*) AS attempts FROM TUMBLE(ssh, ts, INTERVAL '1' MINUTE) \
         WHERE ip IS NOT NULL GROUP BY ip, window_start, window_end EMIT ON WINDOW CLOSE"
    );
    let last = r#"{"ts": "2016-01-01T00:00:00Z"}"#;
    let Some(results) = run(&sql, "ssh.jsonl", 5_000, last) else {
        return;
    };
    let mut expected: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for line in lines("ssh.jsonl").unwrap() {
        let row: Value = serde_json::from_str(&line).unwrap();
        if let Some(ip) = row["ip"].as_str() {
            let minute = ms(&row["ts"]).div_euclid(60_000) * 60_000;
            *expected.entry((ip.into(), minute)).or_default() += 1;
        }
    }
    let found: BTreeMap<(String, i64), i64> = results
        .iter()
        .map(|r| {
            (
                (r["ip"].as_str().unwrap().into(), ms(&r["window_start"])),
                r["attempts"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found.len(), results.len(), "each window once");
    assert_eq!(found, expected);
    // Figures of the file that another program found.
    assert_eq!((found.len(), found.values().sum::<i64>()), (79, 1_734));
}

#[test]
fn addresses_with_five_failures_in_a_minute() {
    let sql = format!(
        "{SSH} CREATE PIPELINE attackers AS \
         SELECT ip, window_end, count(*) AS failures FROM TUMBLE(ssh, ts, INTERVAL '1' MINUTE) \
         WHERE message LIKE 'Failed password%' GROUP BY ip, window_start, window_end HAVING count(*) >= 5"
    );
    let last = r#"{"ts": "2016-01-01T00:00:00Z"}"#;
    let Some(results) = run(&sql, "ssh.jsonl", 5_000, last) else {
        return;
    };
    let mut counts: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for line in lines("ssh.jsonl").unwrap() {
        let row: Value = serde_json::from_str(&line).unwrap();
        if row["message"]
            .as_str()
            .unwrap()
            .starts_with("Failed password")
        {
            let minute = ms(&row["ts"]).div_euclid(60_000);
            *counts
                .entry((row["ip"].as_str().unwrap_or("").into(), minute))
                .or_default() += 1;
        }
    }
    counts.retain(|_, failures| *failures >= 5);
    let found: BTreeMap<(String, i64), i64> = results
        .iter()
        .map(|r| {
            let minute = ms(&r["window_end"]).div_euclid(60_000) - 1;
            let ip = r["ip"].as_str().unwrap_or("").into();
            ((ip, minute), r["failures"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(found.len(), results.len(), "each window once");
    assert_eq!(found, counts);
    assert_eq!((found.len(), found.values().sum::<i64>()), (27, 458));
}

const TEMPS: &str = "CREATE STREAM temps (ts TIMESTAMP, station VARCHAR, temp_f DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '4' HOUR);";

#[test]
fn temperatures_by_day() {
    let sql = format!(
        "{TEMPS} CREATE PIPELINE daily AS SELECT station, window_start, min(temp_f) AS low, max(temp_f) AS high, \
         avg(temp_f) AS mean FROM TUMBLE(temps, ts, INTERVAL '1' DAY) GROUP BY station, window_start, window_end"
    );
    let last = r#"{"ts": "2020-01-01T00:00:00Z"}"#;
    let Some(results) = run(&sql, "seattle-temps.jsonl", 14_400_000, last) else {
        return;
    };
    let mut days: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for line in lines("seattle-temps.jsonl").unwrap() {
        let row: Value = serde_json::from_str(&line).unwrap();
        days.entry(ms(&row["ts"]).div_euclid(86_400_000))
            .or_default()
            .push(row["temp_f"].as_f64().unwrap());
    }
    assert_eq!(results.len(), days.len());
    for result in results {
        let temps = &days[&ms(&result["window_start"]).div_euclid(86_400_000)];
        let fold = |f: fn(f64, f64) -> f64| temps.iter().copied().reduce(f).unwrap();
        assert_eq!(result["low"].as_f64().unwrap(), fold(f64::min));
        assert_eq!(result["high"].as_f64().unwrap(), fold(f64::max));
        let mean = temps.iter().sum::<f64>() / temps.len() as f64;
        assert!((result["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    }
}

#[test]
fn means_of_three_hours_every_hour() {
    let sql = format!(
        "{TEMPS} CREATE PIPELINE means AS SELECT window_start, avg(temp_f) AS mean, count(*) AS c \
         FROM HOP(temps, ts, INTERVAL '1' HOUR, INTERVAL '3' HOUR) GROUP BY window_start, window_end"
    );
    let last = r#"{"ts": "2020-01-01T00:00:00Z"}"#;
    let Some(results) = run(&sql, "seattle-temps.jsonl", 14_400_000, last) else {
        return;
    };
    let mut hours: BTreeMap<i64, f64> = BTreeMap::new();
    for line in lines("seattle-temps.jsonl").unwrap() {
        let row: Value = serde_json::from_str(&line).unwrap();
        hours.insert(
            ms(&row["ts"]).div_euclid(3_600_000),
            row["temp_f"].as_f64().unwrap(),
        );
    }
    for result in &results {
        let first = ms(&result["window_start"]).div_euclid(3_600_000);
        let temps: Vec<f64> = (first..first + 3)
            .filter_map(|h| hours.get(&h).copied())
            .collect();
        assert_eq!(result["c"].as_i64().unwrap(), temps.len() as i64);
        let mean = temps.iter().sum::<f64>() / temps.len() as f64;
        assert!((result["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    }
    // One hour of the year is not there; the windows around the ends hold one hour or two.
    assert_eq!((hours.len(), results.len()), (8_759, 8_762));
}

#[test]
fn prices_from_separated_values() {
    let sql = "CREATE STREAM stocks (symbol VARCHAR, day VARCHAR, price DOUBLE) WITH (format = 'csv'); \
         CREATE PIPELINE dear AS SELECT symbol, max(price) AS top FROM stocks GROUP BY symbol EMIT CHANGES";
    let Some(all) = lines("stocks.csv") else {
        return;
    };
    let planned = plan(sql).remove(0);
    let mut rig = Rig::new(&planned, &[(1024, 0)]);
    let records: Vec<Record> = all.iter().map(|l| Record::of(l.as_str())).collect();
    rig.send(1024, &records);
    rig.run();
    assert_eq!(rig.stats().failed, 1, "the line of names is no price");
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    for line in &all[1..] {
        let mut fields = line.split(',');
        let (symbol, price) = (
            fields.next().unwrap(),
            fields.nth(1).unwrap().parse().unwrap(),
        );
        let top = expected.entry(symbol.into()).or_insert(f64::MIN);
        *top = top.max(price);
    }
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    for out in rig.outs.iter().filter(|o| o.topic == "dear") {
        let row: Value = serde_json::from_str(out.value.as_deref().unwrap()).unwrap();
        found.insert(out.key.clone().unwrap(), row["top"].as_f64().unwrap());
    }
    assert_eq!(found, expected);
}
