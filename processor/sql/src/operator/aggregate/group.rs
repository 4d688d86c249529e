//! The groups that the rows of a unit are in.

use super::{WindowColumns, times};
use crate::cell::Writer;
use crate::operator::{ordered, prefix};
use crate::rows::Rows;
use datafusion::arrow::array::ArrayRef;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Groups, numbered in the order in which their first rows came.
pub(crate) struct Groups {
    /// The number of each row's group.
    pub(crate) numbers: Vec<usize>,
    /// The first row of each group.
    pub(crate) firsts: Vec<u32>,
    /// All rows' keys in the state.
    bytes: Vec<u8>,
    /// The key of each group.
    keys: Vec<Range<usize>>,
}

impl Groups {
    pub(crate) fn find(
        number: usize,
        rows: &Rows,
        values: &[ArrayRef],
        window: Option<WindowColumns>,
    ) -> Self {
        let writers: Vec<Writer> = values.iter().map(Writer::new).collect();
        let bounds = window.map(|w| {
            let column = |at: usize| times(rows.batch.column(at));
            (column(w.end), column(w.start))
        });
        let mut bytes = Vec::with_capacity(rows.len() * 32);
        let mut ranges = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let start = bytes.len();
            bytes.push(prefix(number));
            if let Some((ends, starts)) = bounds {
                bytes.extend_from_slice(&ordered(ends[row]));
                bytes.extend_from_slice(&ordered(starts[row]));
            }
            writers.iter().for_each(|w| w.write(row, &mut bytes));
            ranges.push(start..bytes.len());
        }
        Self::number(bytes, ranges)
    }

    fn number(bytes: Vec<u8>, ranges: Vec<Range<usize>>) -> Self {
        let mut known: HashMap<&[u8], usize, BuildHasherDefault<Mixer>> = Default::default();
        let mut numbers = Vec::with_capacity(ranges.len());
        let (mut firsts, mut keys) = (Vec::new(), Vec::new());
        for (row, range) in ranges.into_iter().enumerate() {
            let next = firsts.len();
            let number = *known.entry(&bytes[range.clone()]).or_insert(next);
            if number == next {
                firsts.push(row as u32);
                keys.push(range);
            }
            numbers.push(number);
        }
        Self {
            numbers,
            firsts,
            bytes,
            keys,
        }
    }

    /// Numbers the groups anew: those that are known first. An accumulator takes for granted that a
    /// group is not counted before something is added to it.
    pub(crate) fn known_first(&mut self, is_known: impl Fn(&Self, usize) -> bool) {
        let known: Vec<bool> = (0..self.len()).map(|n| is_known(self, n)).collect();
        if known.is_sorted_by(|a, b| a >= b) {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|n| !known[*n]);
        let mut places = vec![0; order.len()];
        for (place, number) in order.iter().enumerate() {
            places[*number] = place;
        }
        self.firsts = order.iter().map(|n| self.firsts[*n]).collect();
        self.keys = order.iter().map(|n| self.keys[*n].clone()).collect();
        for number in &mut self.numbers {
            *number = places[*number];
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.firsts.len()
    }

    /// The key of a group in the state.
    pub(crate) fn key(&self, number: usize) -> &[u8] {
        &self.bytes[self.keys[number].clone()]
    }
}

/// Hashes the keys of one unit, eight bytes at a time. It has no seed: keys that are made to collide
/// cost at most the square of the records of a unit, which are few.
#[derive(Default)]
pub(crate) struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        let mixed = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (mixed >> 64) as u64 ^ mixed as u64;
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.mix(u64::from_le_bytes(*w)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }
}
