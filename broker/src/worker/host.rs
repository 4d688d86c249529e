//! A shard on a worker: steps it and does what it asks for.

use super::connection::Connection;
use super::run::Worker;
use super::{EncodedAnswer, ReplyTo};
use crate::background::Job;
use crate::effects::Done;
use flowstone_core::{Input, Now, Outbox, Output, Reply, Shard, Ticket};
use flowstone_storage::DiskFile;
use flowstone_storage::log::SyncJob;
use flowstone_wire::native::{self, Request};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Who waits for a reply.
pub(super) enum Asker {
    /// A request of a connection of this worker.
    Connection {
        connection: Rc<Connection>,
        correlation: u64,
    },
    /// Somebody on another thread.
    Elsewhere(ReplyTo),
}

/// A place for a shard, and those who wait for its replies.
pub(super) struct Host {
    /// `None` where another node has it, and while it is opened again.
    pub(super) shard: Option<Shard>,
    outbox: Outbox,
    askers: HashMap<Ticket, Asker>,
    next_ticket: u64,
    /// The runtime's handle of the file that was synced last. The storage's handle beside it keeps
    /// the identity from being used again.
    sync_file: Option<(Arc<dyn DiskFile>, Rc<monoio::fs::File>)>,
    pub(super) drained: bool,
    /// It is being opened on the background thread.
    pub(super) opening: bool,
}

impl Host {
    pub(super) fn new(shard: Option<Shard>) -> RefCell<Self> {
        RefCell::new(Self {
            shard,
            outbox: Outbox::default(),
            askers: HashMap::new(),
            next_ticket: 0,
            sync_file: None,
            drained: false,
            opening: false,
        })
    }

    /// Has no shard any more; those who wait for one of its replies are answered by whoever has them.
    pub(super) fn leave(&mut self) {
        self.shard = None;
        self.sync_file = None;
    }

    /// A ticket for a request; its reply goes to `asker`.
    pub(super) fn ticket(&mut self, asker: Asker) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.askers.insert(ticket, asker);
        ticket
    }

    pub(super) fn reply(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        match self.askers.remove(&ticket) {
            Some(Asker::Connection {
                connection,
                correlation,
            }) => {
                connection.answer(correlation, encode_reply(result));
            }
            Some(Asker::Elsewhere(reply)) => reply(result),
            None => {}
        }
    }

    /// The connection of this worker that waits for a reply, and its number for the request.
    fn connection_of(&self, ticket: Ticket) -> Option<(Rc<Connection>, u64)> {
        match self.askers.get(&ticket)? {
            Asker::Connection {
                connection,
                correlation,
            } => Some((connection.clone(), *correlation)),
            Asker::Elsewhere(_) => None,
        }
    }

    /// The runtime's handle of the file of a sync.
    fn sync_handle(&mut self, file: &Arc<dyn DiskFile>) -> Option<Rc<monoio::fs::File>> {
        if let Some((known, handle)) = &self.sync_file
            && Arc::ptr_eq(known, file)
        {
            return Some(handle.clone());
        }
        let own = file.os_file()?.try_clone().ok()?;
        let handle = Rc::new(monoio::fs::File::from_std(own).ok()?);
        self.sync_file = Some((file.clone(), handle.clone()));
        Some(handle)
    }
}

impl Worker {
    /// Steps a shard and does what it asks for.
    pub(super) fn step(self: &Rc<Self>, shard: ShardId, input: Input) {
        let Some(host) = self.hosts.get(&shard) else {
            return;
        };
        self.step_host(shard, &mut host.borrow_mut(), input);
    }

    /// Steps a shard with a request.
    pub(super) fn ask(
        self: &Rc<Self>,
        shard: ShardId,
        asker: Asker,
        make: impl FnOnce(Ticket) -> Result<Input, Failure>,
    ) {
        let Some(host) = self.hosts.get(&shard) else {
            let failure = Err(self.service.no_such_shard(shard));
            return match asker {
                Asker::Elsewhere(reply) => reply(failure),
                Asker::Connection {
                    connection,
                    correlation,
                } => {
                    connection.answer(correlation, encode_reply(failure));
                }
            };
        };
        let mut host = host.borrow_mut();
        let ticket = host.ticket(asker);
        match make(ticket) {
            Ok(input) => self.step_host(shard, &mut host, input),
            Err(failure) => host.reply(ticket, Err(failure)),
        }
    }

    pub(super) fn step_host(self: &Rc<Self>, id: ShardId, host: &mut Host, input: Input) {
        let Some(shard) = &mut host.shard else {
            return self.step_absent(id, host, input);
        };
        shard.step(self.clock.now(), input, &mut host.outbox);
        if shard.has_to_end() {
            shard.ended(self.clock.now());
        }
        if host.outbox.is_empty() {
            return;
        }
        // The outbox is swapped out so that a reply may borrow the host.
        let mut outbox = std::mem::take(&mut host.outbox);
        for output in outbox.drain() {
            self.perform(id, host, output);
        }
        host.outbox = outbox;
    }

