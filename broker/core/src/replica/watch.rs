//! What happens by the clock: heartbeats, questions that are asked again, reports.

use super::output::{Ask, Asked, Outbox, Output, Report};
use super::{Replica, Role};
use flowstone_wire::Epoch;

impl Replica {
    /// When to step [`super::Input::Tick`] even if nothing arrives, in microseconds of the driver's clock.
    pub fn deadline(&self) -> Option<u64> {
        let every_us = match &self.role {
            Role::Stopped => return None,
            Role::Leading(lead) if lead.has_followers() => self.limits.heartbeat_us,
            Role::Sealing(_) => self.limits.resend_us,
            _ => self.limits.ask_us,
        };
        Some(self.report_at_us.min(self.now_us + every_us))
    }

    pub(super) fn look_at_clock(&mut self, out: &mut Outbox) {
        match &self.role {
            Role::Stopped => return,
            Role::Sealing(_) => self.seal_again(out),
            Role::Leading(_) => self.say_something(out),
            Role::Idle | Role::Following(_) => {}
        }
        if self.now_us >= self.ask_at_us {
            self.ask_at_once(out);
        }
        if self.now_us >= self.report_at_us {
            self.report_at_us = self.now_us + self.limits.report_us;
            out.push(Output::Report(self.report()));
        }
    }

    /// Asks the catalog for what is wanted of it, if anything is.
    pub(super) fn ask_at_once(&mut self, out: &mut Outbox) {
        self.ask_at_us = self.now_us + self.limits.ask_us;
        let Some(ask) = self.wanted() else {
            return;
        };
        out.push(Output::AskCatalog(Asked {
            from: self.me,
            epoch: self.acts_for(),
            version: self.version(),
            ask,
        }));
    }

    fn wanted(&self) -> Option<Ask> {
        let known = self.config.as_ref().map(|c| (c.epoch, c.version));
        if known.is_none_or(|known| self.heard > known) {
            return Some(Ask::Config);
        }
        if self.other_life().is_some() {
            return Some(Ask::Learn);
        }
        match &self.role {
            Role::Sealing(seal) => seal.ask(),
            Role::Leading(lead) => lead.ask(self),
            _ => self.led_before().then_some(Ask::Reappoint),
        }
    }

    fn acts_for(&self) -> Epoch {
        match &self.role {
            Role::Following(f) => f.epoch(),
            _ => self.led_epoch().unwrap_or(self.promised_epoch()),
        }
    }

    fn report(&self) -> Report {
        let durable = self.log.durable_id();
        let (copies, followers) = match &self.role {
            Role::Leading(lead) => {
                let copies = lead.copies(durable.lsn, self.committed);
                (copies, lead.reports(self))
            }
            _ => (0, Vec::new()),
        };
        Report {
            me: self.me,
            version: self.version(),
            phase: self.phase(),
            epoch: self.acts_for(),
            durable,
            committed: self.committed,
            copies,
            followers,
        }
    }
}
