//! The queries of NEXMark (`tests/nexmark`) against results that plain code over the same events finds.
//!
//! Events arrive in random order within the watermark, in random batches, over random partitions, with crashes
//! between the steps. `FLOWSTONE_SEEDS` is how many runs of each query there are.

mod changes;
pub(crate) mod generator;
mod joins;
mod refused;
mod stateless;
mod windows;

use crate::rig::{Record, Rig, plan};
use generator::{Auction, Bid, Chance, Event, Generator, Person};
use serde_json::Value;
use std::collections::BTreeMap;

/// 2017-07-15T00:00:00Z.
const MIDNIGHT_MS: i64 = 1_500_076_800_000;
const HOUR_MS: i64 = 3_600_000;
const EVENTS: usize = 2_000;
const EVENTS_PER_S: u64 = 20;
/// What the watermark of the streams takes off, and how far events come out of order.
const DELAY_MS: i64 = 4_000;
/// The last event of each partition has this as all its numbers.
const LAST_ID: u64 = 1;

/// The events of a run, as plain code sees them.
struct World {
    chance: Chance,
    persons: Vec<Person>,
    auctions: Vec<Auction>,
    bids: Vec<Bid>,
    /// In the order of their times, without those that come last of each partition.
    events: Vec<Event>,
    /// When the last ones are.
    end_ms: i64,
}

impl World {
    /// Some begin shortly before midnight, others before the hours at which query 14 changes its mind.
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let hour = [0, 8, 20, 7, 19][(seed % 5) as usize];
        let first_ms = MIDNIGHT_MS + hour * HOUR_MS - 50_000;
        let events = Generator::new(chance.below(1 << 40), first_ms, EVENTS_PER_S).take(EVENTS);
        Self {
            chance,
            persons: Vec::new(),
            auctions: Vec::new(),
            bids: Vec::new(),
            events: events.collect(),
            end_ms: first_ms + HOUR_MS / 2,
        }
    }

    /// An event that closes all windows before it.
    fn last(&self, topic: &str) -> Event {
        let of = |is: fn(&Event) -> bool| self.events.iter().find(|e| is(e)).unwrap().clone();
        let mut last = match topic {
            "person" => of(|e| matches!(e, Event::Person(_))),
            "auction" => of(|e| matches!(e, Event::Auction(_))),
            _ => of(|e| matches!(e, Event::Bid(_))),
        };
        match &mut last {
            Event::Person(p) => (p.id, p.date_time) = (LAST_ID, self.end_ms),
            Event::Auction(a) => {
                (a.id, a.seller, a.date_time, a.expires) =
                    (LAST_ID, LAST_ID, self.end_ms, self.end_ms + 1)
            }
            Event::Bid(b) => (b.auction, b.bidder, b.date_time) = (LAST_ID, LAST_ID, self.end_ms),
        }
        last
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Person(p) => self.persons.push(p.clone()),
            Event::Auction(a) => self.auctions.push(a.clone()),
            Event::Bid(b) => self.bids.push(b.clone()),
        }
    }

    /// Whether a window with this end is closed when all is read.
    fn is_closed(&self, end: i64) -> bool {
        end <= self.end_ms - DELAY_MS
    }

    /// Partitions for the sources of a pipeline, one to three for each, with the source of each.
    fn partitions(&mut self, sources: usize) -> Vec<(u32, u16)> {
        let mut partitions = Vec::new();
        for source in 0..sources as u16 {
            for _ in 0..1 + self.chance.below(3) {
                partitions.push((1024 + partitions.len() as u32, source));
            }
        }
        partitions
    }

    /// The events in the order in which they arrive.
    fn arriving(&mut self) -> Vec<Event> {
        let mut all: Vec<(i64, Event)> = Vec::new();
        for event in &self.events {
            let delay_ms = self.chance.below(DELAY_MS as u64) as i64;
            all.push((event.date_time() + delay_ms, event.clone()));
        }
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, event)| event).collect()
    }

    /// Feeds the events to a pipeline, and lets each partition end with a last one.
    fn feed(&mut self, rig: &mut Rig, topics: &[String], partitions: &[(u32, u16)]) {
        rig.limits.max_records = 1 + self.chance.below(200) as usize;
        let mut waiting: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        let mut most = 1 + self.chance.below(100);
        for event in self.arriving() {
            self.note(&event);
            let is_of = |(_, source): &&(u32, u16)| topics[usize::from(*source)] == event.topic();
            let here: Vec<_> = partitions.iter().filter(is_of).collect();
            if here.is_empty() {
                continue;
            }
            let (partition, _) = here[self.chance.below(here.len() as u64) as usize];
            let record = Record::of(event.json().to_string());
            waiting.entry(*partition).or_default().push(record);
            most -= 1;
            if most == 0 {
                most = 1 + self.chance.below(100);
                self.step(rig, &mut waiting);
            }
        }
        self.step(rig, &mut waiting);
        for (partition, source) in partitions {
            let last = self.last(&topics[usize::from(*source)]);
            self.note(&last);
            rig.send(*partition, &[Record::of(last.json().to_string())]);
        }
        rig.run();
    }

    fn step(&mut self, rig: &mut Rig, waiting: &mut BTreeMap<u32, Vec<Record>>) {
        for (partition, records) in std::mem::take(waiting) {
            rig.send(partition, &records);
        }
        rig.step();
        if self.chance.below(6) == 0 {
            rig.crash();
        }
    }
}

