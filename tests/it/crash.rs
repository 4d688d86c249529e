//! The real binary under load, killed with SIGKILL at random points, each time a new process.
//!
//! Every process has its own producers: what was sent and not acknowledged may be there or not.

use crate::dice::{Dice, kills};
use crate::load::{Acked, Load, Sent, Tag};
use crate::reading::visit_all;
use crate::server::{Server, Site, within};
use flowstone_client::{Acks, Client, Offset, TopicSettings};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const TOPIC: &str = "load";
const PARTITIONS: u32 = 3;
const PRODUCERS: u32 = 4;

/// What is known of the log from outside.
#[derive(Default)]
struct Book {
    /// What stands where, as receipts and readers have said. It never changes.
    places: BTreeMap<(u32, u64), Tag>,
    acked: BTreeSet<Tag>,
    /// Records that a reader has seen.
    seen: BTreeSet<(u32, u64)>,
    /// What one producer of one process has sent, in order, with the partition.
    sessions: Vec<Vec<(Tag, u32)>>,
    next_number: BTreeMap<u32, u64>,
}

impl Book {
    fn place(&mut self, partition: u32, offset: u64, tag: Tag) {
        let known = self.places.entry((partition, offset)).or_insert(tag);
        assert_eq!(
            *known, tag,
            "partition {partition} offset {offset} was given out twice"
        );
    }

    fn acked(&mut self, acked: Acked) {
        self.place(acked.partition, acked.offset, acked.tag);
        assert!(
            self.acked.insert(acked.tag),
            "{:?} was acknowledged twice",
            acked.tag
        );
    }

    fn seen(&mut self, partition: u32, offset: u64, tag: Tag) {
        self.place(partition, offset, tag);
        self.seen.insert((partition, offset));
    }

    fn sent(&mut self, producer: u32, sent: Sent) {
        if let Some((last, _)) = sent.records.last() {
            self.next_number.insert(producer, last.number + 1);
        }
        self.sessions.push(sent.records);
    }

    /// Holds the whole log against everything that is known.
    fn check(&self, log: &BTreeMap<(u32, u64), Tag>) {
        let wrong = |(place, tag): &(&(u32, u64), &Tag)| log.get(*place) != Some(*tag);
        let wrong: Vec<_> = self.places.iter().filter(wrong).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} places hold nothing or something else, from {:?} to {:?}; a reader has seen \
             {} of them; the log holds {} records from {:?} on",
            wrong.len(),
            self.places.len(),
            wrong[0],
            wrong[wrong.len() - 1],
            wrong
                .iter()
                .filter(|(place, _)| self.seen.contains(place))
                .count(),
            log.len(),
            log.keys().next(),
        );
        let mut next = BTreeMap::new();
        let mut newest = BTreeMap::new();
        let mut stored = BTreeSet::new();
        for ((partition, offset), tag) in log {
            let expected = next.insert(*partition, offset + 1).unwrap_or(0);
            assert_eq!(*offset, expected, "partition {partition} has a gap");
            assert!(stored.insert(*tag), "{tag:?} is stored twice");
            let before = newest.insert((*partition, tag.producer), *tag);
            assert!(before < Some(*tag), "{before:?} stands before {tag:?}");
        }
        let lost: Vec<_> = self.acked.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        for session in &self.sessions {
            for partition in 0..PARTITIONS {
                let mut there = session.iter().filter(|(_, p)| *p == partition);
                let first_missing = there.find(|(tag, _)| !stored.contains(tag));
                let behind_it = there.find(|(tag, _)| stored.contains(tag));
                assert!(
                    behind_it.is_none(),
                    "{first_missing:?} is not there, {behind_it:?} is"
                );
            }
        }
    }
}

/// Reads from where the last reader stopped, until the broker is gone.
async fn read_on(
    client: Client,
    mut positions: Vec<Offset>,
    seen: mpsc::UnboundedSender<(u32, u64, Tag)>,
    mut stop: watch::Receiver<bool>,
) -> Vec<Offset> {
    let reading = async {
        let Ok(mut consumer) = client.consumer(TOPIC).open().await else {
            return std::future::pending().await;
        };
        for (partition, position) in (0..).zip(&positions) {
            consumer.seek(partition, *position).unwrap();
        }
        while let Ok(records) = consumer.next_batch().await {
            for record in &records {
                let tag = Tag::of(record.value);
                seen.send((records.partition(), record.offset.0, tag))
                    .unwrap();
            }
            positions[records.partition() as usize] = records.next_offset();
        }
    };
    tokio::select! {
        () = reading => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    positions
}

/// One process: load on it until so many acknowledgements were seen, then SIGKILL.
async fn one_life(
    server: Server,
    book: &mut Book,
    dice: &mut Dice,
    positions: Vec<Offset>,
) -> Vec<Offset> {
    let client = server.client().await;
    let (stop, stopped) = watch::channel(false);
    let (acked, mut acks) = mpsc::unbounded_channel();
    let (seen, mut reads) = mpsc::unbounded_channel();
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let load = Load {
            topic: TOPIC,
            partitions: PARTITIONS,
            producer,
            first: book.next_number.get(&producer).copied().unwrap_or(0),
            acks: if producer % 2 == 0 {
                Acks::Durable
            } else {
                Acks::Written
            },
            window: 200,
            finish: false,
            dice: Dice::new(dice.next()),
        };
        let run = load.run(client.clone(), acked.clone(), stopped.clone());
        producers.spawn(async move { (producer, run.await) });
    }
    drop(acked);
    let reader = tokio::spawn(read_on(client, positions, seen, stopped));
    // Now and then it is killed before anybody got an answer.
    let most = if dice.once_in(8) { 8_000 } else { 1_000 };
    for _ in 0..dice.below(most) {
        book.acked(within("an acknowledgement", acks.recv()).await.unwrap());
    }
    server.kill();
    stop.send_replace(true);
    while let Some(ended) = producers.join_next().await {
        let (producer, sent) = ended.unwrap();
        book.sent(producer, sent);
    }
    let positions = within("the reader's end", reader).await.unwrap();
    while let Some(ack) = acks.recv().await {
        book.acked(ack);
    }
    while let Some((partition, offset, tag)) = reads.recv().await {
        book.seen(partition, offset, tag);
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    // What is sealed is settled at once: kills hit that as well.
    let site = Site::new("hot_bytes = 1", "[settle]\nrate_bytes_per_s = 1073741824");
    let mut dice = Dice::new(1);
    let mut book = Book::default();
    let mut positions = vec![Offset(0); PARTITIONS as usize];
    let mut server = site.start();
    let settings = TopicSettings::default();
    let client = server.client().await;
    client
        .create_topic(TOPIC, PARTITIONS, settings)
        .await
        .unwrap();
    drop(client);
    for _ in 0..kills(50) {
        positions = one_life(server, &mut book, &mut dice, positions).await;
        server = site.start();
    }
    let mut log = BTreeMap::new();
    let client = server.client().await;
    visit_all(&client, TOPIC, |partition, record| {
        let before = log.insert((partition, record.offset.0), Tag::of(record.value));
        assert_eq!(before, None, "read twice");
    })
    .await;
    book.check(&log);
    eprintln!(
        "{} records, {} acknowledged, {} seen by readers before",
        log.len(),
        book.acked.len(),
        book.seen.len()
    );
    server.stop();
}
