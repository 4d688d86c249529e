//! A bucket that is away holds up nobody but those who need it, and those are told soon.

use crate::http::Http;
use crate::server::{Server, Site, within};
use crate::tier_faults::Mode;
use crate::tier_server::Manners;
use crate::tier_site::{
    Bucket, bucket_is_whole, command, local_segments, produce, reads_whole, until, until_copied,
    until_remote, value,
};
use bytes::Bytes;
use flowstone_client::{
    Acks, Client, Error, ErrorCode, Offset, Record, Route, TierStatus, TopicSettings,
};
use flowstone_wire::native::Fetch;
use std::time::{Duration, Instant};

/// Records that fill a segment of the log and begin the next.
const FIRST: u64 = 1_100;
/// Tries of a request end after 2 s by the settings; this is much more.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

async fn tier(client: &Client) -> TierStatus {
    client.tier().await.unwrap().unwrap()
}

/// A broker of which the topic `there` is in the tier only.
async fn with_something_there(site: &Site) -> (Server, Client) {
    let server = site.start();
    let client = server.client().await;
    for (name, bytes) in [("there", Some(0)), ("here", None)] {
        let settings = TopicSettings {
            local_retention_bytes: bytes,
            ..TopicSettings::default()
        };
        client.create_topic(name, 1, settings).await.unwrap();
    }
    let producer = client.producer("there").open().await.unwrap();
    produce(&producer, 0, 0..FIRST).await;
    until_copied(&client, "there", 1).await;
    until_remote(&client).await;
    until("the files go", async || {
        local_segments(site.data()).is_empty()
    })
    .await;
    (server, client)
}

/// A read of what is in the tier only is refused, soon, by both doors.
async fn reads_are_refused(server: &Server, client: &Client) {
    let since = Instant::now();
    let place = client.topic("there").await.unwrap().partitions[0];
    let fetch = Fetch {
        partition: place.id,
        offset: Offset(0),
        max_bytes: 1 << 20,
        wait_ms: 0,
    };
    let answer = client.call(Route::Shard(place.shard), &fetch, Bytes::new());
    let Err(Error::Refused(failure)) = within("an answer", answer).await else {
        panic!("what is not here was read");
    };
    assert_eq!(failure.code, ErrorCode::TierUnavailable, "{failure}");
    let path = "/api/v1/events/there?offset=5&max=1";
    let answer = Http(server.http()).get(path).await;
    answer.is_problem(503, "tier-unavailable");
    let took = since.elapsed();
    assert!(took < TOLD_WITHIN, "told only after {took:?}");
}

/// The longest time of some single records, each of which waits for the disk.
async fn slowest(client: &Client, topic: &str, next: &mut u64, time: Duration) -> Duration {
    let producer = client.producer(topic).acks(Acks::Durable);
    let producer = producer.open().await.unwrap();
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let since = Instant::now();
        let record = Record::new(value(*next)).timestamp(crate::tier_site::FIRST_MS + *next as i64);
        within("an acknowledgement", producer.send(record))
            .await
            .unwrap();
        times.push(since.elapsed());
        *next += 1;
    }
    crate::flood::quantile(&times, 0.99).unwrap()
}

/// What must hold while the bucket is away in this way.
async fn away(bucket: &Bucket, mode: Mode, server: &Server, client: &Client, here: &mut u64) {
    let site_bytes = tier(client).await.copied_bytes;
    let before = slowest(client, "here", here, Duration::from_millis(700)).await;
    bucket.faults.set(mode);
    let producer = client.producer("here").open().await.unwrap();
    produce(&producer, 0, *here..*here + FIRST).await;
    *here += FIRST;
    let during = slowest(client, "here", here, Duration::from_millis(700)).await;
    let slack = before * 10 + Duration::from_millis(250);
    assert!(
        during < slack,
        "{mode:?}: p99 {before:?} before, {during:?} now"
    );
    reads_are_refused(server, client).await;
    reads_whole(client, "here", &[*here]).await;
    until("it is told that nothing can be uploaded", async || {
        let status = tier(client).await;
        status.failing && status.waiting_bytes > 0
    })
    .await;
    let status = tier(client).await;
    assert_eq!(status.copied_bytes, site_bytes, "{mode:?} {status:?}");
    let json = Http(server.http())
        .get("/api/v1/tier")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&json["state"], &json["failing"]),
        (&"open".into(), &true.into())
    );
}

