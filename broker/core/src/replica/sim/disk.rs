//! A node's disk: what is written, what of it is durable, and what a crash leaves.
#![cfg(test)]

use super::rng::Rng;
use crate::replica::{LogId, Promise, Span};
use flowstone_wire::{Epoch, Incarnation, Lsn};

/// An entry. Its bytes are a number that no other entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: Epoch,
    pub(super) bytes: u64,
    /// Stands for this entry and all before it.
    pub(super) chain: u64,
    /// The number of its bytes.
    pub(super) content: u64,
    /// Whether a group ends here.
    pub(super) ends_group: bool,
}

/// The chain with one more entry.
pub(super) fn chained(before: u64, epoch: Epoch, content: u64) -> u64 {
    let mixed = before ^ content.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(epoch.0) << 40;
    Rng::new(mixed).next()
}

/// What ends a process, as far as its disk is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Kill,
    PowerCut,
}

#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) life: Incarnation,
    pub(super) promise: Option<Promise>,
    /// What was noted to be committed.
    pub(super) mark: Lsn,
    pub(super) base: LogId,
    pub(super) base_chain: u64,
    /// The entries above the base, as written.
    pub(super) log: Vec<Entry>,
    /// How many of them are on the device.
    durable: usize,
    /// What the device may still have above a cut that is not durable.
    uncut: Option<Vec<Entry>>,
}

impl Disk {
    pub(super) fn new(life: Incarnation) -> Self {
        Self {
            life,
            promise: None,
            mark: Lsn(0),
            base: LogId::default(),
            base_chain: 0,
            log: Vec::new(),
            durable: 0,
            uncut: None,
        }
    }

    pub(super) fn end(&self) -> Lsn {
        Lsn(self.base.lsn.0 + self.log.len() as u64)
    }

    pub(super) fn end_id(&self) -> LogId {
        let epoch = self.log.last().map_or(self.base.epoch, |e| e.epoch);
        let lsn = self.end();
        LogId { epoch, lsn }
    }

    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.base.lsn.0 + self.durable as u64)
    }

    pub(super) fn entry(&self, lsn: Lsn) -> Option<&Entry> {
        let at = lsn.0.checked_sub(self.base.lsn.0 + 1)?;
        self.log.get(at as usize)
    }

    /// The chain at an LSN, where it is known.
    pub(super) fn chain_at(&self, lsn: Lsn) -> Option<u64> {
        if lsn == self.base.lsn {
            return Some(self.base_chain);
        }
        self.entry(lsn).map(|e| e.chain)
    }

    pub(super) fn slice(&self, span: &Span) -> Vec<Entry> {
        let lsns = span.first.0..=span.last.0;
        lsns.filter_map(|lsn| self.entry(Lsn(lsn)).copied())
            .collect()
    }

    pub(super) fn bytes_above(&self, lsn: Lsn) -> u64 {
        let from = lsn.0.saturating_sub(self.base.lsn.0) as usize;
        let above = self.log.get(from..).unwrap_or(&[]);
        above.iter().map(|e| e.bytes).sum()
    }

    pub(super) fn append(
        &mut self,
        epoch: Epoch,
        content: u64,
        bytes: u64,
        ends_group: bool,
    ) -> Lsn {
        let chain = chained(self.chain_at(self.end()).unwrap(), epoch, content);
        self.log.push(Entry {
            epoch,
            bytes,
            chain,
            content,
            ends_group,
        });
        self.end()
    }

    /// What was written by the time a sync began is on the device.
    pub(super) fn synced(&mut self, upto: LogId) {
        let has = self.entry(upto.lsn).is_some_and(|e| e.epoch == upto.epoch);
        if has && self.uncut.is_none() {
            let count = (upto.lsn.0 - self.base.lsn.0) as usize;
            self.durable = self.durable.max(count);
        }
    }

    pub(super) fn cut(&mut self, last: Lsn) {
        let kept = (last.0 - self.base.lsn.0) as usize;
        if self.uncut.is_none() {
            self.uncut = Some(self.log.clone());
        }
        self.log.truncate(kept);
        self.durable = self.durable.min(kept);
    }

    pub(super) fn cut_done(&mut self, last: Lsn) {
        let kept = last.0.saturating_sub(self.base.lsn.0) as usize;
        self.uncut = None;
        self.durable = self.durable.max(kept.min(self.log.len()));
    }

    pub(super) fn trim(&mut self, base: Lsn) {
        let chain = self.chain_at(base).unwrap();
        let gone = (base.0 - self.base.lsn.0) as usize;
        if let Some(last) = gone.checked_sub(1) {
            let epoch = self.log[last].epoch;
            self.base = LogId { epoch, lsn: base };
            self.base_chain = chain;
            self.log.drain(..gone);
            self.durable -= gone;
            self.uncut = self.uncut.take().map(|log| log[gone..].to_vec());
        }
    }

    pub(super) fn install(&mut self, last: LogId, chain: u64) {
        (self.base, self.base_chain) = (last, chain);
        self.log.clear();
        (self.durable, self.uncut) = (0, None);
    }

    /// What the next start finds; it syncs all of that.
    pub(super) fn ended(&mut self, end: End, rng: &mut Rng) {
        if end == End::PowerCut {
            self.cut_power(rng);
        }
        while self.log.last().is_some_and(|e| !e.ends_group) {
            self.log.pop();
        }
        (self.durable, self.uncut) = (self.log.len(), None);
    }

    fn cut_power(&mut self, rng: &mut Rng) {
        if let Some(old) = self.uncut.take() {
            // Each place has what was there before or what was written over it, where a cut was not
            // made durable in between; a start takes whatever has rising epochs and no gap.
            let written = std::mem::take(&mut self.log);
            let most = old.len().max(written.len());
            for at in 0..most {
                let (first, second) = if rng.percent(50) {
                    (&written, &old)
                } else {
                    (&old, &written)
                };
                let found = first.get(at).or(second.get(at)).copied();
                let last = self.log.last().map_or(Epoch(0), |e| e.epoch);
                let Some(found) = found.filter(|e| at < self.durable || e.epoch >= last) else {
                    break;
                };
                self.log.push(found);
            }
        }
        let lost = self.log.len().saturating_sub(self.durable) as u64;
        let kept = self.durable + rng.below(lost + 1) as usize;
        self.log.truncate(kept);
    }

    /// Some of what was durable is gone; this is another life then.
    pub(super) fn forget(&mut self, life: Incarnation, rng: &mut Rng) {
        let kept = rng.index(self.log.len() + 1);
        self.log.truncate(kept);
        if rng.percent(40) {
            *self = Self::new(life);
        }
        while self.log.last().is_some_and(|e| !e.ends_group) {
            self.log.pop();
        }
        if rng.percent(50) {
            self.promise = None;
        }
        self.durable = self.log.len();
        (self.life, self.mark) = (life, Lsn(0));
    }

    /// The log as spans, for a start.
    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (at, e) in self.log.iter().enumerate() {
            let lsn = Lsn(self.base.lsn.0 + 1 + at as u64);
            match spans.last_mut() {
                Some(s) if s.epoch == e.epoch && !self.log[at - 1].ends_group => {
                    (s.last, s.bytes) = (lsn, s.bytes + e.bytes);
                }
                _ => spans.push(Span {
                    epoch: e.epoch,
                    first: lsn,
                    last: lsn,
                    bytes: e.bytes,
                }),
            }
        }
        spans
    }
}
