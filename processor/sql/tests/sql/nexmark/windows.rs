//! Queries over windows of event time.

use super::{Bid, World, agree, run};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The start of the window of ten seconds that a time is in.
fn ten_seconds(ms: i64) -> i64 {
    ms.div_euclid(10_000) * 10_000
}

/// Of the windows of ten seconds that begin every two seconds: the auctions with the most bids.
fn hot_items(world: &World) -> Vec<Value> {
    let mut counts: HashMap<i64, HashMap<u64, u64>> = HashMap::new();
    for b in &world.bids {
        let mut start = b.date_time.div_euclid(2_000) * 2_000;
        while start > b.date_time - 10_000 {
            *counts
                .entry(start)
                .or_default()
                .entry(b.auction)
                .or_default() += 1;
            start -= 2_000;
        }
    }
    let mut rows = Vec::new();
    for (_, auctions) in counts.iter().filter(|(s, _)| world.is_closed(*s + 10_000)) {
        let most = auctions.values().max().unwrap();
        let hot = auctions.iter().filter(|(_, n)| *n == most);
        rows.extend(hot.map(|(a, n)| json!({"auction": a, "num": n})));
    }
    rows
}

#[test]
fn q5_hot_items() {
    agree("q5", hot_items);
    agree("q5_tumbling", hot_items);
}

#[test]
fn q7_highest_bids() {
    agree("q7", |world| {
        let mut highest: HashMap<i64, u64> = HashMap::new();
        for b in &world.bids {
            let most = highest.entry(ten_seconds(b.date_time)).or_default();
            *most = b.price.max(*most);
        }
        let row = |b: &Bid| {
            json!({"auction": b.auction, "price": b.price, "bidder": b.bidder, "date_time": b.date_time,
                   "extra": b.extra})
        };
        let mut rows: Vec<Value> = Vec::new();
        for (start, price) in highest {
            if world.is_closed(start + 10_000) {
                let span = start..=start + 10_000;
                let is_it = |b: &&Bid| b.price == price && span.contains(&b.date_time);
                rows.extend(world.bids.iter().filter(is_it).map(row));
            }
        }
        rows
    });
}

#[test]
fn q8_new_users_who_sell() {
    agree("q8", |world| {
        let sellers: BTreeSet<(u64, i64)> = world
            .auctions
            .iter()
            .map(|a| (a.seller, ten_seconds(a.date_time)))
            .collect();
        // Each person comes once, except the one at the end of each partition.
        let persons: BTreeSet<(u64, &str, i64)> = world
            .persons
            .iter()
            .map(|p| (p.id, &p.name[..], ten_seconds(p.date_time)))
            .collect();
        persons
            .iter()
            .filter(|(id, _, start)| sellers.contains(&(*id, *start)))
            .filter(|(_, _, start)| world.is_closed(*start + 10_000))
            .map(|(id, name, start)| json!({"id": id, "name": name, "starttime": start}))
            .collect()
    });
}

#[test]
fn q11_sessions_of_bidders() {
    agree("q11", |world: &World| {
        let mut times: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for b in &world.bids {
            times.entry(b.bidder).or_default().push(b.date_time);
        }
        let mut rows = Vec::new();
        for (bidder, mut times) in times {
            times.sort_unstable();
            for session in times.chunk_by(|a, b| b - a < 10_000) {
                let (start, end) = (session[0], session[session.len() - 1] + 10_000);
                if world.is_closed(end) {
                    rows.push(json!({"bidder": bidder, "bid_count": session.len(),
                                     "starttime": start, "endtime": end}));
                }
            }
        }
        rows
    });
}

#[test]
fn state_goes_with_its_windows() {
    for name in ["q5", "q5_tumbling", "q7", "q8", "q11"] {
        let (rig, world) = run(name, 3);
        let read = world.persons.len() + world.auctions.len() + world.bids.len();
        let state_bytes = rig.task.state_bytes();
        assert!(read > 2_000);
        // What is left is that of the last event of each partition.
        assert!(state_bytes < 16_384, "{name} keeps {state_bytes} bytes");
    }
}
