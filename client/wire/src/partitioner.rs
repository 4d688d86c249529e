//! Which partition the records of a key belong to.
//!
//! The function is Kafka's default for keyed records, so that a key lands on the same partition
//! whichever protocol its producer speaks: 32-bit MurmurHash2 with seed `0x9747b28c` over the key,
//! the sign bit cleared, modulo the number of partitions
//! (`org.apache.kafka.clients.producer.internals.BuiltInPartitioner`). It never changes: stored
//! topics depend on it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The index of the partition for `key` in a topic of `partitions` partitions; 0 if there are none.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    if partitions == 0 {
        return 0;
    }
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2, 32 bits (Austin Appleby, public domain).
fn murmur2(data: &[u8]) -> u32 {
    let (words, rest) = data.as_chunks::<4>();
    let mut h = SEED ^ data.len() as u32;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, &byte) in rest.iter().enumerate() {
            h ^= u32::from(byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_are_what_kafka_computes() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for partitions in [1, 3, 4096] {
            for key in 0..100u32 {
                assert!(partition_for_key(&key.to_le_bytes(), partitions) < partitions);
            }
        }
        assert_eq!(partition_for_key(b"x", 0), 0);
    }
}
