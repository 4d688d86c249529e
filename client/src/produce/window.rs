//! The bound of a producer's bytes on the way to the broker.
//!
//! Beyond it partitions stand in line and their records gather, so that a producer of thousands of
//! partitions sends batches instead of single records. The line is served in its order, one batch
//! for each turn: no partition starves another.

use std::collections::VecDeque;

/// Bytes on the way, and the partitions that wait to send.
#[derive(Debug)]
pub(crate) struct Window {
    limit_bytes: usize,
    on_the_way_bytes: usize,
    line: VecDeque<u32>,
    /// By partition: it stands in the line.
    stands: Vec<bool>,
}

impl Window {
    /// A window of `limit_bytes`, which one batch may exceed: nothing is too large to be sent.
    pub(crate) fn new(limit_bytes: usize, partitions: usize) -> Self {
        Self {
            limit_bytes,
            on_the_way_bytes: 0,
            line: VecDeque::new(),
            stands: vec![false; partitions],
        }
    }

    /// The partition wants to send a batch: it goes to the end of the line, unless it stands there.
    pub(crate) fn stand(&mut self, partition: u32) {
        if !std::mem::replace(&mut self.stands[partition as usize], true) {
            self.line.push_back(partition);
        }
    }

    /// Whose turn it is, while there is room.
    pub(crate) fn next(&mut self) -> Option<u32> {
        if self.on_the_way_bytes >= self.limit_bytes {
            return None;
        }
        let partition = self.line.pop_front()?;
        self.stands[partition as usize] = false;
        Some(partition)
    }

    /// A batch was handed to the transport. One that is sent again is counted and never waits: the
    /// ones behind it depend on it.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.on_the_way_bytes += bytes;
    }

    /// It was answered, or never will be.
    pub(crate) fn ended(&mut self, bytes: usize) {
        self.on_the_way_bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn beyond_the_limit_partitions_wait_for_their_turn() {
        let mut window = Window::new(100, 3);
        window.stand(2);
        window.stand(0);
        window.stand(2);
        assert_eq!(window.next(), Some(2));
        window.sent(150);
        window.stand(1);
        window.stand(2);
        assert_eq!(window.next(), None, "150 of 100 bytes are on the way");
        window.ended(150);
        let turns: Vec<_> = std::iter::from_fn(|| window.next()).collect();
        assert_eq!(turns, [0, 1, 2], "in the order they came, once each");
    }
}
