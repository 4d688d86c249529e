//! Choosing the options of a producer and opening it.

use super::lane::Identity;
use super::options::Options;
use super::producer::Producer;
use super::sender::Sender;
use super::shared::Shared;
use crate::client::Client;
use crate::error::Error;
use crate::transport::Route;
use flowstone_wire::Codec;
use flowstone_wire::native::{Acks, InitProducer};
use std::sync::Arc;
use std::time::Duration;

/// Options of a producer; [`open`](Self::open) makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is opened"]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    options: Options,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: &str) -> Self {
        Self {
            client,
            topic: topic.to_owned(),
            options: Options::default(),
        }
    }

    /// When a record counts as sent: by default once it is durable.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.options.acks = acks;
        self
    }

    /// How long a batch may wait for more records, in milliseconds. By default 0: a batch goes as
    /// soon as one may, and records gather while others are under way.
    pub fn linger_ms(mut self, linger_ms: u64) -> Self {
        self.options.linger = Duration::from_millis(linger_ms);
        self
    }

    /// Bytes of a full batch before compression; by default 256 KiB, at most 8 MiB.
    pub fn batch_bytes(mut self, batch_bytes: usize) -> Self {
        self.options.batch_bytes = batch_bytes;
        self
    }

    /// How batches are compressed; by default not at all.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.options.codec = codec;
        self
    }

    /// Batches of one partition under way at once; by default 5, which is the most while the
    /// producer is idempotent (64 otherwise).
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.options.max_in_flight = batches;
        self
    }

    /// Whether batches are numbered, so that each is stored once however often it is sent; by
    /// default they are. Without it, a batch whose fate is not known fails instead of being sent
    /// again, and records keep their order across a retry only with `max_in_flight(1)`.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.options.idempotent = idempotent;
        self
    }

    /// Bytes of records that may wait for their answers; by default 32 MiB. Beyond,
    /// [`Producer::enqueue`] waits.
    pub fn buffer_bytes(mut self, buffer_bytes: usize) -> Self {
        self.options.buffer_bytes = buffer_bytes;
        self
    }

    /// How old, in milliseconds, a batch may be when it is tried again; older ones fail with their
    /// last error. By default 30,000. Every batch is tried once.
    pub fn retry_for_ms(mut self, retry_for_ms: u64) -> Self {
        self.options.retry_for = Duration::from_millis(retry_for_ms);
        self
    }

    /// Opens the producer.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that do not go together,
    /// [`ErrorCode::UnknownTopic`](crate::ErrorCode::UnknownTopic), and as [`Client::call`].
    pub async fn open(self) -> Result<Producer, Error> {
        self.options.check()?;
        let topic = self.client.topic(&self.topic).await?;
        if topic.partitions.is_empty() {
            let text = format!("topic '{}' has no partitions", topic.name);
            return Err(Error::Invalid(text));
        }
        let (identity, first_partition) = if self.options.idempotent {
            let (given, _) = self
                .client
                .call_retrying(Route::Any, &InitProducer {})
                .await?;
            (Identity::of(given), given.id.0)
        } else {
            (Identity::Unneeded, 0)
        };
        let shared = Arc::new(Shared::new(topic, self.options, first_partition));
        let sender = Sender::new(self.client, Arc::clone(&shared), identity);
        let task = tokio::spawn(sender.run());
        Ok(Producer::new(shared, task))
    }
}
