//! A shard that is one of several copies: opening it when the catalog wants it here, and again when it has
//! ended.

use super::host::Host;
use super::run::Worker;
use crate::background::Job;
use flowstone_core::input::ReplicaInput;
use flowstone_core::replica::LogId;
use flowstone_core::{Input, Output, Shard};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::rc::Rc;

impl Worker {
    /// Drops a shard of which nothing is under way, and has it opened again; with a snapshot in place of
    /// what it had, where one has come.
    pub(super) fn open_again(&self, id: ShardId, host: &mut Host, snapshot: Option<LogId>) {
        host.leave();
        if self.is_draining() {
            host.drained = true;
            return;
        }
        host.opening = true;
        let output = snapshot.map_or(Output::Reopen, Output::Install);
        // The thread ends only after this worker has.
        let _ = self.background.send(Job::Shard(id, output));
    }

    /// What happens to a shard that is not here: who asks is told, and it is opened if the catalog wants
    /// it here.
    pub(super) fn step_absent(&self, id: ShardId, host: &mut Host, input: Input) {
        if let Some(ticket) = input.ticket() {
            let what = format!("this node does not lead shard {id}");
            return host.reply(ticket, Err(Failure::new(ErrorCode::NotLeader, what)));
        }
        match input {
            Input::Replica(ReplicaInput::Appointed(config))
                if !host.opening && config.listed(self.service.me()).is_some() =>
            {
                self.open_again(id, host, None);
            }
            Input::Drain => host.drained = !host.opening,
            // Another copy, or the catalog, says it again when it is open.
            _ => {}
        }
    }

    /// Takes a shard that was opened, and tells it what the catalog knows.
    pub(super) fn opened(self: &Rc<Self>, id: ShardId, result: Result<Box<Shard>, String>) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        host.borrow_mut().opening = false;
        match result {
            Ok(shard) => host.borrow_mut().shard = Some(*shard),
            Err(why) => {
                tracing::error!(shard = id.0, "the copy cannot be opened: {why}");
                host.borrow_mut().drained = true;
                return self.service.shard_fenced(id, why);
            }
        }
        let (below, inputs) = self.service.introduction(id);
        for input in inputs {
            self.step(id, input);
        }
        self.close_unknown_of(id, &mut host.borrow_mut(), below);
        self.step(id, Input::Tick);
        if self.is_draining() {
            self.step(id, Input::Drain);
        }
    }
}
