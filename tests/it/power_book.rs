//! What is known from outside of a log whose power is cut, and what every look at it must show.

use crate::power_load::{Acked, BULK, Lane, Notes, PARTITIONS, READINGS, Tag};
use crate::server::within;
use flowstone_client::{Client, Consumer, ErrorCode, Offset, Place, RecordView, partition_for_key};
use serde_json::Value;
use std::collections::BTreeMap;

/// A partition of a topic.
type Partition = (&'static str, u32);

/// What is known of the inputs.
#[derive(Default)]
pub(crate) struct Book {
    /// What stands where, as receipts and readers have said. It never changes.
    places: BTreeMap<(Partition, u64), Tag>,
    /// Behind the last acknowledged offset: a partition never ends before that again.
    acked_end: BTreeMap<Partition, u64>,
    /// Up to where the partition was read, and what each lane is to go on with there.
    read: BTreeMap<Partition, Read>,
    pub(crate) acked: u64,
}

#[derive(Clone, Default)]
struct Read {
    next: u64,
    lanes: BTreeMap<Lane, u64>,
}

impl Book {
    fn place(&mut self, partition: Partition, offset: u64, tag: Tag) {
        let known = self.places.entry((partition, offset)).or_insert(tag);
        assert_eq!(
            *known, tag,
            "{partition:?} offset {offset} was given out twice"
        );
    }

    /// Takes note of acknowledgements.
    pub(crate) fn take(&mut self, acked: Vec<Acked>) {
        for Acked {
            topic,
            partition,
            offset,
            tag,
        } in acked
        {
            assert_eq!(tag.lane.partition, partition, "{topic}: {tag:?}");
            self.place((topic, partition), offset, tag);
            let end = self.acked_end.entry((topic, partition)).or_default();
            *end = (*end).max(offset + 1);
            self.acked += 1;
        }
    }

    /// Reads on from the last look and holds it against what is known.
    pub(crate) async fn look(&mut self, client: &Client) {
        for topic in [READINGS, BULK] {
            for partition in 0..PARTITIONS {
                self.read_on(client, (topic, partition)).await;
            }
        }
    }

    /// Forgets how far it has read: the next look is at everything.
    pub(crate) fn look_again(&mut self) {
        self.read.clear();
    }

    async fn read_on(&mut self, client: &Client, partition: Partition) {
        let (topic, index) = partition;
        let mut consumer = client
            .consumer(topic)
            .partitions([index])
            .open()
            .await
            .unwrap();
        let end = client.offset_of(topic, index, Place::End).await.unwrap().0;
        let acked = self.acked_end.get(&partition).copied().unwrap_or(0);
        assert!(
            end >= acked,
            "{partition:?} ends at {end}, {acked} were acknowledged"
        );
        let start = consumer.position(index).unwrap().0;
        let mut read = self.read.remove(&partition).unwrap_or_default();
        read.begin(partition, start);
        consumer.seek(index, Offset(read.next)).unwrap();
        while read.next < end {
            match within("records below the end", consumer.next_batch()).await {
                Ok(records) => {
                    for record in &records {
                        let tag = read.take(partition, &record);
                        self.place(partition, record.offset.0, tag);
                    }
                }
                Err(e) if e.code() == Some(ErrorCode::OffsetOutOfRange) && topic == BULK => {
                    let start = client.offset_of(topic, index, Place::Start).await.unwrap();
                    assert!(start.0 > read.next, "{e}, but it starts at {start}");
                    read.begin(partition, start.0);
                    consumer.seek(index, start).unwrap();
                }
                Err(e) => panic!("{partition:?} at {}: {e}", read.next),
            }
        }
        self.read.insert(partition, read);
    }

    /// Whether retention has taken something away.
    pub(crate) async fn is_shortened(client: &Client) -> bool {
        let status = client.describe(BULK).await.unwrap();
        status.partitions.iter().any(|p| p.start > Offset(0))
    }

    /// Everything that was sent was read, in the end.
    pub(crate) fn is_complete(&self, notes: &Notes) {
        assert!(notes.failed.is_empty(), "given up: {:?}", notes.failed);
        for ((topic, lane), sent) in &notes.sent {
            let read = self.read[&(*topic, lane.partition)].lanes.get(lane);
            assert_eq!(read, Some(sent), "{topic} {lane:?}: read and sent");
        }
    }
}

impl Read {
    /// Starts where the partition starts, if that is later: what was before, nobody can tell.
    fn begin(&mut self, partition: Partition, start: u64) {
        if start > self.next {
            assert_eq!(partition.0, BULK, "{partition:?} starts at {start}");
            self.next = start;
            self.lanes.clear();
        }
    }

    /// Takes the next record: offsets are dense, and so are the numbers of a lane.
    fn take(&mut self, partition: Partition, record: &RecordView<'_>) -> Tag {
        let offset = record.offset.0;
        assert_eq!(offset, self.next, "{partition:?} has a gap");
        self.next += 1;
        let value = record.value.unwrap();
        let tag = if partition.0 == READINGS {
            Tag::of_reading(&serde_json::from_slice(value).unwrap())
        } else {
            Tag::of_bulk(value)
        };
        let first = if partition.0 == BULK { tag.number } else { 0 };
        let expected = self.lanes.entry(tag.lane).or_insert(first);
        assert_eq!(
            tag.number, *expected,
            "{partition:?} offset {offset}: {:?}",
            tag.lane
        );
        *expected += 1;
        tag
    }
}

/// The inputs of the pipelines, and what follows from them.
#[derive(Default)]
pub(crate) struct Expected {
    values: BTreeMap<Tag, Vec<u8>>,
    /// Count and sum of every closed window of each key.
    windows: BTreeMap<(String, i64), (u64, f64)>,
}

const WINDOW_MS: i64 = 1_000;
pub(crate) const SORTED: &str = "by-sensor";
pub(crate) const SUMS: &str = "sums-by-sensor";
/// Outputs go to the partition of their key, so two thirds of them to another shard.
pub(crate) const PIPELINES: &str = r#"
[[pipeline]]
name = "sort"
source = "readings"

[[pipeline.stages]]
type = "key_by"
field = "sensor"
sink = "by-sensor"

[[pipeline]]
name = "sums"
source = "readings"
timestamp_field = "at"
out_of_order_ms = 200
idle_ms = 3600000

[[pipeline.stages]]
type = "key_by"
field = "sensor"

[[pipeline.stages]]
type = "window"
name = "sum"
field = "number"
size_ms = 1000
sink = "sums-by-sensor"
"#;

impl Expected {
    /// Reads the inputs. The last record of each partition opens a window that stays open.
    pub(crate) async fn of_inputs(client: &Client) -> Self {
        let mut expected = Self::default();
        for partition in 0..PARTITIONS {
            let mut rows: Vec<(Tag, Value)> = Vec::new();
            visit_to_end(client, READINGS, partition, |record| {
                let value = record.value.unwrap();
                let json: Value = serde_json::from_slice(value).unwrap();
                let tag = Tag::of_reading(&json);
                let before = expected.values.insert(tag, value.to_vec());
                assert_eq!(before, None, "{tag:?} is stored twice");
                rows.push((tag, json));
            })
            .await;
            let closed = rows.len() - 1;
            for (tag, json) in &rows[..closed] {
                let at = json["at"].as_i64().unwrap();
                let key = json["sensor"].as_str().unwrap().to_string();
                let window = expected
                    .windows
                    .entry((key, at - at % WINDOW_MS))
                    .or_default();
                window.0 += 1;
                window.1 += tag.number as f64;
            }
        }
        expected
    }

    /// Waits until the pipelines have given out as much as they must.
    pub(crate) async fn arrived(&self, client: &Client) {
        for (topic, count) in [(SORTED, self.values.len()), (SUMS, self.windows.len())] {
            let mut consumer = client.consumer(topic).open().await.unwrap();
            let all = async {
                let mut seen = 0;
                while seen < count {
                    seen += consumer.next_batch().await.unwrap().len();
                }
            };
            within("all outputs", all).await;
        }
    }

    /// Holds the outputs against the inputs: each is there once, and nothing else.
    pub(crate) async fn check(&self, client: &Client) {
        self.check_sorted(client).await;
        self.check_sums(client).await;
    }

    async fn check_sorted(&self, client: &Client) {
        let mut missing = self.values.clone();
        let mut newest: BTreeMap<(u32, Vec<u8>), u64> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            visit_to_end(client, SORTED, partition, |record| {
                let (key, value) = (record.key.unwrap(), record.value.unwrap());
                assert_eq!(partition, partition_for_key(key, PARTITIONS));
                let tag = Tag::of_reading(&serde_json::from_slice(value).unwrap());
                let input = missing.remove(&tag);
                let same = input.as_deref() == Some(value);
                assert!(same, "{tag:?} came out of nothing, or twice");
                let before = newest.insert((tag.lane.partition, key.to_vec()), tag.number);
                assert!(
                    before < Some(tag.number),
                    "{before:?} stands before {tag:?}"
                );
            })
            .await;
        }
        assert!(
            missing.is_empty(),
            "no output for {:?}",
            missing.first_key_value()
        );
    }

    async fn check_sums(&self, client: &Client) {
        let mut missing = self.windows.clone();
        for partition in 0..PARTITIONS {
            visit_to_end(client, SUMS, partition, |record| {
                let sum: Value = serde_json::from_slice(record.value.unwrap()).unwrap();
                let key = sum["key"].as_str().unwrap().to_string();
                let start = sum["window_start"].as_i64().unwrap();
                let expected = missing.remove(&(key, start));
                let given = (sum["count"].as_u64().unwrap(), sum["sum"].as_f64().unwrap());
                assert_eq!(Some(given), expected, "{sum}");
            })
            .await;
        }
        assert!(
            missing.is_empty(),
            "no output for {:?}",
            missing.first_key_value()
        );
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.values.len(), self.windows.len())
    }
}

/// Visits what the partition holds now; its offsets are dense from 0.
async fn visit_to_end(
    client: &Client,
    topic: &str,
    partition: u32,
    mut visit: impl FnMut(RecordView<'_>),
) {
    let builder = client.consumer(topic).partitions([partition]);
    let mut consumer: Consumer = builder.open().await.unwrap();
    let end = client
        .offset_of(topic, partition, Place::End)
        .await
        .unwrap();
    let mut next = 0;
    while next < end.0 {
        let records = within("records below the end", consumer.next_batch())
            .await
            .unwrap();
        for record in &records {
            assert_eq!(record.offset.0, next, "{topic} {partition} has a gap");
            next += 1;
            visit(record);
        }
    }
}
