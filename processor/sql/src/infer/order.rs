//! How far the times of a column are behind those of earlier records.

use std::collections::BTreeMap;

/// What a watermark may take off, with its name in SQL; the least that is enough is proposed.
const STEPS: [(i64, &str); 11] = [
    (0, ""),
    (1_000, "'1' SECOND"),
    (5_000, "'5' SECOND"),
    (10_000, "'10' SECOND"),
    (30_000, "'30' SECOND"),
    (60_000, "'1' MINUTE"),
    (300_000, "'5' MINUTE"),
    (900_000, "'15' MINUTE"),
    (3_600_000, "'1' HOUR"),
    (21_600_000, "'6' HOUR"),
    (86_400_000, "'1' DAY"),
];

/// The times of a column, in the order in which they come in each partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// The latest of each partition.
    latest_ms: BTreeMap<u32, i64>,
    /// The most that a time was behind an earlier record of its partition.
    behind_ms: i64,
}

impl Order {
    pub(super) fn add(&mut self, partition: u32, time_ms: i64) {
        let latest = self.latest_ms.entry(partition).or_insert(time_ms);
        self.behind_ms = self.behind_ms.max(latest.saturating_sub(time_ms));
        *latest = time_ms.max(*latest);
    }

    /// The watermark of the column, and what is to be known about it; `None` if its times come in no order.
    pub(super) fn watermark(&self, column: &str) -> Option<(String, String)> {
        let (_, interval) = STEPS.iter().find(|(ms, _)| *ms >= self.behind_ms)?;
        let behind = match self.behind_ms {
            0 => "in the order of time".into(),
            ms => format!("up to {} s behind earlier ones", (ms + 999) / 1000),
        };
        let less = match interval.is_empty() {
            true => String::new(),
            false => format!(" - INTERVAL {interval}"),
        };
        let watermark = format!("WATERMARK FOR {column} AS {column}{less}");
        let note =
            format!("in each partition the records are {behind}; the watermark follows that");
        Some((watermark, note))
    }
}
