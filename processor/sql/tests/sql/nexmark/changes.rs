//! Queries whose results change until the last event.

use super::{Bid, agree_at_last, day, minute};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Which of the three ranks a price has.
fn rank(b: &Bid) -> usize {
    match b.price {
        0..10_000 => 1,
        10_000..1_000_000 => 2,
        _ => 3,
    }
}

/// Adds a member for all bids and one for each rank.
fn put(row: &mut Map<String, Value>, what: &str, bids: &[&Bid], count: fn(&[&Bid]) -> usize) {
    row.insert(format!("total_{what}"), count(bids).into());
    for n in 1..=3 {
        let of: Vec<&Bid> = bids.iter().copied().filter(|b| rank(b) == n).collect();
        row.insert(format!("rank{n}_{what}"), count(&of).into());
    }
}

/// What queries 15 and 16 say of some bids.
fn statistics(bids: &[&Bid]) -> Map<String, Value> {
    let mut row = Map::new();
    put(&mut row, "bids", bids, |bids| bids.len());
    put(&mut row, "bidders", bids, |bids| {
        bids.iter().map(|b| b.bidder).collect::<BTreeSet<_>>().len()
    });
    put(&mut row, "auctions", bids, |bids| {
        bids.iter()
            .map(|b| b.auction)
            .collect::<BTreeSet<_>>()
            .len()
    });
    row
}

fn grouped<'b, K: Ord>(bids: &'b [Bid], key: impl Fn(&'b Bid) -> K) -> BTreeMap<K, Vec<&'b Bid>> {
    let mut groups: BTreeMap<K, Vec<&Bid>> = BTreeMap::new();
    for b in bids {
        groups.entry(key(b)).or_default().push(b);
    }
    groups
}

#[test]
fn q15_statistics_of_days() {
    agree_at_last("q15", |world| {
        let row = |(day, bids): (&str, Vec<&Bid>)| {
            let mut row = statistics(&bids);
            row.insert("day".into(), day.into());
            Value::Object(row)
        };
        let days = grouped(&world.bids, |b| day(b.date_time));
        days.into_iter().map(row).collect()
    });
}

#[test]
fn q16_statistics_of_channels() {
    agree_at_last("q16", |world| {
        let row = |((channel, day), bids): ((&str, &str), Vec<&Bid>)| {
            let mut row = statistics(&bids);
            let last = bids.iter().map(|b| minute(b.date_time)).max().unwrap();
            row.insert("channel".into(), channel.into());
            row.insert("day".into(), day.into());
            row.insert("minute".into(), last.into());
            Value::Object(row)
        };
        let groups = grouped(&world.bids, |b| (&b.channel[..], day(b.date_time)));
        groups.into_iter().map(row).collect()
    });
}

#[test]
fn q17_statistics_of_auctions() {
    agree_at_last("q17", |world| {
        let row = |((auction, day), bids): ((u64, &str), Vec<&Bid>)| {
            let mut row = Map::new();
            put(&mut row, "bids", &bids, |bids| bids.len());
            let prices = || bids.iter().map(|b| b.price);
            let sum: u64 = prices().sum();
            row.insert("auction".into(), auction.into());
            row.insert("day".into(), day.into());
            row.insert("min_price".into(), prices().min().into());
            row.insert("max_price".into(), prices().max().into());
            row.insert("avg_price".into(), (sum as f64 / bids.len() as f64).into());
            row.insert("sum_price".into(), sum.into());
            Value::Object(row)
        };
        let groups = grouped(&world.bids, |b| (b.auction, day(b.date_time)));
        groups.into_iter().map(row).collect()
    });
}

#[test]
fn q18_last_bids() {
    agree_at_last("q18", |world| {
        let row = |((auction, bidder), bids): ((u64, u64), Vec<&Bid>)| {
            let b = bids.iter().max_by_key(|b| b.date_time).unwrap();
            json!({"auction": auction, "bidder": bidder, "price": b.price, "channel": b.channel, "url": b.url,
                   "date_time": b.date_time, "extra": b.extra})
        };
        let groups = grouped(&world.bids, |b| (b.auction, b.bidder));
        groups.into_iter().map(row).collect()
    });
}

#[test]
fn q19_highest_bids_of_auctions() {
    agree_at_last("q19", |world| {
        let mut rows = Vec::new();
        for mut bids in grouped(&world.bids, |b| b.auction).into_values() {
            // No two of these bids for an auction have the same price.
            bids.sort_by_key(|b| std::cmp::Reverse(b.price));
            for (b, r) in bids.into_iter().take(10).zip(1..) {
                rows.push(json!({"auction": b.auction, "bidder": b.bidder, "price": b.price, "channel": b.channel,
                                 "url": b.url, "date_time": b.date_time, "extra": b.extra, "r": r}));
            }
        }
        rows
    });
}
