//! A node made from its bucket alone, and the one that it replaces.

use crate::http::Http;
use crate::server::{Server, Site, within};
use crate::tier_server::Manners;
use crate::tier_site::{
    Bucket, LOG, bucket_is_whole, command, command_json, local_segments, produce, reads_whole,
    until, until_copied, until_remote, value,
};
use flowstone_client::{Client, Offset, Record, TopicSettings};
use serde_json::{Value, json};

/// Records that fill a segment of the log and begin the next.
const FIRST: u64 = 1_100;

fn settings() -> TopicSettings {
    TopicSettings {
        local_retention_bytes: Some(0),
        retention_ms: Some(1 << 50),
        ..TopicSettings::default()
    }
}

/// A broker with some topics, of which `t` has in the tier what the first segment had.
async fn in_use(site: &Site) -> (Server, Client) {
    let server = start(site);
    let client = server.client().await;
    client.create_topic("t", 2, settings()).await.unwrap();
    let plain = TopicSettings::default();
    client
        .create_topic("empty", 3, plain.clone())
        .await
        .unwrap();
    client.create_topic("gone", 1, plain).await.unwrap();
    client.delete_topic("gone").await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, 0..FIRST).await;
    until_copied(&client, "t", 1).await;
    until_remote(&client).await;
    until("the files go", async || {
        local_segments(site.data()).is_empty()
    })
    .await;
    (server, client)
}

fn start(site: &Site) -> Server {
    tokio::task::block_in_place(|| site.start())
}

async fn commit(http: Http, group: &str, offset: u64) {
    let at = json!([{ "topic": "t", "partition": 0, "offset": offset, "note": "as far" }]);
    let path = format!("/api/v1/groups/{group}/offsets");
    let done = http.json("PUT", &path, &at).await;
    assert!(done.status < 300, "{done:?}");
}

async fn position(http: Http, group: &str) -> Value {
    let path = format!("/api/v1/groups/{group}/offsets");
    http.get(&path).await.expect(200).json()[0]["offset"].clone()
}

/// Restores into a new directory beside the old one, and gives the place for a broker there.
async fn restored(site: &Site, bucket: &Bucket, name: &str) -> (Site, Value) {
    let dir = site.file(name);
    let data = dir.to_str().unwrap();
    let args = ["restore", "--data", data, "--config", "CONFIG", "--json"];
    let said = command_json(site, &args).await;
    (Site::with_data(LOG, &bucket.settings(""), &dir), said)
}

/// Offset behind what the bucket has of the first partition of `t`.
async fn uploaded(client: &Client, bucket: &Bucket) -> u64 {
    let id = client.topic("t").await.unwrap().partitions[0].id;
    bucket.manifest(id).await.next_offset().0
}

