//! Damaged directories: they are refused with a reason, `repair --salvage` saves what can be saved and
//! says what is lost, and keeps what was damaged.

use crate::child::{run, run_ok};
use crate::reading::read_all;
use crate::server::{Site, within};
use flowstone_client::{Client, Record, TopicSettings};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const RECORDS: usize = 1600;
const NODE: &str = "[node]\nworkers = 1\nshards = 2\n";

/// A stopped broker's directory with records in two topics on two shards.
async fn filled() -> Site {
    let site = Site::new("hot_bytes = 0\n", NODE);
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    for topic in ["one", "two"] {
        let settings = TopicSettings::default();
        client.create_topic(topic, 2, settings).await.unwrap();
        let producer = client.producer(topic).open().await.unwrap();
        for n in 0..RECORDS {
            let value = format!("{n:06}{}", "x".repeat(100_000));
            let record = Record::new(value).partition((n % 2) as u32);
            drop(within("room", producer.enqueue(record)).await.unwrap());
        }
        producer.close().await.unwrap();
    }
    within("settling", settled(&client)).await;
    drop(client);
    server.stop();
    site
}

/// Waits until something of every partition is settled.
async fn settled(client: &Client) {
    for topic in ["one", "two"] {
        loop {
            let topic = client.describe(topic).await.unwrap();
            if topic.partitions.iter().all(|p| p.settled_segments > 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn values(site: &Site, topic: &str) -> Vec<String> {
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let rows = read_all(&client, topic).await.concat();
    let number = |v: Vec<u8>| String::from_utf8(v[..6].to_vec()).unwrap();
    let mut all: Vec<String> = rows.into_iter().map(|r| number(r.value.unwrap())).collect();
    all.sort();
    all
}

fn everything() -> Vec<String> {
    (0..RECORDS).map(|n| format!("{n:06}")).collect()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn overwrite(path: &Path, at: u64, len: usize) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0x5a; len], at).unwrap();
}

fn salvage(site: &Site) -> String {
    let dir = site.data().to_str().unwrap();
    let looked = run(&["repair", dir], b"");
    assert_eq!(looked.code, Some(5), "{looked:?}");
    let done = run_ok(&["repair", dir, "--salvage"], b"");
    let again = run_ok(&["repair", dir, "--salvage"], b"");
    assert_eq!(again.text(), "nothing is damaged\n");
    done.text().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_and_a_state_store_that_are_lost_are_made_again() {
    let site = filled().await;
    let shard = site.data().join("shards/0001");
    assert!(!files(&shard, "seg").is_empty(), "something was settled");
    overwrite(&site.data().join("catalog.redb"), 0, 100_000);
    std::fs::remove_file(shard.join("state.redb")).unwrap();
    let dir = site.data().to_str().unwrap();
    let refused = run(&["serve", "--data", dir, "--native", "", "--http", ""], b"");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("catalog") && refused.err.contains("repair"),
        "{}",
        refused.err
    );
    let said = salvage(&site);
    assert!(
        said.contains("catalog was made again") && said.contains("shard 1"),
        "{said}"
    );
    let server = site.start();
    for topic in ["one", "two"] {
        assert!(
            values(&site, topic).await == everything(),
            "{topic}: records are missing"
        );
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_are_passed_over_after_repair_and_only_they() {
    let site = filled().await;
    let settled = files(&site.data().join("shards/0000"), "seg");
    overwrite(&settled[0], 5_000, 100);
    let said = salvage(&site);
    assert!(said.contains("are lost and are passed over"), "{said}");
    let server = site.start();
    let (one, two) = (values(&site, "one").await, values(&site, "two").await);
    let lost = 2 * RECORDS - one.len() - two.len();
    assert!((1..20).contains(&lost), "{lost} records are lost");
    server.stop();
}
