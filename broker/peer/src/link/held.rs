//! What the shards hold of what has come on a link: bounded, so that one that does not get on takes
//! neither the memory nor the link from the others.

use crate::limits::{LINK_HELD_BYTES, SHARD_HELD_BYTES};
use bytes::Bytes;
use flowstone_wire::ShardId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Shards that are told apart; the others of a peer that makes up numbers share one account.
const SHARDS_MAX: usize = flowstone_wire::limits::SHARDS_MAX;

/// What the shards hold of one connection.
#[derive(Debug, Default)]
pub(crate) struct Held {
    all: Arc<AtomicUsize>,
    shards: Mutex<HashMap<ShardId, Arc<AtomicUsize>>>,
}

/// Room for a body; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<AtomicUsize>,
    shard: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Room for a body, if there is any. A shard that holds nothing always gets it, up to the whole link's.
    pub(crate) fn room(&self, shard: ShardId, bytes: usize) -> Option<Room> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shards.len() < SHARDS_MAX || shards.contains_key(&shard);
        let account = if known { shard } else { ShardId(u16::MAX) };
        let shard = shards.entry(account).or_default().clone();
        drop(shards);
        let (of_shard, of_all) = (shard.load(Relaxed), self.all.load(Relaxed));
        let fits_shard = of_shard == 0 || of_shard + bytes <= SHARD_HELD_BYTES;
        let fits_all = of_all == 0 || of_all + bytes <= LINK_HELD_BYTES;
        if !fits_shard || !fits_all {
            return None;
        }
        shard.fetch_add(bytes, Relaxed);
        self.all.fetch_add(bytes, Relaxed);
        Some(Room {
            all: self.all.clone(),
            shard,
            bytes,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shard.fetch_sub(self.bytes, Relaxed);
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// A body with its room.
struct Accounted {
    body: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Room {
    /// The same bytes, which give the room back when the last copy is dropped.
    pub(crate) fn around(self, body: Bytes) -> Bytes {
        Bytes::from_owner(Accounted { body, _room: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_get_on_leaves_room_for_the_others() {
        let held = Held::default();
        let mut stuck = Vec::new();
        while let Some(room) = held.room(ShardId(1), 1 << 20) {
            stuck.push(room.around(Bytes::from_static(b"x")));
        }
        assert_eq!(stuck.len(), SHARD_HELD_BYTES >> 20);
        let large = held.room(ShardId(2), SHARD_HELD_BYTES + 1).unwrap();
        assert!(
            held.room(ShardId(2), 1).is_none(),
            "one always goes, not two"
        );
        drop(large);
        let copy = stuck[0].clone();
        stuck.clear();
        assert_eq!(held.all.load(Relaxed), 1 << 20, "a copy holds its room");
        drop(copy);
        assert!(held.room(ShardId(1), SHARD_HELD_BYTES).is_some());
    }

    #[test]
    fn made_up_shards_share_one_account() {
        let held = Held::default();
        let rooms: Vec<_> = (0..2000).map(|n| held.room(ShardId(n), 1)).collect();
        assert!(rooms.iter().all(Option::is_some));
        let shards = held.shards.lock().unwrap();
        assert_eq!(shards.len(), SHARDS_MAX + 1);
    }
}