async fn holds_up_nobody_else(mode: Mode) {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let (server, client) = with_something_there(&site).await;
    let files = local_segments(site.data());
    away(&bucket, mode, &server, &client, &mut 0).await;
    let now = local_segments(site.data());
    let gone: Vec<_> = files.iter().filter(|f| !now.contains(f)).collect();
    assert!(gone.is_empty(), "{mode:?}: {gone:?} went");
    let args = ["tier", "status", "--url", &server.url()];
    let said = command(&site, &args).await;
    let said = said.text();
    assert!(said.contains("the last upload failed"), "{said}");
    bucket.faults.set(Mode::Good);
    reads_whole(&client, "there", &[FIRST]).await;
    until_copied(&client, "here", 1).await;
    server.stop();
    bucket_is_whole(&site, &bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_holds_up_nobody_else() {
    holds_up_nobody_else(Mode::Refuses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_hangs_holds_up_nobody_else() {
    holds_up_nobody_else(Mode::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_fails_holds_up_nobody_else() {
    holds_up_nobody_else(Mode::Status(503)).await;
}

/// A consumer that was refused goes on where it was: no record is missing, none comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_where_it_was_refused() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let (server, client) = with_something_there(&site).await;
    let mut consumer = client.consumer("there").open().await.unwrap();
    let (mut next, mut waits, mut outages) = (0, 0, 0);
    while next < FIRST {
        if outages == next / 300 {
            bucket.faults.set(Mode::Refuses);
            (waits, outages) = (0, outages + 1);
        }
        // It tries again by itself, and gives out nothing meanwhile.
        let records = within("an answer", consumer.next_batch()).await.unwrap();
        for record in &records {
            assert_eq!(record.offset, Offset(next));
            assert!(record.value == Some(&value(next)), "record {next}");
            next += 1;
        }
        waits += u64::from(records.is_empty());
        if waits == 6 {
            bucket.faults.set(Mode::Good);
        }
    }
    assert!(outages > 1, "it was hardly ever away");
    // Slow is not away.
    bucket.faults.set(Mode::Slow(Duration::from_millis(20)));
    reads_whole(&client, "there", &[FIRST]).await;
    server.stop();
}

/// Many that wait for a bucket which says nothing are all told in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_are_told_as_soon_as_one() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let (server, _client) = with_something_there(&site).await;
    bucket.faults.set(Mode::Hangs);
    let http = Http(server.http());
    let since = Instant::now();
    let reader = |n: u64| async move {
        let offset = n * 900 / 64;
        let path = format!("/api/v1/events/there?offset={offset}&max=1");
        http.get(&path).await.is_problem(503, "tier-unavailable");
    };
    let readers: Vec<_> = (0..64).map(|n| tokio::spawn(reader(n))).collect();
    for reader in readers {
        reader.await.unwrap();
    }
    let took = since.elapsed();
    assert!(took < 2 * TOLD_WITHIN, "the last was told after {took:?}");
    server.kill();
}

async fn starts_without(mode: Mode) {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let (server, client) = with_something_there(&site).await;
    drop(client);
    server.stop();
    bucket.faults.set(mode);
    let since = Instant::now();
    let server = tokio::task::block_in_place(|| site.start());
    let took = since.elapsed();
    assert!(took < TOLD_WITHIN, "{mode:?}: ready after {took:?}");
    let client = server.client().await;
    let status = tier(&client).await;
    assert_eq!(status.state, "closed", "{status:?}");
    assert!(status.why.is_some(), "{status:?}");
    reads_are_refused(&server, &client).await;
    let mut here = client.describe("here").await.unwrap().partitions[0].end.0;
    slowest(&client, "here", &mut here, Duration::from_millis(200)).await;
    reads_whole(&client, "here", &[here]).await;
    bucket.faults.set(Mode::Good);
    until("the tier is open", async || {
        tier(&client).await.state == "open"
    })
    .await;
    reads_whole(&client, "there", &[FIRST]).await;
    let stopping = Instant::now();
    bucket.faults.set(mode);
    drop(client);
    tokio::task::block_in_place(|| server.stop());
    let took = stopping.elapsed();
    assert!(took < 2 * TOLD_WITHIN, "{mode:?}: stopped after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_wait_for_a_bucket_that_hangs() {
    starts_without(Mode::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_wait_for_a_bucket_that_refuses() {
    starts_without(Mode::Refuses).await;
}