async fn comes_back(killed: bool) {
    let bucket = Bucket::start(Manners::Honest).await;
    let old = bucket.site();
    let (server, client) = in_use(&old).await;
    let http = Http(server.http());
    commit(http, "behind", 700).await;
    commit(http, "ahead", FIRST).await;
    let topics = client.topics().await.unwrap();
    let end = uploaded(&client, &bucket).await;
    assert!(end > 900 && end < FIRST, "{end}");
    drop(client);
    if killed {
        let tier = bucket.tier().await;
        until("the positions are in the bucket", async || {
            let found = tier.latest_document("groups").await.unwrap();
            found.is_some_and(|d| d.bytes.windows(5).any(|w| w == b"ahead"))
        })
        .await;
        server.kill();
    } else {
        server.stop();
    }
    std::fs::remove_dir_all(old.data()).unwrap();
    let (site, said) = restored(&old, &bucket, "data").await;
    assert_eq!(
        (&said["topics"], &said["positions"]),
        (&json!(2), &json!(2))
    );
    assert_eq!((&said["records"], &said["moved"]), (&json!(end), &json!(1)));
    let again = [
        "restore",
        "--data",
        site.data().to_str().unwrap(),
        "--config",
        "CONFIG",
    ];
    let refused = command(&old, &again).await;
    assert_eq!(refused.code, Some(1), "it is not empty: {refused:?}");
    let server = start(&site);
    let client = server.client().await;
    assert_eq!(client.topics().await.unwrap(), topics);
    reads_whole(&client, "t", &[end, 0]).await;
    let http = Http(server.http());
    assert_eq!(position(http, "behind").await, 700);
    assert_eq!(position(http, "ahead").await, end);
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, end..end + FIRST).await;
    produce(&producer, 1, 0..10).await;
    until_copied(&client, "t", 2).await;
    until_remote(&client).await;
    reads_whole(&client, "t", &[end + FIRST, 10]).await;
    let made = client
        .create_topic("new", 1, TopicSettings::default())
        .await
        .unwrap();
    let mut ids = topics.iter().flat_map(|t| &t.partitions);
    assert!(
        ids.all(|p| p.id < made.partitions[0].id),
        "{made:?} after {topics:?}"
    );
    drop((producer, client));
    server.kill();
    let server = start(&site);
    reads_whole(&server.client().await, "t", &[end + FIRST, 10]).await;
    server.stop();
    assert_eq!(bucket_is_whole(&site, &bucket).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stopped_is_made_again_from_its_bucket() {
    comes_back(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_is_made_again_from_its_bucket() {
    comes_back(true).await;
}

/// The old process goes on in its old directory: it is told, and changes nothing in the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_replaced_is_fenced() {
    let bucket = Bucket::start(Manners::Honest).await;
    let old = bucket.site();
    let (zombie, its_client) = in_use(&old).await;
    let end = uploaded(&its_client, &bucket).await;
    let (site, _) = restored(&old, &bucket, "new").await;
    let server = start(&site);
    let client = server.client().await;
    let id = client.topic("t").await.unwrap().partitions[0].id;
    let producer = its_client.producer("t").open().await.unwrap();
    produce(&producer, 0, FIRST..2 * FIRST).await;
    until("the zombie is told", async || {
        let status = its_client.tier().await.unwrap().unwrap();
        status.state == "lost" && status.waiting_bytes > 0
    })
    .await;
    let files = local_segments(old.data());
    assert!(!files.is_empty(), "what it could not upload is here");
    assert_eq!(uploaded(&client, &bucket).await, end, "its manifest counts");
    reads_whole(&its_client, "t", &[2 * FIRST, 0]).await;
    let said = command(&old, &["tier", "status", "--url", &zombie.url()]).await;
    assert!(said.text().contains("lost"), "{}", said.text());
    // The new one goes on, also with the same offsets.
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, end..end + FIRST).await;
    until_copied(&client, "t", 2).await;
    until_remote(&client).await;
    reads_whole(&client, "t", &[end + FIRST, 0]).await;
    let epochs = bucket.manifest(id).await;
    let epochs: Vec<_> = epochs.entries().iter().map(|e| e.id.epoch.0).collect();
    assert_eq!(
        (epochs.first(), epochs.last()),
        // The second epoch is the restore's.
        (Some(&1), Some(&3)),
        "{epochs:?}"
    );
    assert_eq!(local_segments(old.data()), files);
    drop(its_client);
    zombie.stop();
    drop(client);
    server.stop();
    bucket_is_whole(&site, &bucket).await;
}

/// The old one uploads nothing between the restore and the start of the new one, which writes other
/// records at these offsets; they are what comes back from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_uploaded_behind_a_restore() {
    let bucket = Bucket::start(Manners::Honest).await;
    let old = bucket.site();
    let (zombie, its_client) = in_use(&old).await;
    let end = uploaded(&its_client, &bucket).await;
    let (site, _) = restored(&old, &bucket, "new").await;
    let producer = its_client.producer("t").open().await.unwrap();
    produce(&producer, 0, FIRST..2 * FIRST).await;
    until("the zombie is told", async || {
        let status = its_client.tier().await.unwrap().unwrap();
        status.state == "lost" && status.waiting_bytes > 0
    })
    .await;
    drop((producer, its_client));
    zombie.kill();
    let server = start(&site);
    let client = server.client().await;
    assert_eq!(uploaded(&client, &bucket).await, end, "nothing came behind");
    reads_whole(&client, "t", &[end, 0]).await;
    let producer = client.producer("t").open().await.unwrap();
    // Its segments end elsewhere.
    produce(&producer, 1, 0..FIRST / 3).await;
    for number in end..end + 2 * FIRST {
        let record = Record::new(value(1 << 40 | number)).partition(0);
        let _ticket = within("room", producer.enqueue(record)).await.unwrap();
    }
    within("acknowledgements", producer.flush()).await.unwrap();
    until_copied(&client, "t", 3).await;
    let uploaded_end = uploaded(&client, &bucket).await;
    drop((producer, client));
    server.stop();
    bucket_is_whole(&site, &bucket).await;
    let (third, _) = restored(&old, &bucket, "third").await;
    let server = start(&third);
    let client = server.client().await;
    let mut next = 0;
    crate::reading::visit_all(&client, "t", |partition, record| {
        if partition == 1 {
            return;
        }
        assert_eq!(record.offset, Offset(next));
        let number = if next < end { next } else { 1 << 40 | next };
        assert!(record.value == Some(&value(number)), "record {next}");
        next += 1;
    })
    .await;
    assert_eq!(next, uploaded_end);
    server.stop();
}
