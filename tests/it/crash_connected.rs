//! A client that stays up while the broker is killed again and again under it.
//!
//! The idempotent producer sends again what was not answered: nothing is lost, doubled or moved.

use crate::dice::{Dice, kills};
use crate::load::{Load, Sent, Tag};
use crate::reading::visit_all;
use crate::server::{Server, Site, within};
use crate::tier_site::until;
use flowstone_client::{Acks, Client, TopicSettings};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const TOPIC: &str = "load";
const PARTITIONS: u32 = 2;
const PRODUCERS: u32 = 3;

/// The tags of each producer and partition, in order.
type Order = BTreeMap<(u32, u32), Vec<Tag>>;

fn order_of(tags: impl IntoIterator<Item = (u32, Tag)>) -> Order {
    let mut order = Order::new();
    for (partition, tag) in tags {
        order
            .entry((tag.producer, partition))
            .or_default()
            .push(tag);
    }
    order
}

fn spawn_load(
    client: &Client,
    dice: &mut Dice,
    acked: &mpsc::UnboundedSender<crate::load::Acked>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<Sent> {
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let load = Load {
            topic: TOPIC,
            partitions: PARTITIONS,
            producer,
            first: 0,
            acks: if producer == 0 {
                Acks::Written
            } else {
                Acks::Durable
            },
            window: 300,
            finish: true,
            dice: Dice::new(dice.next()),
        };
        producers.spawn(load.run(client.clone(), acked.clone(), stopped.clone()));
    }
    producers
}

/// Reads the topic as it grows; ends when the other side of the channel does.
fn spawn_reader(client: &Client) -> mpsc::Receiver<(u32, Tag)> {
    let (seen, reads) = mpsc::channel(1 << 20);
    let client = client.clone();
    tokio::spawn(async move {
        let mut consumer = client.consumer(TOPIC).open().await.unwrap();
        loop {
            let records = consumer.next_batch().await.unwrap();
            for record in &records {
                let row = (records.partition(), Tag::of(record.value));
                if seen.send(row).await.is_err() {
                    return;
                }
            }
        }
    });
    reads
}

/// Kills the broker again and again, each time after some acknowledgements.
async fn kill_often(
    site: &Site,
    mut server: Server,
    dice: &mut Dice,
    acks: &mut mpsc::UnboundedReceiver<crate::load::Acked>,
) -> (Server, Vec<crate::load::Acked>) {
    let mut acked = Vec::new();
    for _ in 0..kills(50) {
        for _ in 0..dice.below(1_500) {
            acked.push(within("an acknowledgement", acks.recv()).await.unwrap());
        }
        server.kill();
        server = site.start();
    }
    (server, acked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_stays_up_loses_and_doubles_nothing() {
    let site = Site::new("", "");
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let settings = TopicSettings::default();
    client
        .create_topic(TOPIC, PARTITIONS, settings)
        .await
        .unwrap();
    let mut dice = Dice::new(2);
    let (stop, stopped) = watch::channel(false);
    let (acked, mut acks) = mpsc::unbounded_channel();
    let producers = spawn_load(&client, &mut dice, &acked, &stopped);
    drop(acked);
    let mut reads = spawn_reader(&client);
    let (server, mut acked) = kill_often(&site, server, &mut dice, &mut acks).await;
    stop.send_replace(true);
    let sent = within("the last acknowledgements", producers.join_all()).await;
    while let Some(ack) = acks.recv().await {
        acked.push(ack);
    }
    let failed: Vec<_> = sent.iter().flat_map(|s| &s.failed).collect();
    assert!(
        failed.is_empty(),
        "{} failed: {:?}",
        failed.len(),
        failed[0]
    );
    let tags = sent.iter().flat_map(|s| &s.records);
    let sent = order_of(tags.map(|(tag, partition)| (*partition, *tag)));

    // What was acknowledged as written is shown when it is durable, which may be a little later.
    until("all of it is shown", async || {
        let status = client.describe(TOPIC).await.unwrap();
        status.partitions.iter().all(|p| p.committed == p.end)
    })
    .await;
    let mut stored = Vec::new();
    let mut places = BTreeMap::new();
    visit_all(&client, TOPIC, |partition, record| {
        let tag = Tag::of(record.value);
        stored.push((partition, tag));
        places.insert(tag, (partition, record.offset.0));
    })
    .await;
    let count = stored.len();
    assert!(
        order_of(stored) == sent,
        "what is stored is not what was sent"
    );
    assert_eq!(acked.len(), count);
    for ack in &acked {
        assert_eq!(
            places[&ack.tag],
            (ack.partition, ack.offset),
            "a receipt of {:?}",
            ack.tag
        );
    }
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(within("the reader", reads.recv()).await.unwrap());
    }
    assert!(
        order_of(seen.iter().copied()) == sent,
        "what was read is not what was sent"
    );
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), count);
    eprintln!("{count} records, each stored and read once");
    server.stop();
}
