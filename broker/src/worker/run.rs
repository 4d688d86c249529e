//! The thread of a worker: pinning, the runtime, and the loop that empties the mailbox.

use super::bell::yield_once;
use super::connection::{self, Connection};
use super::host::{Asker, Clock, Host};
use super::{Incoming, Message};
use crate::background::{Background, Job};
use crate::config::Spin;
use crate::effects::{Done, ShardFiles};
use crate::mailbox::Mailbox;
use crate::service::Service;
use flowstone_core::{Input, Outbox, Shard};
use flowstone_storage::log::SyncJob;
use flowstone_wire::{PartitionId, ShardId};
use monoio::io::AsyncReadRent;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Entries of the submission ring.
const RING_ENTRIES: u32 = 1024;
/// Messages taken in one go before the connections get their turn.
const MESSAGES_PER_ROUND: usize = 256;
/// Deadlines are kept to this, in milliseconds.
const TICK: Duration = Duration::from_millis(5);
/// While a sync is under way a worker spins so many times as long.
const SPIN_FOR_SYNC: u64 = 6;
/// A stopping worker waits this long for peers to take their answers.
const LINGER: Duration = Duration::from_millis(500);
/// With nothing due a parked worker looks at its shards this often.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// What a worker starts with.
pub(crate) struct WorkerStart {
    pub(crate) id: u16,
    /// Every shard of this worker, with what of it is here.
    pub(crate) shards: Vec<(ShardId, Option<(Shard, ShardFiles)>)>,
    pub(crate) mailbox: Arc<Mailbox<Message>>,
    pub(crate) ear: UnixStream,
    pub(crate) service: Arc<Service>,
    pub(crate) spin: Spin,
    pub(crate) settle_bytes_per_s: u64,
    /// The core to be pinned to, if any.
    pub(crate) core: Option<core_affinity::CoreId>,
}

/// A worker, seen from its own thread.
pub(super) struct Worker {
    pub(super) id: u16,
    pub(super) hosts: BTreeMap<ShardId, RefCell<Host>>,
    pub(super) connections: RefCell<HashMap<u64, Rc<Connection>>>,
    pub(super) next_connection: Cell<u64>,
    pub(super) service: Arc<Service>,
    pub(super) background: Sender<Job>,
    /// `None` ends the thread.
    pub(super) syncer: Sender<Option<(ShardId, SyncJob)>>,
    pub(super) clock: Clock,
    /// Bytes of the large frames that are being read.
    pub(super) large_frames_bytes: Cell<usize>,
    /// A connection waits for its turn to read a large frame.
    pub(super) waits_for_large: Cell<bool>,
    /// The runtime is io_uring.
    pub(super) uring: bool,
    /// Something happened since the pump looked last: it goes on spinning.
    pub(super) active: Cell<bool>,
    /// Syncs that the kernel is doing.
    pub(super) syncs: Cell<u32>,
    /// Connections wait until no disk is behind.
    pub(super) held_back: Cell<bool>,
    mailbox: Arc<Mailbox<Message>>,
    draining: RefCell<Option<Box<dyn FnOnce() + Send>>>,
    stopped: Cell<bool>,
}

/// Starts the thread of a worker. It ends after it was drained.
///
/// # Errors
/// What the operating system says.
pub(crate) fn spawn(start: WorkerStart) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("worker-{}", start.id))
        .spawn(move || {
            // Threads begin with the cores of the one that starts them.
            let cores = sched_getaffinity(None).ok();
            if let Some(core) = start.core {
                core_affinity::set_for_current(core);
            }
            let uring = monoio::utils::detect_uring();
            if uring {
                let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                    .with_entries(RING_ENTRIES)
                    .enable_timer()
                    .build();
                match runtime {
                    Ok(mut runtime) => return runtime.block_on(run(start, true, cores)),
                    Err(e) => tracing::warn!("io_uring is refused ({e}); using epoll"),
                }
            } else {
                tracing::warn!("this kernel does not allow io_uring; using epoll");
            }
            let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new()
                .enable_timer()
                .build();
            match runtime {
                Ok(mut runtime) => runtime.block_on(run(start, false, cores)),
                Err(e) => tracing::error!("worker {} cannot start: {e}", start.id),
            }
        })
}

