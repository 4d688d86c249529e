//! The object-store side of tiering: settled segments in a bucket, and reading them back.
//!
//! ```text
//! PREFIX/v1/partitions/<partition, 10>/<first offset, 20>-<generation, 10>-<epoch, 10>.seg
//! PREFIX/v1/manifests/<partition, 10>/<version, 20>
//! PREFIX/v1/owner/<epoch, 20>
//! PREFIX/v1/documents/<name>/<version, 20>
//! PREFIX/v1/probe/<number, 20>                 only while a bucket is being opened
//! ```
//! The bucket needs to do one thing right: of several creations of one name, one succeeds. What
//! changes is therefore a row of numbered objects, and the newest counts. Segments are there before a
//! manifest names them, and a manifest gives them up before they are removed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod bucket;
mod cache;
mod chunk_store;
mod claims;
mod counters;
mod credentials;
mod documents;
mod envelope;
mod error;
mod file;
mod fresh;
mod gc;
mod limiter;
mod lru;
mod manifest;
mod manifests;
mod names;
mod nonce;
mod objects;
mod owner;
mod probe;
mod sequence;
mod settings;
mod staged;
mod tier;
mod unfinished;
mod upload;
mod verify;

pub use counters::{Counters, Snapshot};
pub use credentials::{Credentials, Keys, Secret};
pub use documents::{Document, PutDocument};
pub use error::TierError;
pub use file::TierFile;
pub use gc::{GcOptions, Orphan};
pub use limiter::TokenBucket;
pub use manifest::{Added, Entry, Manifest, ManifestError, ObjectId, TierEpoch};
pub use manifests::PutManifest;
pub use names::{Names, Row};
pub use owner::{Held, Joint, Owner, Right, Scope};
pub use probe::Abilities;
pub use settings::Settings;
pub use tier::Tier;
pub use verify::{Problem, Progress, Report};
