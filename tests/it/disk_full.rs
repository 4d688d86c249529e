//! A disk that is full: a typed refusal, reads go on, and service resumes when space returns.

use crate::http::Http;
use crate::loop_disk::{Kind, LoopDisk, skipped};
use crate::reading::read_all;
use crate::server::{Site, within};
use flowstone_client::{Client, Error, ErrorCode, Record, TopicSettings};
use std::path::Path;

const DISK_BYTES: u64 = 400 << 20;
const BALLAST_BYTES: u64 = 150 << 20;
const VALUE_BYTES: usize = 64 << 10;

fn allocate(path: &Path, bytes: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    let file = std::fs::File::create(path).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
}

/// A value that compresses badly.
fn value(number: u64) -> Vec<u8> {
    let mut dice = crate::dice::Dice::new(number);
    (0..VALUE_BYTES / 8)
        .flat_map(|_| dice.next().to_le_bytes())
        .collect()
}

/// Sends records until one is refused. Returns how many were stored, and the refusal.
async fn fill(client: &Client, mut next: u64) -> (u64, Error) {
    let builder = client.producer("t").retry_for_ms(1);
    let producer = builder.open().await.unwrap();
    loop {
        let sent = within("an answer", producer.send(Record::new(value(next)))).await;
        match sent {
            Ok(receipt) => assert_eq!(receipt.offset.0, next),
            Err(error) => return (next, error),
        }
        next += 1;
        assert!(
            next * (VALUE_BYTES as u64) < DISK_BYTES,
            "it holds more than the disk"
        );
    }
}

async fn all_is_there(client: &Client, count: u64) {
    let rows = read_all(client, "t").await.concat();
    assert_eq!(rows.len() as u64, count);
    for (number, row) in (0..).zip(&rows) {
        assert!(
            row.value.as_ref() == Some(&value(number)),
            "record {number}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_by_name_and_serves_again_when_there_is_room() {
    let disk = match LoopDisk::new(Kind::Ext4, DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return skipped("the test of a full disk", &why),
    };
    allocate(&disk.ballast(), BALLAST_BYTES);
    let site = Site::with_data("", "", &disk.path().join("data"));
    let server = site.start();
    let client = server.client().await;
    client
        .create_topic("t", 1, TopicSettings::default())
        .await
        .unwrap();
    let (stored, refusal) = fill(&client, 0).await;
    assert_eq!(refusal.code(), Some(ErrorCode::DiskFull), "{refusal}");
    assert!(stored > 0);
    let http = Http(server.http());
    let refused = http.post("/api/v1/events/t", &value(stored)).await;
    refused.is_problem(507, "disk-full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    all_is_there(&client, stored).await;
    http.get("/readyz").await.expect(200);

    std::fs::remove_file(disk.ballast()).unwrap();
    // With its usual patience a producer does not notice more than a pause.
    let producer = client.producer("t").open().await.unwrap();
    let receipt = within("room", producer.send(Record::new(value(stored))))
        .await
        .unwrap();
    assert_eq!(receipt.offset.0, stored);
    all_is_there(&client, stored + 1).await;
    drop((producer, client));
    server.stop();

    // The same once more, and the process is killed while the disk is full.
    let server = site.start();
    let client = server.client().await;
    let (stored, refusal) = fill(&client, stored + 1).await;
    assert_eq!(refusal.code(), Some(ErrorCode::DiskFull), "{refusal}");
    server.kill();
    let server = site.start();
    all_is_there(&server.client().await, stored).await;
    server.stop();
}
