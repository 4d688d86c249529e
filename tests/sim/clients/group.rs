//! A consumer group that commits ever higher positions and reads them back.

use super::{Client, Hand};
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::native::{GroupOffset, Place};
use flowstone_wire::{Failure, Offset, PartitionId};

#[derive(Debug)]
enum Asked {
    End(Ticket),
    Commit(Ticket, u64),
    Read(Ticket),
}

pub(super) struct Group {
    name: String,
    partition: PartitionId,
    /// The end of the partition, as far as it is known and durable.
    end: u64,
    position: u64,
    asked: Option<Asked>,
}

impl Group {
    pub(super) fn new(name: &str, partition: PartitionId) -> Self {
        Self {
            name: name.into(),
            partition,
            end: 0,
            position: 0,
            asked: None,
        }
    }
}

impl Client for Group {
    fn act(&mut self, hand: &mut Hand<'_>) {
        if self.asked.is_some() || hand.closing {
            return;
        }
        let ticket = hand.ticket("a group");
        let (partition, group) = (self.partition, self.name.clone());
        if hand.rng.percent(30) {
            self.asked = Some(Asked::Read(ticket));
            let partitions = if hand.rng.percent(50) {
                vec![partition]
            } else {
                Vec::new()
            };
            let read = Input::ReadOffsets {
                ticket,
                group,
                partitions,
            };
            hand.send(partition, read);
        } else if self.position < self.end {
            self.position = hand.rng.between(self.position + 1, self.end);
            hand.history.groups.asked(&group, partition, self.position);
            self.asked = Some(Asked::Commit(ticket, self.position));
            let offset = Offset(self.position);
            let offsets = vec![GroupOffset {
                partition,
                offset,
                note: "n".into(),
            }];
            let commit = Input::CommitOffsets {
                ticket,
                group,
                offsets,
            };
            hand.send(partition, commit);
        } else {
            self.asked = Some(Asked::End(ticket));
            let find = Input::FindOffset {
                ticket,
                partition,
                place: Place::End,
            };
            hand.send(partition, find);
        }
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        match (self.asked.take(), result) {
            (Some(Asked::End(t)), Ok(Reply::Found(end))) if t == ticket => {
                self.end = end.0;
                Ok(())
            }
            (Some(Asked::Commit(t, position)), Ok(Reply::Committed)) if t == ticket => {
                hand.history
                    .groups
                    .acked(&self.name, self.partition, position);
                Ok(())
            }
            (Some(Asked::Read(t)), Ok(Reply::Offsets(all))) if t == ticket => {
                let mine = all.iter().find(|o| o.partition == self.partition);
                hand.history
                    .groups
                    .read(&self.name, self.partition, mine.map(|o| o.offset.0))
            }
            (Some(_), Err(_)) => {
                // Perhaps the end has gone back with what was only written.
                self.end = 0;
                Ok(())
            }
            (asked, result) => Err(format!("a group asked {asked:?} and got {result:?}")),
        }
    }

    fn disconnected(&mut self) {
        self.asked = None;
        self.end = 0;
    }

    fn is_done(&self) -> bool {
        self.asked.is_none()
    }
}
