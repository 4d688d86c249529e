//! The Rust client of Flowstone: producers, consumers and administration.
//!
//! ```no_run
//! # async fn run() -> Result<(), flowstone_client::Error> {
//! use flowstone_client::{Client, Record};
//!
//! let client = Client::connect("tcp://127.0.0.1:7400").await?;
//! let producer = client.producer("orders").open().await?;
//! let receipt = producer.send(Record::new("coffee").key("table 4")).await?;
//!
//! let mut consumer = client.consumer("orders").group("kitchen").open().await?;
//! let records = consumer.next_batch().await?;
//! for record in &records {
//!     println!("{} {:?}", record.offset, record.value);
//! }
//! consumer.commit().await?;
//! # let _ = receipt;
//! # Ok(())
//! # }
//! ```
//!
//! Everything here runs inside a tokio runtime with time and I/O enabled. Dropping a [`Client`] with
//! everything made from it ends its tasks and closes its connections.
//!
//! | module | what it is |
//! | - | - |
//! | `client`, `admin` | the handle, and what it asks of a broker |
//! | `transport` | the seam between the client and a broker: sockets, or an embedded broker |
//! | `net` | the transport over TCP and Unix sockets |
//! | `produce` | gathering, numbering, sending and retrying batches |
//! | `query` | queries of SQL |
//! | `consume` | reading ahead, checking and handing out records |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod admin;
mod backoff;
mod client;
mod consume;
mod error;
mod net;
mod produce;
mod query;
mod record;
mod transport;

mod fake_broker;

pub use client::Client;
pub use consume::{Consumer, ConsumerBuilder, ReadFrom, RecordIter, Records};
pub use error::Error;
pub use produce::{Producer, ProducerBuilder, Receipt, Ticket};
pub use query::Query;
pub use record::{Payload, Record};
pub use transport::{BoxFuture, RawAnswer, Route, Transport};

pub use flowstone_wire::native::{
    Acks, ClusterChange, ClusterStatus, GroupOffset, OperatorStatus, Partition, PartitionStatus,
    PipelineAction, PipelineDescription, PipelineShown, PipelineStatus, PipelineTrial, Place,
    QueryColumn, QueryKind, QueryStatistics, ShardStatus, TierStatus, Topic, TopicSettings,
    TopicStatus, Visibility,
};
pub use flowstone_wire::partitioner::partition_for_key;
pub use flowstone_wire::{
    Codec, ErrorCode, Failure, Header, Offset, PartitionId, RecordView, ShardId,
};
