//! A disk that is filled again and again, by the load and by others, at all kinds of moments.

use crate::dice::Dice;
use crate::launch::Launched;
use crate::loop_disk::{Kind, LoopDisk, skipped};
use crate::power_cut::wait_for_roll;
use crate::server::{Site, within};
use flowstone_client::{Client, Error, ErrorCode, Offset, Place, Record, TopicSettings};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DISK_BYTES: u64 = 400 << 20;
const VALUE_BYTES: usize = 256 << 10;
/// Service is back within this when there is room again.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// So many records are read at either end of a topic.
const ENDS: u64 = 8;
/// Windows over a day of which only minutes come: every key keeps its state.
const PIPELINE: &str = r#"
[settle]
rate_bytes_per_s = 1073741824

[[pipeline]]
name = "keys"
source = "readings"
timestamp_field = "at"

[[pipeline.stages]]
type = "key_by"
field = "key"

[[pipeline.stages]]
type = "window"
name = "days"
field = "n"
size_ms = 86400000
sink = "days"
"#;

/// How often the disk is filled: `FLOWSTONE_FILLS`, or `default`.
fn fills(default: u64) -> u64 {
    std::env::var("FLOWSTONE_FILLS").map_or(default, |s| s.parse().unwrap())
}

/// Who takes the room, and when.
#[derive(Clone, Copy, Debug)]
enum Filler {
    /// The records themselves, where another file has left little.
    Load,
    /// Another file takes all that is left while records come.
    Neighbour,
    /// The same, as soon as a segment is renamed into place.
    Roll,
    /// The same, and then the state of a pipeline grows until it must be written.
    State,
}

const FILLERS: [Filler; 4] = [Filler::Load, Filler::Neighbour, Filler::Roll, Filler::State];

/// Takes all the room there is, to the last block.
fn take_all(ballast: PathBuf) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(ballast)
        .unwrap();
    let mut bytes = 64 << 20;
    while bytes >= 4 << 10 {
        let end = file.metadata().unwrap().len();
        if fallocate(&file, FallocateFlags::empty(), end, bytes).is_err() {
            bytes /= 2;
        }
    }
}

/// A value that compresses badly.
fn value(topic: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice::new(topic << 32 | number);
    let words = (0..VALUE_BYTES / 8).flat_map(|_| dice.next().to_le_bytes());
    words.collect()
}

/// One topic of its own for each time.
struct Fill {
    number: u64,
    topic: String,
    /// Records that were acknowledged.
    stored: u64,
}

impl Fill {
    async fn new(client: &Client, number: u64) -> Self {
        let topic = format!("fill-{number}");
        client
            .create_topic(&topic, 1, TopicSettings::default())
            .await
            .unwrap();
        Self {
            number,
            topic,
            stored: 0,
        }
    }

    /// Sends so many records, each a round trip to the disk, or until one is refused.
    async fn send(&mut self, client: &Client, count: u64, retry_for_ms: u64) -> Result<(), Error> {
        let producer = client
            .producer(&self.topic)
            .retry_for_ms(retry_for_ms)
            .open()
            .await?;
        for _ in 0..count {
            let record = Record::new(value(self.number, self.stored));
            let receipt = within("an answer", producer.send(record)).await?;
            assert_eq!(receipt.offset.0, self.stored);
            self.stored += 1;
        }
        Ok(())
    }

    /// Sends until there is no room.
    async fn send_until_refused(&mut self, client: &Client) {
        let most = DISK_BYTES / VALUE_BYTES as u64;
        let refusal = self
            .send(client, most, 1)
            .await
            .expect_err("it holds more than the disk");
        assert_eq!(refusal.code(), Some(ErrorCode::DiskFull), "{refusal}");
    }

    /// Reads records at the beginning and at the end, or all of them.
    async fn is_there(&self, client: &Client, all: bool) {
        let end = client.offset_of(&self.topic, 0, Place::End).await.unwrap();
        assert_eq!(end.0, self.stored, "{}", self.topic);
        let tail = self.stored.saturating_sub(ENDS);
        let ranges = if all {
            vec![(0, self.stored)]
        } else {
            vec![(0, ENDS), (tail, end.0)]
        };
        let mut consumer = client.consumer(&self.topic).open().await.unwrap();
        for (mut next, end) in ranges {
            consumer.seek(0, Offset(next)).unwrap();
            while next < end.min(self.stored) {
                let records = within("records", consumer.next_batch()).await.unwrap();
                for record in &records {
                    assert_eq!(record.offset.0, next);
                    assert!(
                        record.value == Some(&value(self.number, next)),
                        "record {next}"
                    );
                    next += 1;
                }
            }
        }
    }
}

