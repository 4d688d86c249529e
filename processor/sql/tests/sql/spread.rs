//! A pipeline in two parts, each on several shards with an exchange between them, in memory.

use crate::rig::{Exchanged, Out, Record, Rig, plan};
use flowstone_sql::Spread;
use flowstone_wire::partitioner::partition_for_key;
use std::collections::BTreeMap;

/// Something that a pipeline runs on.
pub(crate) trait Site {
    fn send(&mut self, partition: u32, records: &[Record]);
    /// One step of everything; says whether it did something.
    fn step(&mut self) -> bool;
    /// The processes die: all that is left is what was appended.
    fn crash(&mut self);
    fn limit(&mut self, max_records: usize);
    /// The values of the records of a topic.
    fn values(&self, topic: &str) -> Vec<String>;
    /// All records that came out, those of one key in their order.
    fn outs(&self) -> Vec<Out>;
}

impl Site for Rig {
    fn send(&mut self, partition: u32, records: &[Record]) {
        Rig::send(self, partition, records);
    }

    fn step(&mut self) -> bool {
        Rig::step(self)
    }

    fn crash(&mut self) {
        Rig::crash(self);
    }

    fn limit(&mut self, max_records: usize) {
        self.limits.max_records = max_records;
    }

    fn values(&self, topic: &str) -> Vec<String> {
        Rig::values(self, topic)
    }

    fn outs(&self) -> Vec<Out> {
        self.outs.clone()
    }
}

/// The tasks of both parts.
pub(crate) struct Shards {
    pub(crate) fronts: Vec<Rig>,
    pub(crate) backs: Vec<Rig>,
    /// Which front a partition of the sources is read by.
    places: BTreeMap<u32, usize>,
}

/// Partitions of the exchange: one for each front, on each shard.
const FIRST: u32 = 5000;

impl Shards {
    /// So many shards; the partitions of the sources lie on one after the other.
    pub(crate) fn new(spread: &Spread, partitions: &[(u32, u16)], shards: usize) -> Self {
        let fronts = shards.min(partitions.len());
        let of = |front: usize| -> Vec<(u32, u16)> {
            let all = partitions.iter().enumerate();
            let of = all.filter(|(at, _)| at % fronts == front);
            of.map(|(_, p)| *p).collect()
        };
        let inputs: Vec<(u32, u16)> = (0..fronts as u32).map(|f| (FIRST + f, 0)).collect();
        let places = partitions.iter().enumerate();
        Self {
            places: places.map(|(at, (p, _))| (*p, at % fronts)).collect(),
            fronts: (0..fronts)
                .map(|f| Rig::of(&spread.front, &of(f)))
                .collect(),
            backs: (0..shards)
                .map(|_| Rig::of(&spread.back, &inputs))
                .collect(),
        }
    }

