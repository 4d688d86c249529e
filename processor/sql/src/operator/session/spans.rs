//! The sessions of some groups while rows join them.

use super::split;

/// A stored session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) key: Vec<u8>,
    pub(super) state: Vec<u8>,
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Stored {
    /// What is stored under `key`; `None` if it is cut off.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (start, end) = split(key, value)?;
        Some(Self {
            key: key.to_vec(),
            state: value.get(8..)?.to_vec(),
            start,
            end,
        })
    }

    /// The values of the group.
    pub(super) fn values(&self) -> Option<&[u8]> {
        let length = u32::from_be_bytes(self.key.get(1..5)?.try_into().ok()?);
        self.key.get(5..5 + length as usize)
    }
}

#[derive(Debug)]
struct Span {
    group: usize,
    start: i64,
    end: i64,
    stored: Vec<Stored>,
    /// The session that this one has become part of.
    part_of: Option<usize>,
}

/// Sessions by number; those that became part of another stay, pointing to it.
#[derive(Debug)]
pub(super) struct Spans {
    gap_ms: i64,
    lateness_ms: i64,
    all: Vec<Span>,
    /// The sessions of each group.
    by_group: Vec<Vec<usize>>,
}

impl Spans {
    pub(super) fn new(gap_ms: i64, lateness_ms: i64) -> Self {
        Self {
            gap_ms,
            lateness_ms,
            all: Vec::new(),
            by_group: Vec::new(),
        }
    }

    fn add(&mut self, span: Span) -> usize {
        let number = self.all.len();
        if self.by_group.len() <= span.group {
            self.by_group.resize_with(span.group + 1, Vec::new);
        }
        self.by_group[span.group].push(number);
        self.all.push(span);
        number
    }

    pub(super) fn add_stored(&mut self, group: usize, stored: Stored) {
        self.add(Span {
            group,
            start: stored.start,
            end: stored.end,
            stored: vec![stored],
            part_of: None,
        });
    }

    /// Lets a row join; gives its session, or nothing if the row is late.
    pub(super) fn join(&mut self, group: usize, time_ms: i64, watermark_ms: i64) -> Option<usize> {
        let (start, end) = (time_ms, time_ms.saturating_add(self.gap_ms));
        let is_open = |end: i64| end.saturating_add(self.lateness_ms) > watermark_ms;
        let here = self.by_group.get(group).map_or(&[][..], |g| g);
        let touched: Vec<usize> = here
            .iter()
            .copied()
            .filter(|n| {
                let span = &self.all[*n];
                start < span.end && end > span.start && is_open(span.end)
            })
            .collect();
        let Some((&into, others)) = touched.split_first() else {
            return is_open(end).then(|| {
                self.add(Span {
                    group,
                    start,
                    end,
                    stored: Vec::new(),
                    part_of: None,
                })
            });
        };
        for other in others {
            let stored = std::mem::take(&mut self.all[*other].stored);
            let (other_start, other_end) = (self.all[*other].start, self.all[*other].end);
            self.all[*other].part_of = Some(into);
            self.all[into].stored.extend(stored);
            self.widen(into, other_start, other_end);
            self.by_group[group].retain(|n| n != other);
        }
        self.widen(into, start, end);
        Some(into)
    }

    fn widen(&mut self, number: usize, start: i64, end: i64) {
        let span = &mut self.all[number];
        span.start = span.start.min(start);
        span.end = span.end.max(end);
    }

    /// The session that a session is part of now.
    fn whole(&self, mut number: usize) -> usize {
        while let Some(into) = self.all[number].part_of {
            number = into;
        }
        number
    }

    /// The sessions that rows have joined, those that something is stored of first, and for each row
    /// the index of its session among them.
    pub(super) fn touched(&self, joined: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let whole: Vec<usize> = joined.iter().map(|span| self.whole(*span)).collect();
        let mut touched = whole.clone();
        touched.sort_by_key(|span| (self.all[*span].stored.is_empty(), *span));
        touched.dedup();
        let mut places = vec![0; self.all.len()];
        for (place, span) in touched.iter().enumerate() {
            places[*span] = place;
        }
        let numbers = whole.iter().map(|span| places[*span]).collect();
        (touched, numbers)
    }

    /// What is stored of a session.
    pub(super) fn stored(&self, number: usize) -> impl Iterator<Item = &Stored> {
        self.all[number].stored.iter()
    }

    /// Group, start and end.
    pub(super) fn bounds(&self, number: usize) -> (usize, i64, i64) {
        let span = &self.all[number];
        (span.group, span.start, span.end)
    }
}
