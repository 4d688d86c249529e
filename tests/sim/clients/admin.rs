//! Makes and deletes topics, starts and stops pipelines, changes settings, and asks how things are.

use super::{Client, Hand};
use crate::pipelines;
use crate::record::{New, batch_of};
use crate::scenario::Part;
use crate::world::{DOOMED, EXPIRING, FIRST_PASSING};
use flowstone_core::input::PartitionConfig;
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::native::Acks;
use flowstone_wire::{Failure, PartitionId, ShardId};
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
        hand.send(partition, Input::OpenPartition { partition, config });
    }

    fn delete_topic(&mut self, hand: &mut Hand<'_>) {
        let partition = self.open.remove(0);
        hand.world.open.remove(&partition);
        hand.history.forget(partition);
        hand.send(partition, Input::ClosePartition { partition });
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
        let produce = Input::Produce {
            ticket,
            partition,
            batch,
            acks: Acks::Durable,
        };
        hand.send(partition, produce);
    }

    /// Makes a topic and a pipeline that writes to it, which does not wait until the topic's shard has
    /// heard of it; later deletes the topic, and the pipeline goes on.
    fn doom(&mut self, hand: &mut Hand<'_>) {
        let id = pipelines::DOOMED;
        if !hand.world.tasks.contains_key(&id) {
            return;
        }
        let partition = DOOMED;
        if hand.world.open.remove(&partition).is_some() {
            hand.history.forget(partition);
            hand.send(partition, Input::ClosePartition { partition });
        } else if !hand.world.doomed_made {
            hand.world.doomed_made = true;
            hand.world.running.insert(id);
            let config = PartitionConfig::default();
            hand.world.open.insert(partition, config.clone());
            let (shard, us) = (hand.world.shard_of(partition), hand.rng.between(1, 30_000));
            hand.send_to(shard, us, Input::OpenPartition { partition, config });
            self.start(id, hand);
        }
    }

    fn start(&mut self, id: u32, hand: &mut Hand<'_>) {
        for (shard, input) in hand.world.start_of(id) {
            hand.send_to(shard, 0, input);
        }
    }

    /// Stops or starts a pipeline; the copy starts when there is something that it missed.
    fn switch_pipeline(&mut self, hand: &mut Hand<'_>) {
        let all: Vec<u32> = hand.world.tasks.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let id = *hand.rng.pick(&all);
        if hand.world.running.remove(&id) {
            for shard in hand.world.all_shards() {
                hand.send_to(shard, 0, Input::StopTask { id });
            }
        } else {
            hand.world.running.insert(id);
            self.start(id, hand);
        }
    }

    /// Asks any shard how it is.
    fn ask(&mut self, what: &str, make: fn(Ticket) -> Input, hand: &mut Hand<'_>) {
        let ticket = hand.ticket(what);
        self.asked.insert(ticket);
        let shard = hand.rng.below(u64::from(hand.world.shards)) as u16;
        hand.send_to(ShardId(shard), 0, make(ticket));
    }

    fn change_settings(&mut self, hand: &mut Hand<'_>) {
        let partition = EXPIRING[0];
        let config = PartitionConfig {
            retention_bytes: Some(hand.rng.between(500, 100_000)),
            ..PartitionConfig::default()
        };
        hand.world.open.insert(partition, config.clone());
        hand.send(partition, Input::OpenPartition { partition, config });
    }
}

impl Client for Admin {
    fn act(&mut self, hand: &mut Hand<'_>) {
        if hand.closing {
            return;
        }
        let passing = hand.options.has(Part::PassingTopics);
        match hand.rng.below(12) {
            0 if passing => self.make_topic(hand),
            1 if passing && self.open.len() > 1 => self.delete_topic(hand),
            2..=4 if passing => self.write(hand),
            5 if hand.rng.percent(30) => self.doom(hand),
            6 if hand.options.has(Part::Switching) => self.switch_pipeline(hand),
            7 if hand.options.has(Part::Switching) => self.change_settings(hand),
            8 if hand.options.has(Part::Questions) => {
                self.ask("a list", |ticket| Input::ListGroups { ticket }, hand);
            }
            9.. if hand.options.has(Part::Questions) => {
                self.ask("a status", |ticket| Input::Status { ticket }, hand);
            }
            _ => {}
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
