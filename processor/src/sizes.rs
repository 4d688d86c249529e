//! How much memory entries take: in all, and by the first byte of their keys for each stage.

/// Sizes of the entries of a task, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    total: usize,
    /// For each stage that has had entries, by the first byte of their keys.
    stages: Vec<[usize; 256]>,
}

impl Sizes {
    /// All of it.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Of the entries of a stage whose keys begin with this byte.
    pub(crate) fn of(&self, node: u16, first: u8) -> usize {
        let stage = self.stages.get(usize::from(node));
        stage.map_or(0, |by_first| by_first[usize::from(first)])
    }

    /// An entry more.
    #[inline]
    pub(crate) fn add(&mut self, node: u16, key: &[u8], bytes: usize) {
        self.total += bytes;
        if let Some(first) = key.first() {
            *self.at(node, *first) += bytes;
        }
    }

    /// An entry less.
    #[inline]
    pub(crate) fn sub(&mut self, node: u16, key: &[u8], bytes: usize) {
        self.total -= bytes;
        if let Some(first) = key.first() {
            *self.at(node, *first) -= bytes;
        }
    }

    fn at(&mut self, node: u16, first: u8) -> &mut usize {
        let node = usize::from(node);
        while self.stages.len() <= node {
            self.stages.push([0; 256]);
        }
        &mut self.stages[node][usize::from(first)]
    }
}
