//! Reads that came too late: the segment they were sent to has gone to the tier only, was rewritten, or has
//! expired while they waited for their turn.

use super::fetch::{Want, damaged, out_of_range};
use super::{Shard, unknown_partition};
use crate::input::{Now, Ticket};
use crate::output::{Outbox, Output};
use flowstone_storage::log::LostOffsets;
use flowstone_storage::settled::Source;
use flowstone_wire::native::Place;
use flowstone_wire::{ErrorCode, Failure};

impl Shard {
    /// Looks again where it is that a read wants; it is damage only if it should be where it was not.
    pub(super) fn read_gone(&mut self, now: Now, read: Output, why: String, out: &mut Outbox) {
        match read {
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                ..
            } => {
                let want = Want {
                    ticket,
                    offset,
                    max_bytes,
                    until_us: 0,
                };
                if self.may_look_again(ticket, segment, Some(want), why, out) {
                    self.fetch(now, segment.id.partition, want, 0, out);
                }
            }
            Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            } if self.may_look_again(ticket, segment, None, why, out) => {
                let place = Place::Time(timestamp);
                self.find_offset(ticket, segment.id.partition, place, out);
            }
            // Nothing else is read for somebody who waits.
            _ => {}
        }
    }

    /// Whether what was looked for in a segment can be elsewhere now; else the answer is given.
    fn may_look_again(
        &self,
        ticket: Ticket,
        segment: Source,
        want: Option<Want>,
        why: String,
        out: &mut Outbox,
    ) -> bool {
        let id = segment.id.partition;
        let Some(p) = self.partitions.get(&id).filter(|p| p.config.is_some()) else {
            out.reply(ticket, Err(unknown_partition(id)));
            return false;
        };
        if let Some(want) = want.filter(|w| w.offset < p.start) {
            out.reply(ticket, Err(out_of_range(id, p, want.offset)));
            return false;
        }
        // What has expired may be gone before it is noted.
        let kept = p.settled.iter().filter(|m| m.next_offset > p.start);
        let there = kept.into_iter().find(|m| m.id() == segment.id);
        let Some(meta) = there.filter(|m| p.source_of(m.id()) == segment) else {
            return true;
        };
        if p.looks.must && segment.remote.is_some() {
            let what = format!(
                "what the leaders before this one have in the tier of partition {id} is being looked up"
            );
            let later = Failure::new(ErrorCode::TierUnavailable, what);
            out.reply(ticket, Err(later));
            return false;
        }
        let lost = LostOffsets {
            partition: id,
            from: want.map_or(meta.first_offset, |w| w.offset),
            to: meta.next_offset,
            what: why,
        };
        out.reply(ticket, Err(damaged(&lost)));
        false
    }
}
