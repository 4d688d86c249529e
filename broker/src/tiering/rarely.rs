//! Telling of what goes on failing: once, and then now and then.

use std::time::{Duration, Instant};

/// What goes on is told again after this.
const AGAIN: Duration = Duration::from_secs(600);

/// Whether something that goes on is to be told.
#[derive(Debug, Default)]
pub(super) struct Rarely {
    told: Option<Instant>,
}

impl Rarely {
    /// It happened; whether to tell.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.told.is_none_or(|at| now.duration_since(at) >= AGAIN);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// It is over: the next time is told at once.
    pub(super) fn is_over(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_few() {
        let (mut rarely, start) = (Rarely::default(), Instant::now());
        let told = (0..1300).filter(|s| rarely.is_due(start + Duration::from_secs(*s)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 600, 1200]);
        rarely.is_over();
        assert!(rarely.is_due(start + Duration::from_secs(1300)));
    }
}
