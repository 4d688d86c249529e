//! The time that certificates are held against: an argument, so that tests need not wait for years.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the seconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({} s)", self.now_s())
    }
}

impl Clock {
    /// The clock of the machine.
    pub fn of_machine() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |d| d.as_secs())
        })
    }

    /// Another one.
    pub fn new(now_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_s))
    }

    /// The present time, in seconds since 1970.
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}
