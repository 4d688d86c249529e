//! Every request is answered, once, within a bound of virtual time that covers the slowest disk.

use flowstone_core::Ticket;
use std::collections::BTreeMap;

/// No sync, queue of the background or long poll of the simulation takes longer.
const BOUND_US: u64 = 8_000_000;

/// Requests that are not answered, and since when.
#[derive(Debug, Default)]
pub(crate) struct Open {
    since: BTreeMap<Ticket, (u64, String)>,
}

impl Open {
    pub(crate) fn asked(&mut self, ticket: Ticket, now_us: u64, what: String) {
        self.since.insert(ticket, (now_us, what));
    }

    pub(crate) fn answered(&mut self, ticket: Ticket) -> Result<(), String> {
        match self.since.remove(&ticket) {
            Some(_) => Ok(()),
            None => Err(format!(
                "liveness: {ticket:?} is answered and was not asked, or twice"
            )),
        }
    }

    /// Nobody answers any more: connections break.
    pub(super) fn ended(&mut self) {
        self.since.clear();
    }

    pub(crate) fn check(&self, now_us: u64) -> Result<(), String> {
        let Some((ticket, (since, what))) = self.since.first_key_value() else {
            return Ok(());
        };
        if since + BOUND_US < now_us {
            return Err(format!("liveness: {ticket:?}, {what}, waits since {since}"));
        }
        Ok(())
    }
}