    fn perform(self: &Rc<Self>, id: ShardId, host: &mut Host, output: Output) {
        match output {
            Output::Reply { ticket, result } => host.reply(ticket, result),
            Output::Sync(job) => self.start_sync(id, host, job),
            Output::Report(text) => tracing::warn!(shard = id.0, "{text}"),
            Output::Fenced(reason) => {
                tracing::error!(shard = id.0, "the shard takes nothing more: {reason}");
                self.service.shard_fenced(id, reason);
            }
            Output::Drained => host.drained = true,
            Output::Reopen => self.open_again(id, host, None),
            Output::Install(last) => self.open_again(id, host, Some(last)),
            Output::ToPeer { envelope, bodies } => self.service.send_to_copy(envelope, bodies),
            Output::AskCatalog(asked) => self.service.ask_catalog(id, asked),
            Output::ReplicaReport(report) => self.service.take_report(id, *report),
            Output::Carry(parcel) => self.service.carry(id, parcel),
            Output::ReadSettled { ticket, .. } if host.connection_of(ticket).is_some() => {
                if let Some((connection, correlation)) = host.connection_of(ticket) {
                    if connection.is_closed() {
                        return host.reply(ticket, Err(nobody_waits()));
                    }
                    connection.defer(id, correlation, output);
                    self.read_settled(&connection);
                }
            }
            other => {
                // The thread ends only after this worker has.
                let _ = self.background.send(Job::Shard(id, other));
            }
        }
    }

    /// Starts a group commit: through io_uring where that is the runtime, else on the sync thread.
    fn start_sync(self: &Rc<Self>, id: ShardId, host: &mut Host, job: SyncJob) {
        let handle = match job.single_file() {
            Some(file) if self.uring => host.sync_handle(file),
            _ => None,
        };
        let Some(handle) = handle else {
            let _ = self.syncer.send(Some((id, job)));
            return;
        };
        let worker = self.clone();
        worker.syncs.set(worker.syncs.get() + 1);
        monoio::spawn(async move {
            let start = std::time::Instant::now();
            let result = handle.sync_data().await.map_err(|e| e.to_string());
            worker.syncs.set(worker.syncs.get() - 1);
            worker
                .service
                .metrics
                .sync_seconds
                .observe(start.elapsed().as_secs_f64());
            worker.done(
                id,
                Done::Synced {
                    upto: job.upto,
                    result,
                },
            );
        });
    }

    /// Starts the reads of settled segments that a connection has room for.
    pub(super) fn read_settled(&self, connection: &Connection) {
        while let Some((shard, read)) = connection.next_settled() {
            // The thread ends only after this worker has.
            let _ = self.background.send(Job::Shard(shard, read));
        }
    }

    /// Forgets the reads of a connection that has ended.
    pub(super) fn forget_settled(&self, connection: &Connection) {
        for (shard, read) in connection.take_deferred() {
            if let (Some(host), Output::ReadSettled { ticket, .. }) = (self.hosts.get(&shard), read)
            {
                host.borrow_mut().reply(ticket, Err(nobody_waits()));
            }
        }
    }

    /// Processes and writes what was staged on a shard.
    pub(super) fn turn(self: &Rc<Self>, shard: ShardId) {
        self.step(shard, Input::Turn);
    }

    /// Whether connections should be read no further until a disk has caught up.
    pub(super) fn pressed(&self) -> bool {
        // A shard that is stepping right now is looked at when it is done.
        self.hosts
            .values()
            .filter_map(|h| h.try_borrow().ok())
            .any(|h| h.shard.as_ref().is_some_and(Shard::pressed))
    }

    /// Whether a connection should not be read on just now; it is told when it should.
    pub(super) fn holds_back(&self) -> bool {
        let pressed = self.pressed();
        self.held_back.set(self.held_back.get() || pressed);
        pressed
    }

    /// Lets connections go on that were held back, when that is over.
    pub(super) fn relieve(&self) {
        if self.held_back.get() && !self.pressed() {
            self.held_back.set(false);
            let connections = self.connections.borrow();
            connections.values().for_each(|c| c.look_again());
        }
    }

    pub(super) fn done(self: &Rc<Self>, shard: ShardId, done: Done) {
        match done.into_input() {
            Ok(input) => {
                self.step(shard, input);
                self.turn(shard);
                self.relieve();
            }
            Err((ticket, result)) => {
                if let Some(host) = self.hosts.get(&shard) {
                    host.borrow_mut().reply(ticket, result);
                }
            }
        }
    }
}

fn nobody_waits() -> Failure {
    Failure::new(ErrorCode::Disconnected, "the connection has ended")
}

/// The clock of a worker.
#[derive(Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            unix_ms: unix_ms(),
            mono_us: self.0.elapsed().as_micros() as u64,
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}

/// The answer frame's parts for a shard's reply.
pub(super) fn encode_reply(result: Result<Reply, Failure>) -> EncodedAnswer {
    fn of<R: Request>(answer: R::Answer, payload: Vec<bytes::Bytes>) -> EncodedAnswer {
        encode_answer::<R>(Ok(answer), payload)
    }
    match result {
        Ok(Reply::Produced(answer)) => of::<native::Produce>(answer, Vec::new()),
        Ok(Reply::Fetched(answer, slices)) => of::<native::Fetch>(answer, slices),
        Ok(Reply::Found(offset)) => of::<native::FindOffset>(offset, Vec::new()),
        Ok(Reply::Committed) => of::<native::CommitOffsets>((), Vec::new()),
        Ok(Reply::Offsets(offsets)) => of::<native::ReadOffsets>(offsets, Vec::new()),
        Ok(Reply::Groups(groups)) => of::<native::ListGroups>(groups, Vec::new()),
        Ok(Reply::Status(_)) => EncodedAnswer::default(),
        // A failure looks alike for every request.
        Err(failure) => encode_answer::<native::DeleteTopic>(Err(failure), Vec::new()),
    }
}

/// The answer frame's parts for a result; the connection knows the number of the request.
pub(crate) fn encode_answer<R: Request>(
    result: Result<R::Answer, Failure>,
    payload: Vec<bytes::Bytes>,
) -> EncodedAnswer {
    let header = native::encode(&result)
        .unwrap_or_else(|failure| native::encode(&Err::<(), _>(failure)).unwrap_or_default());
    EncodedAnswer {
        api: R::API,
        header,
        payload,
    }
}
