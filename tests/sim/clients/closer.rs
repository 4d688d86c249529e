//! Sends the last records of the source, far in the future, so that all windows before them close.

use super::{Client, Hand};
use crate::pipelines::{GOOD, WINDOW_MS};
use crate::record::{New, batch_of};
use crate::world::SOURCE;
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::Failure;
use flowstone_wire::native::Acks;

/// Further ahead than the clock ever jumps.
const AHEAD_MS: i64 = 20_000;
/// Closers of one partition: the windows that the first of them closes are told of by its own step.
const TIMES: usize = 2;

#[derive(Default)]
pub(super) struct Closer {
    asked: Option<Ticket>,
    done: usize,
}

impl Client for Closer {
    fn act(&mut self, hand: &mut Hand<'_>) {
        if !hand.closing || self.asked.is_some() || self.is_done() {
            return;
        }
        let timestamp = hand.now.unix_ms + AHEAD_MS;
        let record = New {
            key: "last".into(),
            value: format!(
                "{{\"id\":\"last-{}-{timestamp}\",\"n\":1,\"do\":\"{GOOD}\"}}",
                self.done
            ),
            timestamp: timestamp - timestamp.rem_euclid(WINDOW_MS) + WINDOW_MS - 50,
        };
        let ticket = hand.ticket("the closer");
        self.asked = Some(ticket);
        let partition = SOURCE[self.done % SOURCE.len()];
        let produce = Input::Produce {
            ticket: Some(ticket),
            partition,
            batch: batch_of(&[record], None),
            acks: Acks::Durable,
        };
        hand.send(partition, produce);
    }

    fn answer(
        &mut self,
        _ticket: Ticket,
        result: Result<Reply, Failure>,
        _hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        self.asked = None;
        self.done += usize::from(result.is_ok());
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_done(&self) -> bool {
        self.done == TIMES * SOURCE.len()
    }
}
