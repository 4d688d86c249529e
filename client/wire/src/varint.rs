//! Zig-zag variable-length integers, as Kafka's record format uses them
//! (<https://kafka.apache.org/documentation/#recordbatch>, Protocol Buffers encoding).

/// Most bytes that a 64-bit value takes.
pub const BYTES_MAX: usize = 10;

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// How many bytes `value` takes.
pub const fn len(value: i64) -> usize {
    let v = zigzag(value);
    let bits = 64 - (v | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
#[inline]
pub fn put(out: &mut Vec<u8>, value: i64) {
    let mut v = zigzag(value);
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Takes a value from the front of `input`; `None` if it is cut off or longer than ten bytes.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<i64> {
    let mut v = 0u64;
    for (i, &b) in input.iter().enumerate().take(BYTES_MAX) {
        // The tenth byte has room for one bit only.
        if i == 9 && b > 1 {
            return None;
        }
        v |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            *input = &input[i + 1..];
            return Some(unzigzag(v));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips_and_len_agrees(value: i64, tail: u8) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.push(tail);
            let mut input = &out[..];
            prop_assert_eq!(take(&mut input), Some(value));
            prop_assert_eq!(input, &[tail][..]);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut input = &bytes[..];
            let before = input.len();
            if take(&mut input).is_some() { prop_assert!(input.len() < before); }
        }
    }

    #[test]
    fn cut_off_and_endless_values_are_refused() {
        assert_eq!(take(&mut &[0x80u8][..]), None);
        assert_eq!(take(&mut &[0xffu8; 11][..]), None);
        assert_eq!(
            take(&mut &[0x80u8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2][..]),
            None
        );
    }
}
