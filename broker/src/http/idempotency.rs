//! `Idempotency-Key`: the same key and body store once, also across restarts.
//!
//! The key becomes an idempotent producer of its own, whose only batch has sequence 0: a repeat is a
//! duplicate to the shard, which survives restarts with it. What the shard cannot see, that a key
//! came back with another body, is remembered here, for as long as there is room.

use flowstone_wire::ProducerId;
use flowstone_wire::{ErrorCode, Failure};
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Mutex;

/// Keys remembered; the oldest is forgotten first.
const KEYS_MAX: usize = 100_000;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// Numbers from here on are keys; the catalog counts from 1 and will not get here. Those from twice
/// as much on are tasks of other shards ([`ProducerId::is_outbound`]).
const FIRST_KEY_PRODUCER: u64 = 1 << 62;

#[derive(Default)]
struct Seen {
    bodies: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

/// The keys that were used.
#[derive(Default)]
pub(super) struct Idempotency {
    seen: Mutex<Seen>,
}

fn hash(parts: &[&[u8]]) -> u64 {
    // SipHash with fixed keys: the same number after a restart.
    let mut hasher = DefaultHasher::new();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}

impl Idempotency {
    /// The producer of a key in a topic; refuses a key that came with another body.
    pub(super) fn producer(
        &self,
        topic: &str,
        key: &[u8],
        body: &[u8],
    ) -> Result<ProducerId, Failure> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let what = format!(
                "Idempotency-Key has {} bytes; 1 to 255 are allowed",
                key.len()
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let id = FIRST_KEY_PRODUCER | hash(&[topic.as_bytes(), key]) & (FIRST_KEY_PRODUCER - 1);
        let body = hash(&[body]);
        let Ok(mut seen) = self.seen.lock() else {
            return Err(Failure::new(
                ErrorCode::Internal,
                "idempotency keys are not usable",
            ));
        };
        match seen.bodies.get(&id) {
            Some(known) if *known != body => {
                let what = "this Idempotency-Key was used with another body; take a new key";
                return Err(Failure::new(ErrorCode::IdempotencyMismatch, what));
            }
            Some(_) => {}
            None => {
                seen.bodies.insert(id, body);
                seen.order.push_back(id);
                if seen.order.len() > KEYS_MAX
                    && let Some(oldest) = seen.order.pop_front()
                {
                    seen.bodies.remove(&oldest);
                }
            }
        }
        Ok(ProducerId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_producer_and_takes_one_body() {
        let keys = Idempotency::default();
        let first = keys.producer("t", b"k", b"body").unwrap();
        assert_eq!(keys.producer("t", b"k", b"body").unwrap(), first);
        assert_ne!(keys.producer("t", b"k2", b"body").unwrap(), first);
        for n in 0..64u8 {
            let id = keys.producer("t", &[n], b"").unwrap();
            assert!(!id.is_outbound() && id.0 >= FIRST_KEY_PRODUCER, "{id}");
        }
        assert_ne!(keys.producer("t2", b"k", b"body").unwrap(), first);
        let code = keys.producer("t", b"k", b"other").unwrap_err().code;
        assert_eq!(code, ErrorCode::IdempotencyMismatch);
        assert!(keys.producer("t", b"", b"").is_err());
        assert_eq!(
            Idempotency::default().producer("t", b"k", b"x").unwrap(),
            first,
            "after a restart"
        );
    }
}
