//! Reading topics from their beginning to where they end now.

use crate::server::within;
use flowstone_client::{Client, Place, RecordView};

/// Calls `visit` with every record that the topic holds now, in order for each partition.
pub(crate) async fn visit_all(
    client: &Client,
    topic: &str,
    mut visit: impl FnMut(u32, RecordView<'_>),
) {
    let mut consumer = client.consumer(topic).open().await.unwrap();
    let mut ends = Vec::new();
    for partition in consumer.partitions().collect::<Vec<_>>() {
        let end = client
            .offset_of(topic, partition, Place::End)
            .await
            .unwrap();
        ends.push((partition, end));
    }
    while ends
        .iter()
        .any(|(p, end)| consumer.position(*p).unwrap() < *end)
    {
        let records = within("records below the end", consumer.next_batch())
            .await
            .unwrap();
        for record in &records {
            visit(records.partition(), record);
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Row {
    /// A copy of a record.
    pub(crate) fn of(record: &RecordView<'_>) -> Self {
        Self {
            offset: record.offset.0,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        }
    }
}

/// Every record that the topic holds now, by partition.
pub(crate) async fn read_all(client: &Client, topic: &str) -> Vec<Vec<Row>> {
    let partitions = client.topic(topic).await.unwrap().partitions.len();
    let mut rows = vec![Vec::new(); partitions];
    visit_all(client, topic, |partition, record| {
        rows[partition as usize].push(Row::of(&record));
    })
    .await;
    rows
}
