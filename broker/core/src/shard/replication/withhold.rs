//! Refusals for good are told when it is certain that this node still led when they were made: one that was
//! replaced and has not heard of it knows less than was acknowledged elsewhere.

use super::doubt::Doubt;
use super::{Replication, Role};
use crate::input::{Now, Ticket};
use crate::output::{Outbox, Output};
use crate::shard::Shard;
use flowstone_wire::{ErrorCode, Failure};

/// A refusal that is not told yet.
#[derive(Debug)]
pub(super) struct Withheld {
    /// When it was made, in microseconds of [`Now::mono_us`].
    at_us: u64,
    ticket: Ticket,
    failure: Failure,
}

/// Whether whoever is told this gives up, because of what this node has and has not.
fn is_for_good(output: &Output) -> bool {
    use ErrorCode::{OffsetOutOfRange, OutOfOrderSequence, ProducerFenced, UnknownProducer};
    let Output::Reply { result: Err(e), .. } = output else {
        return false;
    };
    matches!(
        e.code,
        OffsetOutOfRange | OutOfOrderSequence | ProducerFenced | UnknownProducer
    )
}

impl Shard {
    /// Keeps refusals until a majority has answered something that was said after them; then, or when this
    /// node leads no more, they are told.
    pub(in crate::shard) fn withhold(&mut self, now: Now, out: &mut Outbox) {
        let is_fenced = self.fenced.is_some();
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        let leads = r.role == Role::Leader && r.doubt != Doubt::GaveUp && !is_fenced;
        if leads {
            for output in out.extract(is_for_good) {
                if let Output::Reply {
                    ticket,
                    result: Err(failure),
                } = output
                {
                    let at_us = now.mono_us;
                    r.withheld.push_back(Withheld {
                        at_us,
                        ticket,
                        failure,
                    });
                }
            }
        }
        tell_confirmed(r, leads, out);
    }
}

fn tell_confirmed(r: &mut Replication, leads: bool, out: &mut Outbox) {
    // Every step comes here, and hardly one has anything.
    if r.withheld.is_empty() {
        return;
    }
    let confirmed_us = r.replica.confirmed_us();
    let is_known = |w: &mut Withheld| !leads || confirmed_us.is_some_and(|us| w.at_us <= us);
    while let Some(withheld) = r.withheld.pop_front_if(is_known) {
        let failure = if leads {
            withheld.failure
        } else {
            let what = "this node stopped leading before it could answer";
            Failure::new(ErrorCode::NotLeader, what)
        };
        out.reply(withheld.ticket, Err(failure));
    }
}
