//! Makes and deletes topics, starts and stops pipelines, changes settings, and asks how things are.

use super::{Client, Hand};
use crate::pipelines;
use crate::record::{New, batch_of};
use crate::world::{EXPIRING, FIRST_PASSING};
use flowstone_core::input::PartitionConfig;
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::native::Acks;
use flowstone_wire::{Failure, PartitionId};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Admin {
    made: u32,
    open: Vec<PartitionId>,
    asked: BTreeSet<Ticket>,
}

impl Admin {
    fn make_topic(&mut self, hand: &mut Hand<'_>) {
        let partition = PartitionId(FIRST_PASSING + self.made);
        self.made += 1;
        self.open.push(partition);
        let config = PartitionConfig::default();
        hand.world.open.insert(partition, config.clone());
        hand.send.push(Input::OpenPartition { partition, config });
    }

    fn delete_topic(&mut self, hand: &mut Hand<'_>) {
        let partition = self.open.remove(0);
        hand.world.open.remove(&partition);
        hand.history.forget(partition);
        hand.send.push(Input::ClosePartition { partition });
    }

    fn write(&mut self, hand: &mut Hand<'_>) {
        let Some(partition) = self.open.last().copied() else {
            return;
        };
        let value = "y".repeat(hand.rng.below(700) as usize);
        let record = New {
            key: "p".into(),
            value,
            timestamp: hand.now.unix_ms,
        };
        let batch = batch_of(&[record], None);
        let ticket = hand.rng.percent(50).then(|| hand.ticket("a passing topic"));
        self.asked.extend(ticket);
        hand.send.push(Input::Produce {
            ticket,
            partition,
            batch,
            acks: Acks::Durable,
        });
    }

    /// Stops or starts a pipeline; the copy starts when there is something that it missed.
    fn switch_pipeline(&mut self, hand: &mut Hand<'_>) {
        if hand.world.tasks.is_empty() {
            return;
        }
        let id = *hand
            .rng
            .pick(&[pipelines::COUNTS, pipelines::WINDOWS, pipelines::COPIES]);
        if hand.world.running.remove(&id) {
            hand.send.push(Input::StopTask { id });
        } else {
            hand.world.running.insert(id);
            let config = hand.world.tasks[&id].clone();
            hand.send.push(Input::StartTask(Box::new(config)));
        }
    }

    fn change_settings(&mut self, hand: &mut Hand<'_>) {
        let partition = EXPIRING[0];
        let config = PartitionConfig {
            retention_bytes: Some(hand.rng.between(500, 100_000)),
            ..PartitionConfig::default()
        };
        hand.world.open.insert(partition, config.clone());
        hand.send.push(Input::OpenPartition { partition, config });
    }
}

impl Client for Admin {
    fn act(&mut self, hand: &mut Hand<'_>) {
        if hand.closing {
            return;
        }
        match hand.rng.below(12) {
            0 => self.make_topic(hand),
            1 if self.open.len() > 1 => self.delete_topic(hand),
            2..=5 => self.write(hand),
            6 => self.switch_pipeline(hand),
            7 => self.change_settings(hand),
            8 => {
                let ticket = hand.ticket("a list");
                self.asked.insert(ticket);
                hand.send.push(Input::ListGroups { ticket });
            }
            _ => {
                let ticket = hand.ticket("a status");
                self.asked.insert(ticket);
                hand.send.push(Input::Status { ticket });
            }
        }
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        _hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        if !self.asked.remove(&ticket) {
            return Err(format!("an admin was answered {ticket:?} and did not ask"));
        }
        if let Ok(Reply::Status(status)) = result {
            let wrong = status
                .partitions
                .iter()
                .find(|p| p.start > p.committed || p.committed > p.end);
            if wrong.is_some() || status.shard.durable_lsn > status.shard.written_lsn {
                return Err(format!("a status makes no sense: {status:?}"));
            }
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked.clear();
    }

    fn is_done(&self) -> bool {
        self.asked.is_empty()
    }
}
