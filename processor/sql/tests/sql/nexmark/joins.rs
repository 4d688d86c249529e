//! Queries that join persons, auctions and bids.

use super::{Auction, agree, agree_at_last};
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn q3_local_items() {
    agree("q3_bounded", |world| {
        let mut rows = Vec::new();
        for a in world.auctions.iter().filter(|a| a.category == 10) {
            for p in world.persons.iter().filter(|p| p.id == a.seller) {
                if ["OR", "ID", "CA"].contains(&p.state) {
                    rows.push(
                        json!({"name": p.name, "city": p.city, "state": p.state, "id": a.id}),
                    );
                }
            }
        }
        rows
    });
}

#[test]
fn q9_winning_bids() {
    agree_at_last("q9", |world| {
        let mut rows = Vec::new();
        // The last ones of several partitions are one group.
        let auctions: BTreeMap<u64, &Auction> = world.auctions.iter().map(|a| (a.id, a)).collect();
        for a in auctions.into_values() {
            assert!(
                a.expires - a.date_time < 300_000,
                "open for up to five minutes"
            );
            let open = a.date_time..=a.expires;
            let bids = world.bids.iter();
            let bids = bids.filter(|b| b.auction == a.id && open.contains(&b.date_time));
            let Some(b) = bids.max_by_key(|b| (b.price, -b.date_time)) else {
                continue;
            };
            rows.push(json!({"id": a.id, "item_name": a.item_name, "description": a.description,
                             "initial_bid": a.initial_bid, "reserve": a.reserve, "date_time": a.date_time,
                             "expires": a.expires, "seller": a.seller, "category": a.category, "extra": a.extra,
                             "auction": b.auction, "bidder": b.bidder, "price": b.price,
                             "bid_date_time": b.date_time, "bid_extra": b.extra}));
        }
        rows
    });
}

#[test]
fn q20_bids_with_their_auctions() {
    agree("q20_bounded", |world| {
        let mut rows = Vec::new();
        for b in &world.bids {
            let of = |a: &&Auction| a.id == b.auction && a.category == 10;
            for a in world.auctions.iter().filter(of) {
                rows.push(json!({
                    "auction": b.auction, "bidder": b.bidder, "price": b.price, "channel": b.channel, "url": b.url,
                    "bid_date_time": b.date_time, "bid_extra": b.extra, "item_name": a.item_name,
                    "description": a.description, "initial_bid": a.initial_bid, "reserve": a.reserve,
                    "auction_date_time": a.date_time, "expires": a.expires, "seller": a.seller,
                    "category": a.category, "auction_extra": a.extra,
                }));
            }
        }
        rows
    });
}

#[test]
fn q4_average_prices_of_categories() {
    agree_at_last("q4", |world| {
        let auctions: BTreeMap<u64, &Auction> = world.auctions.iter().map(|a| (a.id, a)).collect();
        let mut finals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for a in auctions.into_values() {
            let open = a.date_time..=a.expires;
            let bids = world.bids.iter();
            let bids = bids.filter(|b| b.auction == a.id && open.contains(&b.date_time));
            if let Some(highest) = bids.map(|b| b.price).max() {
                finals.entry(a.category).or_default().push(highest);
            }
        }
        let row = |(category, prices): (u64, Vec<u64>)| {
            let average = prices.iter().sum::<u64>() as f64 / prices.len() as f64;
            json!({"category": category, "average": average})
        };
        finals.into_iter().map(row).collect()
    });
}