/// Many keys: their state is written to the disk with the next megabytes.
async fn grow_state(client: &Client, number: u64) -> Result<(), Error> {
    let producer = client.producer("readings").retry_for_ms(1).open().await?;
    for n in 0..4_000_i64 {
        let key = format!("{number}-{n}-{:0>200}", "");
        let value = format!(r#"{{"at":{},"key":"{key}","n":1}}"#, 1_600_000_000_000 + n);
        let _ticket = producer.enqueue(Record::new(&value)).await?;
    }
    within("acknowledgements", producer.flush()).await
}

/// Done, or refused by the right name.
#[track_caller]
fn is_full(result: Result<(), Error>) {
    if let Err(refusal) = result {
        assert_eq!(refusal.code(), Some(ErrorCode::DiskFull), "{refusal}");
    }
}

async fn fill_up(
    disk: &LoopDisk,
    site: &Site,
    client: &Client,
    fill: &mut Fill,
    filler: Filler,
    dice: &mut Dice,
) {
    let some = 10 + dice.below(150);
    match filler {
        Filler::Load => {
            let file = File::create(disk.ballast()).unwrap();
            let bytes = (100 << 20) + dice.below(50 << 20);
            // Where even that is not free, the load finds less room.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, bytes);
        }
        Filler::Neighbour => {
            fill.send(client, some, 1_000).await.unwrap();
            take_all(disk.ballast());
        }
        Filler::Roll => {
            let (data, ballast) = (site.data().to_owned(), disk.ballast());
            let neighbour = tokio::task::spawn_blocking(move || {
                wait_for_roll(&data);
                take_all(ballast);
            });
            is_full(fill.send(client, 280, 1_000).await);
            neighbour.await.unwrap();
        }
        Filler::State => {
            fill.send(client, some, 1_000).await.unwrap();
            take_all(disk.ballast());
            is_full(grow_state(client, fill.number).await);
        }
    }
    fill.send_until_refused(client).await;
}

/// What changes no records is done, or refused for the same reason.
async fn topics_come_and_go(client: &Client, number: u64) {
    let name = format!("other-{number}");
    let settings = TopicSettings::default();
    let made = client.create_topic(&name, 1, settings).await;
    let is_there = made.is_ok();
    is_full(made.map(drop));
    if is_there {
        is_full(client.delete_topic(&name).await);
    }
}

/// Fills the disk, looks, makes room, looks again. Returns how long it took to be back.
async fn one_fill(disk: &LoopDisk, site: &Site, number: u64, dice: &mut Dice) -> Duration {
    let filler = FILLERS[(number % 4) as usize];
    let mut broker = Launched::start(site);
    let client = broker.client().await;
    let mut fill = Fill::new(&client, number).await;
    fill_up(disk, site, &client, &mut fill, filler, dice).await;
    fill.is_there(&client, false).await;
    topics_come_and_go(&client, number).await;
    broker.http().get("/readyz").await.expect(200);
    broker.lives_for(Duration::ZERO);
    if dice.once_in(2) {
        // It also starts, and gives out everything, while there is no room.
        broker.kill();
        broker = Launched::start(site);
    }
    let client = broker.client().await;
    fill.is_there(&client, false).await;

    std::fs::remove_file(disk.ballast()).unwrap();
    let since = Instant::now();
    fill.send(&client, 1, 60_000).await.unwrap();
    let back = since.elapsed();
    assert!(back < BACK_WITHIN, "{filler:?}: back after {back:?}");
    let (name, settings) = (format!("later-{number}"), TopicSettings::default());
    client.create_topic(&name, 1, settings).await.unwrap();
    client.delete_topic(&name).await.unwrap();
    broker.kill();
    let broker = Launched::start(site);
    let client = broker.client().await;
    fill.is_there(&client, true).await;
    client.delete_topic(&fill.topic).await.unwrap();
    drop(client);
    broker.stop();
    back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_again_and_again_loses_nothing() {
    let disk = match LoopDisk::new(Kind::Ext4, DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return skipped("the test of disks that fill up", &why),
    };
    let site = Site::with_data("hot_bytes = 1", "", &disk.path().join("data"));
    let broker = Launched::start(&site);
    let settings = TopicSettings::default();
    broker
        .client()
        .await
        .create_topic("readings", 1, settings)
        .await
        .unwrap();
    broker.stop();
    site.set("hot_bytes = 1", PIPELINE);
    let mut dice = Dice::new(41);
    let mut slowest = Duration::ZERO;
    let count = fills(8);
    for number in 0..count {
        slowest = slowest.max(one_fill(&disk, &site, number, &mut dice).await);
    }
    eprintln!("{count} times full, back after {slowest:?} at most");
}
