//! Mutations of valid inputs, in an order that never changes.

/// Longest input that is made.
const BYTES_MAX: usize = 16 << 10;

/// Numbers at which arithmetic and limits break.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x10000,
    8 << 20,
    32 << 20,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// An endless row of mutations.
pub(crate) struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    /// Of a xorshift generator (Marsaglia 2003); never 0.
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutations of these seeds; another name gives others.
    pub(crate) fn new(name: &str, seeds: &'a [Vec<u8>]) -> Self {
        let state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(crc32fast::hash(name.as_bytes()));
        Self { seeds, state }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) % bound.max(1) as u64) as usize
    }

    /// The next one: a seed with one to four changes.
    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let seed = self.below(self.seeds.len());
        let mut input = self.seeds[seed].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        match self.below(12) {
            _ if input.is_empty() => input.push(self.below(256) as u8),
            0..3 => input[at] ^= 1 << self.below(8),
            3 => input[at] = self.below(256) as u8,
            4 | 5 => self.number(input, at),
            6 => input.truncate(at),
            7 => drop(input.drain(at..(at + 1 + self.below(16)).min(input.len()))),
            8 => {
                let end = (at + 1 + self.below(64)).min(input.len());
                let copy = input[at..end].to_vec();
                let to = self.below(input.len());
                input.splice(to..to, copy);
            }
            9 => {
                let count = 1 + self.below(9);
                let bytes: Vec<u8> = (0..count).map(|_| self.below(256) as u8).collect();
                input.splice(at..at, bytes);
            }
            10 => {
                let other = self.below(self.seeds.len());
                let other = &self.seeds[other];
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&self.seeds_tail(from, other));
            }
            _ => input.extend((0..self.below(40)).map(|i| i as u8)),
        }
    }

    fn seeds_tail(&self, from: usize, other: &[u8]) -> Vec<u8> {
        other[from.min(other.len())..].to_vec()
    }

    /// A number of 1, 2, 4 or 8 bytes in either order, or a varint, in the place of what is there.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let number = NUMBERS[self.below(NUMBERS.len())];
        let bytes = 1 << self.below(4);
        let number = if self.below(3) == 0 {
            number.wrapping_sub(self.below(100) as u64)
        } else {
            number
        };
        let coded = match self.below(3) {
            0 => number.to_le_bytes()[..bytes].to_vec(),
            1 => number.to_be_bytes()[8 - bytes..].to_vec(),
            _ => varint(number),
        };
        let end = (at + coded.len()).min(input.len());
        input.splice(at..end, coded);
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
