//! What the tier did so far, so that its cost can be told.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the tier was opened.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// The counts of a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The counts of now. Each is exact, together they are not of one instant.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Bytes sent to the bucket.
    up_bytes,
    /// Bytes received from the bucket.
    down_bytes,
    /// Requests that store: puts and parts.
    put_requests,
    /// Requests that fetch: whole objects, ranges and heads.
    get_requests,
    /// Lists that were begun; one may take several requests of a thousand names each.
    list_requests,
    /// Names in the answers to lists.
    listed_names,
    /// Objects that were asked to be removed; up to a thousand go in one request.
    deleted_objects,
    /// Requests that failed for good. What the S3 client tried again by itself is not counted.
    errors,
    /// Times that this crate asked again, beyond what the S3 client tried by itself.
    retries,
    /// Chunks that were read from the local cache.
    cache_hits,
    /// Chunks that had to be fetched.
    cache_misses,
    /// Readers that waited for a fetch that another one had begun.
    cache_joins,
    /// Chunks that were fetched ahead of a reader.
    cache_prefetches,
    /// Chunks that were found damaged in the local cache, and dropped.
    cache_damaged,
    /// Chunks that could not be kept because the local disk failed.
    cache_write_errors,
    /// Chunks that were dropped to make room.
    cache_evictions,
    /// Bytes in the local cache now.
    cache_bytes,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
