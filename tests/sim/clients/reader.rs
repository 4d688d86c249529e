//! A reader that follows a partition by long polls, and now and then goes elsewhere.

use super::{Client, Hand};
use crate::record::{behind, records_of};
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::native::Place;
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Records(Ticket),
    Place(Ticket, Place),
}

pub(super) struct Reader {
    partition: PartitionId,
    offset: u64,
    asked: Option<Asked>,
    /// What it had read is perhaps not there any more.
    lost: bool,
}

impl Reader {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            offset: 0,
            asked: None,
            lost: false,
        }
    }

    fn ask_place(&mut self, hand: &mut Hand<'_>) {
        let time = hand.now.unix_ms - hand.rng.below(3000) as i64;
        let place = *hand
            .rng
            .pick(&[Place::Start, Place::End, Place::Time(time)]);
        let ticket = hand.ticket("a search");
        self.asked = Some(Asked::Place(ticket, place));
        let partition = self.partition;
        let find = Input::FindOffset {
            ticket,
            partition,
            place,
        };
        hand.send(partition, find);
    }

    fn records(&mut self, reply: Reply, hand: &mut Hand<'_>) -> Result<(), String> {
        let Reply::Fetched(bounds, slices) = reply else {
            return Err(format!("a reader was answered {reply:?}"));
        };
        hand.history
            .offsets
            .bounds(self.partition, bounds.start.0, bounds.end.0)?;
        let mut all = Vec::new();
        for slice in &slices {
            all.extend(records_of(slice)?);
        }
        let may_miss = hand.world.compacts(self.partition);
        let follows = all
            .windows(2)
            .all(|w| w[0].0 + 1 == w[1].0 || (may_miss && w[0].0 < w[1].0));
        let first_is_right = all.first().is_none_or(|(o, _)| {
            *o <= self.offset || hand.world.expires(self.partition) || may_miss
        });
        let last = behind(&slices).unwrap_or(self.offset);
        if !follows || !first_is_right || last < self.offset {
            let is: Vec<u64> = all.iter().map(|(o, _)| *o).collect();
            return Err(format!(
                "offsets: a reader of {} asked for {} and got {is:?}",
                self.partition, self.offset
            ));
        }
        let is_committed = hand.world.is_committed(self.partition);
        // What is asked of the shard is one thing, what the topic was made with another.
        if last > bounds.end.0 && !slices.is_empty() {
            return Err(format!(
                "visibility: {last} of {} is shown, the end is {}",
                self.partition, bounds.end
            ));
        }
        self.offset = last;
        hand.history.read(self.partition, &all, is_committed)
    }

    fn place(&mut self, place: Place, reply: Reply, hand: &mut Hand<'_>) -> Result<(), String> {
        let Reply::Found(offset) = reply else {
            return Err(format!("a search was answered {reply:?}"));
        };
        let _ = (place, hand);
        self.offset = offset.0;
        Ok(())
    }

    fn failed(&mut self, failure: &Failure, hand: &Hand<'_>) -> Result<(), String> {
        let may_be_gone = self.lost || hand.world.expires(self.partition);
        match failure.code {
            ErrorCode::OffsetOutOfRange if may_be_gone => self.offset = u64::MAX,
            ErrorCode::ShuttingDown | ErrorCode::ShardFenced => {}
            _ => {
                return Err(format!(
                    "a reader of {} was told: {failure}",
                    self.partition
                ));
            }
        }
        self.lost = false;
        Ok(())
    }
}

impl Client for Reader {
    fn act(&mut self, hand: &mut Hand<'_>) {
        if self.asked.is_some() || hand.closing {
            return;
        }
        if self.offset == u64::MAX || hand.rng.percent(4) {
            return self.ask_place(hand);
        }
        let wait_ms = *hand.rng.pick(&[0, 5, 50, 1000]);
        let max_bytes = *hand.rng.pick(&[1, 500, 5000, 1 << 20]);
        let ticket = hand.ticket("a reader");
        self.asked = Some(Asked::Records(ticket));
        let fetch = Input::Fetch {
            ticket,
            partition: self.partition,
            offset: Offset(self.offset),
            max_bytes,
            wait_ms,
        };
        hand.send(self.partition, fetch);
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        let asked = self.asked.take();
        match (asked, result) {
            (Some(Asked::Records(t)), Ok(reply)) if t == ticket => self.records(reply, hand),
            (Some(Asked::Place(t, place)), Ok(reply)) if t == ticket => {
                self.place(place, reply, hand)
            }
            (Some(Asked::Records(t) | Asked::Place(t, _)), Err(failure)) if t == ticket => {
                self.failed(&failure, hand)
            }
            (asked, result) => Err(format!("a reader asked {asked:?} and got {result:?}")),
        }
    }

    fn disconnected(&mut self) {
        self.asked = None;
        self.lost = true;
    }

    fn is_done(&self) -> bool {
        self.asked.is_none()
    }
}
