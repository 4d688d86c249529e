//! Queries that look at one bid at a time.

use super::{agree, day, hour, minute};
use serde_json::json;

#[test]
fn q0_pass_through() {
    agree("q0", |world| {
        let row = |b: &super::Bid| {
            json!({"auction": b.auction, "bidder": b.bidder, "price": b.price, "date_time": b.date_time,
                   "extra": b.extra})
        };
        world.bids.iter().map(row).collect()
    });
}

#[test]
fn q1_currency_conversion() {
    agree("q1", |world| {
        let row = |b: &super::Bid| {
            json!({"auction": b.auction, "bidder": b.bidder, "price": 0.908 * b.price as f64,
                   "date_time": b.date_time, "extra": b.extra})
        };
        world.bids.iter().map(row).collect()
    });
}

#[test]
fn q2_selection() {
    agree("q2", |world| {
        let wanted = world.bids.iter().filter(|b| b.auction % 123 == 0);
        wanted
            .map(|b| json!({"auction": b.auction, "price": b.price}))
            .collect()
    });
}

#[test]
fn q10_names_of_files() {
    agree("q10", |world| {
        let row = |b: &super::Bid| {
            json!({"auction": b.auction, "bidder": b.bidder, "price": b.price, "date_time": b.date_time,
                   "extra": b.extra, "dt": day(b.date_time), "hm": minute(b.date_time)})
        };
        world.bids.iter().map(row).collect()
    });
}

#[test]
fn q14_calculation() {
    agree("q14", |world| {
        let mut rows = Vec::new();
        for b in &world.bids {
            let price = 0.908 * b.price as f64;
            if !(price > 1_000_000.0 && price < 50_000_000.0) {
                continue;
            }
            let kind = match hour(b.date_time) {
                8..=18 => "dayTime",
                0..=6 | 20..=23 => "nightTime",
                _ => "otherTime",
            };
            let letters = b.extra.chars().filter(|c| *c == 'c').count();
            rows.push(json!({"auction": b.auction, "bidder": b.bidder, "price": price, "bid_time_type": kind,
                             "date_time": b.date_time, "extra": b.extra, "c_counts": letters}));
        }
        rows
    });
}

#[test]
fn q21_channel_ids() {
    agree("q21", |world| {
        let mut rows = Vec::new();
        for b in &world.bids {
            let of_url = b.url.split('&').find_map(|p| p.strip_prefix("channel_id="));
            let id = match &b.channel[..] {
                "Apple" => Some("0"),
                "Google" => Some("1"),
                "Facebook" => Some("2"),
                "Baidu" => Some("3"),
                _ => of_url,
            };
            if let Some(id) = id {
                rows.push(
                    json!({"auction": b.auction, "bidder": b.bidder, "price": b.price,
                                 "channel": b.channel, "channel_id": id}),
                );
            }
        }
        assert!(
            rows.len() < world.bids.len(),
            "some bids have no channel id"
        );
        rows
    });
}

#[test]
fn q22_directories() {
    agree("q22", |world| {
        let row = |b: &super::Bid| {
            let dirs: Vec<&str> = b.url.split('/').collect();
            json!({"auction": b.auction, "bidder": b.bidder, "price": b.price, "channel": b.channel,
                   "dir1": dirs[3], "dir2": dirs[4], "dir3": dirs[5]})
        };
        world.bids.iter().map(row).collect()
    });
}
