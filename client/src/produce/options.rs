//! What can be chosen for a producer, and what goes together.

use crate::error::Error;
use flowstone_wire::Codec;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::limits::{BATCH_BYTES_MAX, PRODUCER_WINDOW};
use flowstone_wire::native::Acks;
use std::time::Duration;

/// Most batches of a partition under way at once while each must be stored once: the broker
/// recognises a retry among the last [`PRODUCER_WINDOW`] batches only.
pub(crate) const IN_FLIGHT_MAX: usize = 5;
const _: () = assert!(IN_FLIGHT_MAX <= PRODUCER_WINDOW);
/// Most batches of a partition under way at once in any case.
const UNNUMBERED_IN_FLIGHT_MAX: usize = 64;

/// The options of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) acks: Acks,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) codec: Codec,
    pub(crate) max_in_flight: usize,
    pub(crate) idempotent: bool,
    pub(crate) buffer_bytes: usize,
    pub(crate) retry_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            acks: Acks::default(),
            linger: Duration::ZERO,
            batch_bytes: 256 << 10,
            codec: Codec::None,
            max_in_flight: IN_FLIGHT_MAX,
            idempotent: true,
            buffer_bytes: 32 << 20,
            retry_for: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// Bytes that may be on the way at once, a part of the buffer. The rest gathers: the more
    /// partitions share it, the more a batch for each of them is worth.
    pub(crate) fn window_bytes(&self) -> usize {
        self.buffer_bytes / 4
    }

    /// Checks each option and what goes together.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the option, its value and its bounds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let in_flight_max = if self.idempotent {
            IN_FLIGHT_MAX
        } else {
            UNNUMBERED_IN_FLIGHT_MAX
        };
        within("max_in_flight", self.max_in_flight, 1, in_flight_max)?;
        within(
            "batch_bytes",
            self.batch_bytes,
            HEADER_BYTES,
            BATCH_BYTES_MAX,
        )?;
        within("buffer_bytes", self.buffer_bytes, 1 << 10, 1 << 40)
    }
}

fn within(name: &str, value: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{name} = {value} is outside {min} to {max}; choose a value between them"
    )))
}