async fn run(start: WorkerStart, uring: bool, cores: Option<CpuSet>) {
    let (mut hosts, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (id, opened) in start.shards {
        let (shard, shard_files) = opened.unzip();
        files.extend(shard_files.map(|f| (id, f)));
        hosts.insert(id, Host::new(shard));
    }
    let (background, jobs) = channel();
    let (syncer, sync_jobs) = channel();
    let tell = |mailbox: Arc<Mailbox<Message>>| {
        move |shard, done| mailbox.send_waiting(Message::Done { shard, done })
    };
    let mailbox = start.mailbox.clone();
    let tell_opened = move |shard, result| mailbox.send_waiting(Message::Opened { shard, result });
    let helper = Background::new(
        files,
        (background.clone(), jobs),
        start.settle_bytes_per_s,
        usize::from(start.service.workers()),
        Arc::new(tell(start.mailbox.clone())),
        start.service.tiering.clone(),
        (start.service.copies(), Box::new(tell_opened)),
    );
    let helper = std::thread::Builder::new()
        .name("background".into())
        .spawn(move || {
            leave_core(cores);
            helper.run();
        });
    let done = tell(start.mailbox.clone());
    let metrics = start.service.clone();
    let sync_thread = std::thread::Builder::new()
        .name("sync".into())
        .spawn(move || {
            leave_core(cores);
            run_syncs(&sync_jobs, &metrics, done);
        });
    let worker = Rc::new(Worker {
        id: start.id,
        hosts,
        connections: RefCell::default(),
        next_connection: Cell::new(0),
        service: start.service,
        background,
        syncer,
        clock: Clock::start(),
        large_frames_bytes: Cell::new(0),
        waits_for_large: Cell::new(false),
        uring,
        active: Cell::new(true),
        syncs: Cell::new(0),
        held_back: Cell::new(false),
        mailbox: start.mailbox,
        draining: RefCell::new(None),
        stopped: Cell::new(false),
    });
    let ticker = monoio::spawn(tick(worker.clone()));
    pump(&worker, start.ear, start.spin).await;
    worker.close_connections().await;
    // Tasks that are never polled again are never dropped: they end before the runtime does.
    ticker.await;
    // The threads are told: tasks that still hold the worker would keep the channels open.
    let _ = worker.background.send(Job::Stop);
    let _ = worker.syncer.send(None);
    for thread in [helper, sync_thread].into_iter().flatten() {
        if thread.join().is_err() {
            tracing::error!("a helper thread of worker {} panicked", start.id);
        }
    }
}

/// Lets a helper of a worker run on all cores: on the worker's own, what can wait would hold it up.
fn leave_core(cores: Option<CpuSet>) {
    let freed = cores.map(|cores| sched_setaffinity(None, &cores));
    if let Some(Err(e)) = freed {
        tracing::debug!("a helper thread stays on the core of its worker: {e}");
    }
}

/// Syncs what is more than one file, and everything where there is no io_uring.
fn run_syncs(
    jobs: &Receiver<Option<(ShardId, SyncJob)>>,
    service: &Service,
    done: impl Fn(ShardId, Done),
) {
    while let Ok(Some((shard, job))) = jobs.recv() {
        let start = Instant::now();
        let result = job.run().map_err(|e| e.to_string());
        service
            .metrics
            .sync_seconds
            .observe(start.elapsed().as_secs_f64());
        done(
            shard,
            Done::Synced {
                upto: job.upto,
                result,
            },
        );
    }
}

/// Empties the mailbox; spins for a while when there is nothing, then parks on the bell.
async fn pump(worker: &Rc<Worker>, ear: UnixStream, spin: Spin) {
    let ear = ear
        .set_nonblocking(true)
        .and_then(|()| monoio::net::UnixStream::from_std(ear));
    let Ok(mut ear) = ear else {
        tracing::error!("worker {} cannot listen to its mailbox", worker.id);
        return;
    };
    let mut last_active = Instant::now();
    let mut heard = vec![0u8; 64];
    while !worker.stopped.get() {
        if worker.take_messages() | worker.active.replace(false) {
            last_active = Instant::now();
        }
        worker.finish_drain();
        // Waking up for a sync that is about to end would cost as much again as a short one takes.
        let longer = if worker.syncs.get() > 0 {
            SPIN_FOR_SYNC
        } else {
            1
        };
        let bound_us = spin.bound_us().map(|us| us * longer);
        let spinning = bound_us.is_none_or(|us| last_active.elapsed() < Duration::from_micros(us));
        if spinning {
            // Whoever else is to run on this processor (the replication of the peers, where there are few) runs
            // now, not when the scheduler takes the processor away.
            rustix::thread::sched_yield();
        }
        if spinning || worker.stopped.get() || !worker.mailbox.park() {
            yield_once().await;
            continue;
        }
        let (result, buffer) = ear.read(heard).await;
        heard = buffer;
        if result.is_err() {
            return;
        }
    }
}

/// Steps the shards whose deadline has passed.
async fn tick(worker: Rc<Worker>) {
    while !worker.stopped.get() {
        let now = worker.clock.now();
        let mut wait = IDLE_TICK;
        for (id, host) in &worker.hosts {
            let deadline = || host.borrow().shard.as_ref().and_then(Shard::deadline);
            let due = deadline();
            if due.is_some_and(|at| at <= now.mono_us) {
                worker.step(*id, Input::Tick);
                worker.relieve();
            }
            if let Some(at) = deadline() {
                let left = Duration::from_micros(at.saturating_sub(now.mono_us));
                wait = wait.min(left.max(Duration::from_micros(50)));
            }
        }
        // A deadline may be set nearer while this sleeps.
        monoio::time::sleep(wait.min(if worker.busy() { TICK } else { IDLE_TICK })).await;
    }
}

impl Worker {
    /// Whether deadlines may come nearer without a message: connections have requests under way.
    fn busy(&self) -> bool {
        self.hosts.values().any(|h| {
            let host = h.borrow();
            host.shard.as_ref().is_some_and(|shard| {
                shard.deadline().is_some() || shard.log().written() > shard.log().durable()
            })
        }) && (!self.connections.borrow().is_empty() || self.active.get())
    }

    /// Handles some messages. Returns whether there were any.
    fn take_messages(self: &Rc<Self>) -> bool {
        let mut touched = BTreeSet::new();
        for _ in 0..MESSAGES_PER_ROUND {
            let Some(message) = self.mailbox.take() else {
                break;
            };
            if let Some(shard) = self.take_message(message) {
                touched.insert(shard);
            }
        }
        for shard in &touched {
            self.turn(*shard);
        }
        self.relieve();
        !touched.is_empty()
    }

    /// Handles a message. Returns the shard whose turn it is then.
    fn take_message(self: &Rc<Self>, message: Message) -> Option<ShardId> {
        match message {
            Message::Call { shard, make, reply } => {
                self.ask(shard, Asker::Elsewhere(reply), make);
                return Some(shard);
            }
            Message::Tell { shard, input } => {
                self.step(shard, input);
                return Some(shard);
            }
            Message::Done { shard, done } => self.done(shard, done),
            Message::Opened { shard, result } => {
                self.opened(shard, result);
                return Some(shard);
            }
            Message::Connection(incoming) => self.open_connection(incoming),
            Message::Answer {
                connection,
                correlation,
                answer,
            } => {
                let connection = self.connections.borrow().get(&connection).cloned();
                if let Some(connection) = connection {
                    connection.answer(correlation, answer);
                }
            }
            Message::CloseUnknown => self.close_unknown(),
            Message::Drain(done) => self.drain(done),
        }
        self.active.set(true);
        None
    }

    fn open_connection(self: &Rc<Self>, incoming: Incoming) {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        connection::serve(self, id, incoming);
    }

    fn close_unknown(self: &Rc<Self>) {
        let below = self.service.catalog().next_partition();
        for (id, host) in &self.hosts {
            self.close_unknown_of(*id, &mut host.borrow_mut(), below);
        }
    }

    /// Closes what a shard found and the catalog does not know.
    pub(super) fn close_unknown_of(&self, id: ShardId, host: &mut Host, below: PartitionId) {
        let mut outbox = Outbox::default();
        if let Some(shard) = &mut host.shard {
            shard.close_unknown(below, &mut outbox);
        }
        for output in outbox.drain() {
            let _ = self.background.send(Job::Shard(id, output));
        }
    }

    fn drain(self: &Rc<Self>, done: Box<dyn FnOnce() + Send>) {
        *self.draining.borrow_mut() = Some(done);
        for (id, host) in &self.hosts {
            // What is being opened is drained when it is open.
            let is_absent = host.borrow().shard.is_none() && !host.borrow().opening;
            host.borrow_mut().drained = is_absent;
            self.step(*id, Input::Drain);
            self.turn(*id);
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }

    fn finish_drain(&self) {
        if self.draining.borrow().is_none() || !self.hosts.values().all(|h| h.borrow().drained) {
            return;
        }
        if let Some(done) = self.draining.borrow_mut().take() {
            self.stopped.set(true);
            done();
        }
    }

    /// Lets the answers that are there reach their peers, within reason, then closes.
    async fn close_connections(&self) {
        let end = Instant::now() + LINGER;
        let all: Vec<Rc<Connection>> = self.connections.borrow().values().cloned().collect();
        while Instant::now() < end && all.iter().any(|c| c.has_unwritten()) {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        all.iter().for_each(|c| c.close());
        while Instant::now() < end + LINGER && !self.connections.borrow().is_empty() {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
