//! What went to the tier comes back byte for byte, by every door, while new records arrive.

use crate::confined::pass;
use crate::http::Http;
use crate::server::{Server, Site, within};
use crate::tier_faults::Mode;
use crate::tier_server::Manners;
use crate::tier_site::{
    self, Bucket, FIRST_MS, bucket_is_whole, local_segments, produce, reads_whole, until,
    until_copied, until_remote, value,
};
use flowstone_client::{Client, Offset, Place, ReadFrom, TopicSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Records that fill two segments of the log and begin a third.
const FIRST: u64 = 2_200;

fn nothing_stays_here() -> TopicSettings {
    TopicSettings {
        local_retention_bytes: Some(0),
        ..TopicSettings::default()
    }
}

/// The value of an event as the HTTP door gives it.
fn http_value(row: &serde_json::Value) -> Vec<u8> {
    match row["value"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let text = row["value_base64"].as_str().unwrap();
            base64(text)
        }
    }
}

/// Decodes base64 (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).unwrap() as u32;
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for c in text.bytes().filter(|c| *c != b'=') {
        (bits, count) = (bits << 6 | digit(c), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

async fn reads_by_http(http: Http, offsets: impl IntoIterator<Item = u64>) {
    for offset in offsets {
        let path = format!("/api/v1/events/large?partition=0&offset={offset}&max=3");
        let rows = http.get(&path).await.expect(200).json();
        for (row, number) in rows.as_array().unwrap().iter().zip(offset..) {
            assert_eq!(row["offset"], number);
            assert!(http_value(row) == value(number), "record {number}");
        }
    }
}

async fn finds_times(client: &Client, end: u64) {
    for number in (0..end).step_by(211).chain([end - 1]) {
        let at = Place::Time(FIRST_MS + number as i64);
        let found = within("a place", client.offset_of("large", 0, at)).await;
        assert_eq!(found.unwrap(), Offset(number));
    }
    let before = Place::Time(FIRST_MS - 5);
    let found = client.offset_of("large", 0, before).await.unwrap();
    assert_eq!(found, Offset(0));
}

/// Reads in two goes as a group, each with a consumer of its own.
async fn reads_as_a_group(client: &Client, group: &str, end: u64) {
    let mut next = 0;
    while next < end {
        let consumer = client.consumer("large").partitions([0]).group(group);
        let mut consumer = consumer.from(ReadFrom::Start).open().await.unwrap();
        let stop = end.min(next + end / 2 + 1);
        while next < stop {
            let records = within("records", consumer.next_batch()).await.unwrap();
            for record in &records {
                assert_eq!(record.offset, Offset(next));
                assert!(record.value == Some(&value(next)), "record {next}");
                next += 1;
            }
        }
        consumer.commit().await.unwrap();
    }
}

/// Reads all that there is while another partition grows. Returns how far that came.
async fn all_doors(server: &Server, end: u64, mut other: u64) -> u64 {
    let client = server.client().await;
    let producer = client.producer("large").open().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let over = done.clone();
    let growing = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            produce(&producer, 1, other..other + 8).await;
            other += 8;
            // Some load, not as much as there can be.
            pass(Duration::from_millis(20)).await;
        }
        other
    });
    finds_times(&client, end).await;
    reads_by_http(Http(server.http()), (0..end).step_by(733)).await;
    let group = format!("readers-{other}");
    reads_as_a_group(&client, &group, end).await;
    done.store(true, Ordering::Relaxed);
    let other = within("the last acknowledgement", growing).await.unwrap();
    reads_whole(&client, "large", &[end, other]).await;
    other
}

async fn filled(site: &Site, partitions: u32) -> (Server, Client) {
    let server = site.start();
    let client = server.client().await;
    let made = client.create_topic("large", partitions, nothing_stays_here());
    made.await.unwrap();
    let producer = client.producer("large").open().await.unwrap();
    produce(&producer, 0, 0..FIRST).await;
    until_copied(&client, "large", 2).await;
    until_remote(&client).await;
    (server, client)
}

async fn everything_comes_back(bucket: &Bucket) {
    let site = bucket.site();
    let (server, client) = filled(&site, 2).await;
    until("the files go", async || {
        local_segments(site.data()).is_empty()
    })
    .await;
    let other = all_doors(&server, FIRST, 0).await;
    let status = client.tier().await.unwrap().unwrap();
    assert!(status.down_bytes > 0, "nothing was read there: {status:?}");
    assert_eq!((&*status.state, status.errors), ("open", 0), "{status:?}");
    drop(client);
    server.stop();
    let server = site.start();
    all_doors(&server, FIRST, other).await;
    server.stop();
    tier_site::nothing_is_gone(site.data(), bucket).await;
    // A stop may have come into the middle of an upload.
    bucket_is_whole(&site, bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_from_the_tier() {
    let bucket = Bucket::start(Manners::Honest).await;
    everything_comes_back(&bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_from_moto() {
    let Some(bucket) = Bucket::of_moto().await else {
        eprintln!("SKIPPED: moto_server is not here, no second kind of bucket was tried");
        return;
    };
    everything_comes_back(&bucket).await;
}

/// Every seventh request ends in the middle, of puts and parts what is sent and of reads what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cuts_connections_loses_nothing() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let server = site.start();
    let client = server.client().await;
    let made = client.create_topic("large", 1, nothing_stays_here());
    made.await.unwrap();
    bucket.faults.set(Mode::Cuts(7));
    let producer = client.producer("large").open().await.unwrap();
    produce(&producer, 0, 0..FIRST).await;
    until_copied(&client, "large", 2).await;
    until_remote(&client).await;
    reads_whole(&client, "large", &[FIRST]).await;
    let seen = bucket.faults.requests();
    assert!(seen > 50, "{seen} requests are few for cuts in all places");
    bucket.faults.set(Mode::Good);
    reads_whole(&client, "large", &[FIRST]).await;
    until("it is well again", async || {
        !client.tier().await.unwrap().unwrap().failing
    })
    .await;
    server.stop();
    bucket_is_whole(&site, &bucket).await;
}