/// The text of a query, by the name of its file.
fn query(name: &str) -> String {
    let path = format!("{}/tests/nexmark/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A pipeline that has read everything, and what it has read.
fn run(name: &str, seed: u64) -> (Rig, World) {
    let planned = plan(&(query("streams") + &query(name))).remove(0);
    let mut world = World::new(seed);
    let partitions = world.partitions(planned.pipeline.sources().len());
    let mut rig = Rig::new(&planned, &partitions);
    world.feed(&mut rig, planned.pipeline.sources(), &partitions);
    for beside in ["late", "dlq"] {
        let values = rig.values(&format!("{name}.{beside}"));
        assert_eq!(
            values, [""; 0],
            "{name}, seed {seed}: nothing goes to {beside}"
        );
    }
    (rig, world)
}

/// The records of a query are the rows that `expected` finds, each as often as there.
#[track_caller]
fn agree(name: &str, expected: impl Fn(&World) -> Vec<Value>) {
    check(name, |rig| rig.values(name), expected);
}

/// The last records of all keys are the rows that `expected` finds.
#[track_caller]
fn agree_at_last(name: &str, expected: impl Fn(&World) -> Vec<Value>) {
    let last = |rig: &Rig| {
        let mut last = BTreeMap::new();
        for out in rig.outs.iter().filter(|o| o.topic == name) {
            last.insert(out.key.clone(), out.value.clone());
        }
        last.into_values().flatten().collect()
    };
    check(name, last, expected);
}

#[track_caller]
fn check(name: &str, found: impl Fn(&Rig) -> Vec<String>, expected: impl Fn(&World) -> Vec<Value>) {
    let mut rows = 0;
    let seeds: u64 = std::env::var("FLOWSTONE_SEEDS").map_or(5, |s| s.parse().unwrap());
    for seed in 0..seeds {
        let (rig, world) = run(name, seed);
        let found = found(&rig);
        let found = found.iter().map(|v| serde_json::from_str(v).unwrap());
        let (found, expected) = (sorted(found), sorted(expected(&world).into_iter()));
        let missing = expected.iter().find(|r| !found.contains(r));
        let excess = found.iter().find(|r| !expected.contains(r));
        assert!(
            found == expected,
            "{name}, seed {seed}: {} rows for {}; missing, for one: {missing:?}; too much: {excess:?}",
            found.len(),
            expected.len(),
        );
        rows += found.len();
    }
    assert!(rows > 0, "{name}: no run has a row");
}

/// Rows in an order of their own, times as milliseconds since 1970, numbers as floats.
fn sorted(rows: impl Iterator<Item = Value>) -> Vec<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => match flowstone_processor::rfc3339::parse_ms(text) {
            Some(ms) => format!("{:?}", ms as f64),
            None => text.clone(),
        },
        Value::Number(number) => format!("{:?}", number.as_f64().unwrap()),
        other => other.to_string(),
    };
    let line = |row: Value| {
        let row: BTreeMap<String, Value> = serde_json::from_value(row).unwrap();
        let said: Vec<String> = row
            .iter()
            .map(|(n, v)| format!("{n}={}", plain(v)))
            .collect();
        said.join(" ")
    };
    let mut rows: Vec<String> = rows.map(line).collect();
    rows.sort();
    rows
}

/// The day of a time near the one midnight.
fn day(ms: i64) -> &'static str {
    match ms < MIDNIGHT_MS {
        true => "2017-07-14",
        false => "2017-07-15",
    }
}

fn hour(ms: i64) -> i64 {
    ms.rem_euclid(24 * HOUR_MS) / HOUR_MS
}

/// `HH:MM`.
fn minute(ms: i64) -> String {
    let minute = ms.rem_euclid(HOUR_MS) / 60_000;
    format!("{:02}:{minute:02}", hour(ms))
}