    /// Brings what the fronts have sent to the backs.
    fn carry(&mut self) {
        for (number, front) in self.fronts.iter_mut().enumerate() {
            let mut sent: Vec<Vec<Exchanged>> = vec![Vec::new(); self.backs.len()];
            for record in front.exchanged.drain(..) {
                match &record.key {
                    Some(key) => {
                        let to = partition_for_key(key, self.backs.len() as u32);
                        sent[to as usize].push(record);
                    }
                    None => sent.iter_mut().for_each(|s| s.push(record.clone())),
                }
            }
            for (back, records) in self.backs.iter_mut().zip(sent) {
                if !records.is_empty() {
                    back.send_exchanged(FIRST + number as u32, &records);
                }
            }
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Rig> {
        self.fronts.iter_mut().chain(&mut self.backs)
    }
}

impl Site for Shards {
    fn send(&mut self, partition: u32, records: &[Record]) {
        self.fronts[self.places[&partition]].send(partition, records);
    }

    fn step(&mut self) -> bool {
        let mut busy = false;
        self.fronts.iter_mut().for_each(|f| busy |= f.step());
        self.carry();
        self.backs.iter_mut().for_each(|b| busy |= b.step());
        busy
    }

    fn crash(&mut self) {
        self.all().for_each(Rig::crash);
    }

    fn limit(&mut self, max_records: usize) {
        self.all().for_each(|r| r.limits.max_records = max_records);
    }

    fn values(&self, topic: &str) -> Vec<String> {
        let all = self.fronts.iter().chain(&self.backs);
        all.flat_map(|r| r.values(topic)).collect()
    }

    fn outs(&self) -> Vec<Out> {
        let all = self.fronts.iter().chain(&self.backs);
        all.flat_map(|r| r.outs.clone()).collect()
    }
}

const CLICKS: &str = "CREATE STREAM clicks (ts TIMESTAMP, who VARCHAR, page VARCHAR, \
     WATERMARK FOR ts AS ts); ";

fn spread(query: &str) -> (Spread, Shards) {
    let planned = plan(&format!("{CLICKS} CREATE PIPELINE p AS {query}")).remove(0);
    assert!(planned.gathers);
    let spread = planned.spread.unwrap();
    let shards = Shards::new(&spread, &[(1, 0), (2, 0), (3, 0)], 2);
    (spread, shards)
}

fn click(at_s: i64, who: &str) -> Record {
    let mut record = Record::of(format!(
        r#"{{"ts": {}, "who": "{who}", "page": "x"}}"#,
        at_s * 1000
    ));
    record.key = Some(format!("key of {who}"));
    record
}

fn run(shards: &mut Shards) {
    while shards.step() {}
}

const BY_MINUTE: &str = "SELECT who, window_end, count(*) AS c FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) \
     GROUP BY who, window_start, window_end";

#[test]
fn rows_of_a_group_meet_wherever_they_come_from() {
    let (spread, mut shards) = spread(BY_MINUTE);
    assert!(
        spread.back_explained.contains("exchange: by who@"),
        "{}",
        spread.back_explained
    );
    for partition in 1..=3 {
        let names = (0..40).map(|n| click(5, &format!("u{n}")));
        shards.send(partition, &names.collect::<Vec<_>>());
        shards.send(partition, &[click(120, "end")]);
    }
    run(&mut shards);
    let counts = shards.values("p");
    assert_eq!(counts.len(), 40, "each window once");
    assert!(counts.iter().all(|c| c.contains(r#""c":3"#)), "{counts:?}");
    assert!(
        shards.backs.iter().all(|b| !b.values("p").is_empty()),
        "both shards work"
    );
}

/// What an exchange keeps goes by its records' timestamps: rows of years ago must not be gone before they are read.
#[test]
fn records_of_an_exchange_have_the_time_of_the_clock_and_rows_their_own() {
    let (_, mut shards) = spread(BY_MINUTE);
    let now_ms = shards.fronts[0].now_ms;
    for partition in 1..=3 {
        shards.send(partition, &[click(5, "a"), click(120, "end")]);
    }
    for front in &mut shards.fronts {
        while front.step() {}
        assert!(!front.exchanged.is_empty());
        assert!(front.exchanged.iter().all(|r| r.timestamp == now_ms));
    }
    run(&mut shards);
    let outs: Vec<_> = shards.backs.iter().flat_map(|b| &b.outs).collect();
    assert_eq!(outs.len(), 1);
    assert_eq!(outs[0].timestamp, 59_999, "one millisecond before the end");
}

#[test]
fn time_goes_on_when_the_slowest_part_does_and_where_no_rows_go() {
    let (_, mut shards) = spread(BY_MINUTE);
    shards.send(1, &[click(5, "a"), click(70, "b")]);
    shards.send(2, &[click(70, "c")]);
    run(&mut shards);
    assert_eq!(
        shards.values("p"),
        [""; 0],
        "partition 3 may have rows of the first minute"
    );
    shards.send(3, &[click(5, "a")]);
    run(&mut shards);
    assert_eq!(shards.values("p"), [""; 0]);
    shards.send(3, &[click(70, "d")]);
    run(&mut shards);
    let counts = shards.values("p");
    assert_eq!(counts.len(), 1);
    assert!(
        counts[0].contains(r#""who":"a""#) && counts[0].contains(r#""c":2"#),
        "{counts:?}"
    );
}

/// The fronts tell that they are idle, those without a record as well; after that the latest says what time it is.
#[test]
fn shards_that_are_idle_hold_back_no_other() {
    let (_, mut shards) = spread(BY_MINUTE);
    shards.send(1, &[click(5, "a"), click(70, "b")]);
    shards.send(2, &[click(200, "c"), click(300, "d")]);
    run(&mut shards);
    assert_eq!(shards.values("p"), [""; 0], "partition 3 is waited for");
    for front in [1, 0] {
        assert_eq!(shards.values("p"), [""; 0]);
        let front = &mut shards.fronts[front];
        assert_eq!(front.task.deadline(), Some(front.now_ms + 30_000));
        front.now_ms += 30_000;
        run(&mut shards);
        // They know it when they begin anew.
        shards.backs.iter_mut().for_each(Rig::crash);
        shards.backs.iter_mut().for_each(Rig::run);
    }
    assert_eq!(shards.values("p").len(), 1, "there may be more to read");
    let due = |b: &Rig| b.task.deadline() == Some(b.now_ms + 1);
    assert!(shards.backs.iter().any(due));
    shards.backs.iter_mut().for_each(|b| b.now_ms += 1);
    run(&mut shards);
    assert_eq!(shards.values("p").len(), 3, "a, b and c");
    // Who comes back is waited for again, whichever is read first.
    shards.send(2, &[click(310, "e"), click(311, "e")]);
    shards.send(1, &[click(400, "f")]);
    run(&mut shards);
    assert_eq!(shards.values("p").len(), 3);
    assert_eq!(shards.values("p.late"), [""; 0]);
}

/// What says nothing about time makes nobody wait for it.
#[test]
fn rows_without_time_of_a_shard_that_is_idle_hold_back_no_other() {
    let sql = format!(
        "{CLICKS} CREATE STREAM notes (who VARCHAR); CREATE PIPELINE p AS SELECT who, count(*) AS c FROM \
         (SELECT who FROM clicks UNION ALL SELECT who FROM notes) AS both GROUP BY who \
         EMIT EVERY INTERVAL '1' MINUTE"
    );
    let planned = plan(&sql).remove(0);
    let spread = planned.spread.unwrap();
    let mut shards = Shards::new(&spread, &[(1, 0), (2, 1)], 2);
    shards.send(1, &[click(5, "a")]);
    run(&mut shards);
    shards.fronts[1].now_ms += 30_000;
    run(&mut shards);
    shards.send(2, &[Record::of(r#"{"who": "a"}"#)]);
    run(&mut shards);
    shards.backs.iter_mut().for_each(|b| b.now_ms += 1);
    shards.send(1, &[click(500, "a")]);
    run(&mut shards);
    let watermarks: Vec<i64> = shards.backs.iter().map(|b| b.task.watermark()).collect();
    assert_eq!(watermarks, [500_000; 2]);
}

/// What a front has sent may be on its way for long: only it knows whether there is something.
#[test]
fn a_front_that_cannot_be_heard_is_not_idle() {
    let (_, mut shards) = spread(BY_MINUTE);
    shards.send(1, &[click(5, "a"), click(70, "b")]);
    shards.send(3, &[click(5, "a"), click(70, "b")]);
    shards.send(2, &[click(5, "a")]);
    run(&mut shards);
    assert_eq!(shards.values("p"), [""; 0]);
    for back in &mut shards.backs {
        for _ in 0..2 {
            (0..3).for_each(|_| {
                back.now_ms += 30_000;
                back.run();
            });
            back.crash();
        }
    }
    assert_eq!(shards.values("p"), [""; 0], "it is waited for");
    shards.send(2, &[click(6, "a"), click(70, "b")]);
    run(&mut shards);
    assert!(shards.values("p")[0].contains(r#""c":4"#));
    assert_eq!(shards.values("p.late"), [""; 0]);
}

#[test]
fn what_is_late_and_what_fails_is_told_in_the_topics_of_the_pipeline() {
    let (_, mut shards) = spread(BY_MINUTE);
    for partition in 1..=3 {
        shards.send(partition, &[click(300, "x")]);
    }
    run(&mut shards);
    shards.send(1, &[click(5, "a"), Record::of("no json")]);
    run(&mut shards);
    let all = || {
        shards
            .fronts
            .iter()
            .chain(&shards.backs)
            .flat_map(|r| &r.outs)
    };
    let late: Vec<_> = all().filter(|o| o.topic == "p.late").collect();
    assert_eq!(late.len(), 1);
    let value = late[0].value.as_deref().unwrap();
    assert!(value.contains(r#""who":"a""#), "{value}");
    assert_eq!(late[0].key.as_deref(), Some("key of a"));
    assert_eq!(late[0].headers["x-late-window"], "0..60000");
    assert_eq!(all().filter(|o| o.topic == "p.dlq").count(), 1);
}

#[test]
fn what_is_put_together_by_less_meets_on_one_shard() {
    let (spread, mut shards) = spread(
        "SELECT window_end, who, c, r FROM \
           (SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, who) AS r FROM \
             (SELECT who, window_start, window_end, count(*) AS c FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) \
              GROUP BY who, window_start, window_end) AS counts) AS ranked WHERE r <= 2",
    );
    let explained = &spread.back_explained;
    assert!(
        explained.contains("exchange: all rows meet on one shard"),
        "{explained}"
    );
    for partition in 1..=3 {
        let names = (0..20).map(|n| click(5, &format!("u{n}")));
        shards.send(partition, &names.collect::<Vec<_>>());
        shards.send(partition, &[click(120, "end")]);
    }
    run(&mut shards);
    assert_eq!(shards.values("p").len(), 2);
    let at_work = shards.backs.iter().filter(|b| !b.values("p").is_empty());
    assert_eq!(at_work.count(), 1);
}

/// One piece after the other, so that the order of arrival is the same on one shard and on several.
#[test]
fn what_goes_by_the_order_of_arrival_gives_the_same_on_several_shards() {
    let queries = [
        "SELECT who, page, ts FROM DEDUP(clicks, ts, INTERVAL '20' SECOND, who)",
        "SELECT who, window_start, window_end, count(*) AS c FROM COUNT_WINDOW(clicks, 4, 2) \
         GROUP BY who, window_start, window_end",
        "SELECT a.who, a.ts, b.ts AS before FROM clicks AS a ASOF JOIN clicks AS b \
         MATCH_CONDITION (a.ts > b.ts) ON a.who = b.who",
        "SELECT who, window_end, count(*) AS c FROM TUMBLE(clicks, ts, INTERVAL '30' SECOND) \
         GROUP BY who, window_start, window_end EMIT EVERY INTERVAL '1' HOUR",
    ];
    let partitions = [(1, 0), (2, 0), (3, 0)];
    for query in queries {
        let sql = format!("{CLICKS} CREATE PIPELINE p WITH (idle_ms = 86400000) AS {query}");
        let planned = plan(&sql).remove(0);
        let spread = planned.spread.as_ref().unwrap();
        let mut whole = Rig::new(&planned, &partitions);
        let mut parts = Shards::new(spread, &partitions, 4);
        let sites: [&mut dyn Site; 2] = [&mut whole, &mut parts];
        let results = sites.map(|site| {
            for at_s in 0..120 {
                // Every partition hears of the time, so that none is late.
                let who = format!("u{}", at_s * at_s % 7);
                for partition in 1..=3 {
                    let other = click(at_s, &format!("{who}/{partition}"));
                    let both = [click(at_s, &format!("clock {partition}")), other];
                    site.send(partition, &both);
                    while site.step() {}
                }
            }
            for partition in 1..=3 {
                site.send(partition, &[click(1000, &format!("end {partition}"))]);
            }
            while site.step() {
                site.crash();
            }
            assert_eq!(site.values("p.late"), [""; 0], "{query}");
            let mut values = site.values("p");
            values.sort();
            values
        });
        assert!(results[0].len() > 20, "{query}: {:?}", results[0]);
        assert_eq!(results[0], results[1], "{query}");
    }
}

/// A table lies beside the stream that looks it up; what is found goes where its group is.
#[test]
fn what_is_looked_up_by_the_key_of_the_record_is_grouped_by_something_else() {
    const TABLES: &str = "CREATE TABLE users (id VARCHAR, country VARCHAR, PRIMARY KEY (id));
        CREATE STREAM logins (ts TIMESTAMP, who VARCHAR FROM KEY, of VARCHAR, WATERMARK FOR ts AS ts);";
    let sql = |join: &str| {
        format!(
            "{TABLES} CREATE PIPELINE p AS SELECT country, window_end, count(*) AS c FROM TUMBLE((SELECT ts, country \
             FROM logins JOIN users ON {join} = id), ts, INTERVAL '1' MINUTE) GROUP BY country, window_start, window_end"
        )
    };
    let planned = plan(&sql("who")).remove(0);
    assert!(planned.aligned && planned.gathers);
    let spread = planned.spread.unwrap();
    let explained = &spread.back_explained;
    let (exchange, lookup) = (
        explained.find("exchange: by country"),
        explained.find("lookup"),
    );
    assert!(exchange.is_some() && exchange < lookup, "{explained}");
    // Partitions 1 and 2 are of the table, 3 and 4 those of the stream beside them.
    let mut shards = Shards::new(&spread, &[(1, 0), (2, 0), (3, 1), (4, 1)], 2);
    let keyed = |key: String, value: String| Record {
        key: Some(key),
        ..Record::of(value)
    };
    for n in 0..40 {
        let country = format!(r#"{{"country": "c{}"}}"#, n % 5);
        shards.send(1 + n % 2, &[keyed(format!("u{n}"), country)]);
    }
    for n in 0..50 {
        let login = keyed(format!("u{n}"), r#"{"ts": 1000}"#.into());
        shards.send(3 + n % 2, &[login.clone(), login]);
    }
    for partition in [3, 4] {
        shards.send(partition, &[keyed("u0".into(), r#"{"ts": 120000}"#.into())]);
    }
    while shards.step() {
        shards.crash();
    }
    let mut counts = shards.values("p");
    counts.sort();
    let expected = (0..5)
        .map(|c| format!(r#"{{"country":"c{c}","window_end":"1970-01-01T00:01:00.000Z","c":16}}"#));
    assert_eq!(counts, expected.collect::<Vec<_>>());
    // What is not the key of the record may have its row on another shard.
    assert!(plan(&sql("of")).remove(0).spread.is_none());
}
