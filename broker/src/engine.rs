//! One shard on the calling thread, for programs that process in microseconds and need no doors.
//!
//! [`Engine::append`] gives a record its place, runs the tasks on it and writes both in one go before
//! it returns. Syncs and upkeep happen on two helper threads; [`Engine::poll`] takes in what they
//! have done.

use crate::background::{Background, Job};
use crate::broker::{self, StartError};
use crate::catalog_store::CatalogStore;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::effects::Done;
use crate::pipelines::task_config;
use crate::worker::Clock;
use flowstone_core::catalog::{Command, Event, partition_config};
use flowstone_core::output::Status;
use flowstone_core::{Input, Outbox, Output, Reply, Shard, Ticket};
use flowstone_processor::Pipeline;
use flowstone_storage::log::SyncJob;
use flowstone_wire::native::{Acks, Topic, TopicSettings};
use flowstone_wire::partitioner::partition_for_key;
use flowstone_wire::{
    BatchBuilder, CheckedBatch, Codec, ErrorCode, Failure, Header, Lsn, Offset, PartitionId,
    ShardId,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

const SHARD: ShardId = ShardId(0);

/// A broker's data path on the calling thread. See the module docs.
pub struct Engine {
    shard: Shard,
    outbox: Outbox,
    catalog: CatalogStore,
    clock: Clock,
    next_ticket: u64,
    syncer: Sender<Option<SyncJob>>,
    background: Sender<Job>,
    done: Receiver<Done>,
    helpers: Vec<JoinHandle<()>>,
    drained: bool,
    _data: DataDir,
}

/// A topic of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineTopic {
    partitions: Vec<PartitionId>,
}

/// Where a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its offset.
    pub offset: Offset,
    /// The log is durable up to the record when [`Engine::durable`] has reached this.
    pub lsn: Lsn,
}

impl Engine {
    /// Opens, or makes, a data directory with one shard, with default settings.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(data: impl AsRef<Path>) -> Result<Self, StartError> {
        let mut config = Config::default();
        config.node.data = data.as_ref().into();
        Self::open_with(&config)
    }

    /// Opens a data directory with these settings; its doors and threads are not looked at.
    ///
    /// # Errors
    /// [`StartError`]; a data directory of several shards belongs to a broker.
    pub fn open_with(config: &Config) -> Result<Self, StartError> {
        config.check()?;
        if config.tier.is_some() {
            let what = "an engine has no tier; use a broker";
            return Err(crate::config::Error::Tier(what.into()).into());
        }
        let data = DataDir::open(&config.node.data, 1)?;
        let shards = data.identity.shards;
        if shards != 1 {
            let what = format!("it has {shards} shards, an engine serves one; use a broker");
            let path = data.path;
            return Err(crate::data_dir::Error::Format { path, what }.into());
        }
        let system = |action| move |source| StartError::System { action, source };
        let mut opened = broker::open(&data, config)?;
        let (_, shard) = opened.shards.remove(0);
        let Some((shard, files)) = shard.filter(|_| opened.copies.is_none()) else {
            let what = "an engine is alone, and this is the directory of a node of a cluster";
            return Err(StartError::Cluster(what.into()));
        };
        let catalog = opened.catalog;
        let (syncer, sync_jobs) = channel();
        let (background, jobs) = channel();
        let (tell, done) = channel();
        let tell_done = tell.clone();
        let helper = Background::new(
            BTreeMap::from([(SHARD, files)]),
            (background.clone(), jobs),
            config.settle.rate_bytes_per_s,
            1,
            Arc::new(move |_, d| drop(tell_done.send(d))),
            None,
            (None, Box::new(|_, _| {})),
        );
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run)
        };
        let helpers = vec![
            spawn("background", Box::new(|| helper.run())).map_err(system("start a thread"))?,
            spawn("sync", Box::new(move || run_syncs(&sync_jobs, &tell)))
                .map_err(system("start a thread"))?,
        ];
        let mut engine = Self {
            shard,
            outbox: Outbox::default(),
            catalog,
            clock: Clock::start(),
            next_ticket: 0,
            syncer,
            background,
            done,
            helpers,
            drained: false,
            _data: data,
        };
        engine.open_partitions();
        Ok(engine)
    }

    fn open_partitions(&mut self) {
        let catalog = self.catalog.current();
        for topic in catalog.topics() {
            self.open_topic(topic);
        }
        self.shard
            .close_unknown(PartitionId(u32::MAX), &mut self.outbox);
        self.perform();
    }

    fn open_topic(&mut self, topic: &Topic) {
        let config = partition_config(&topic.settings);
        for p in &topic.partitions {
            self.step(Input::OpenPartition {
                partition: p.id,
                config: config.clone(),
            });
        }
    }

    /// A topic; made, with this many partitions, where it is not there.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn topic(&mut self, name: &str, partitions: u32) -> Result<EngineTopic, Failure> {
        let topic = self.topic_or_make(name, partitions, TopicSettings::default())?;
        Ok(EngineTopic {
            partitions: topic.partitions.iter().map(|p| p.id).collect(),
        })
    }

    fn topic_or_make(
        &mut self,
        name: &str,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<Topic, Failure> {
        if let Ok(topic) = self.catalog.current().topic(name) {
            return Ok(topic.clone());
        }
        let name = name.to_string();
        match self.catalog.apply(Command::CreateTopic {
            name,
            partitions,
            settings,
        })? {
            Event::TopicCreated(topic) => {
                self.open_topic(&topic);
                Ok(topic)
            }
            _ => Err(Failure::new(
                ErrorCode::Internal,
                "the catalog made no topic",
            )),
        }
    }

    /// Runs a pipeline on this thread; it goes on from where one of its name stopped. Topics that are
    /// not there are made, with one partition.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn deploy(&mut self, pipeline: &Pipeline) -> Result<(), Failure> {
        let name = pipeline.name().to_string();
        let Event::PipelineRegistered(id) =
            self.catalog.apply(Command::RegisterPipeline { name })?
        else {
            return Err(Failure::new(
                ErrorCode::Internal,
                "the catalog gave no number",
            ));
        };
        let mut topics = |names: &[String]| -> Result<Vec<Topic>, Failure> {
            names
                .iter()
                .map(|n| self.topic_or_make(n, 1, TopicSettings::default()))
                .collect()
        };
        let (sources, sinks) = (topics(pipeline.sources())?, topics(pipeline.sinks())?);
        let config = task_config(id, pipeline, SHARD, &sources, &sinks);
        self.step(Input::StartTask(Box::new(config)));
        self.step(Input::Turn);
        Ok(())
    }

    /// Appends a record, runs the tasks on it, and writes both to the page cache. The record has the
    /// time of now.
    ///
    /// # Errors
    /// What the shard says: [`ErrorCode::Busy`] where too much waits for the disk (poll and try
    /// again), [`ErrorCode::DiskFull`], [`ErrorCode::ShardFenced`], [`ErrorCode::TooLarge`].
    pub fn append(
        &mut self,
        topic: &EngineTopic,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Appended, Failure> {
        self.append_record(topic, key, value, &[])
    }

    /// As [`Self::append`], with headers.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_record(
        &mut self,
        topic: &EngineTopic,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[Header<'_>],
    ) -> Result<Appended, Failure> {
        let now = self.clock.now();
        let mut builder = BatchBuilder::with_capacity(Codec::None, value.len() + 128);
        if !builder.push(now.unix_ms, key, Some(value), headers) {
            let what = format!("a record of {} bytes is over the limits", value.len());
            return Err(Failure::new(ErrorCode::TooLarge, what));
        }
        let index = key.map_or(0, |k| partition_for_key(k, topic.partitions.len() as u32));
        self.produce(now, topic.partitions[index as usize], builder.finish())
    }

    /// Appends a batch that was built record by record, to the partition with this index.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// If the batch is empty or the topic has no such partition.
    pub fn append_batch(
        &mut self,
        topic: &EngineTopic,
        index: u32,
        batch: BatchBuilder,
    ) -> Result<Appended, Failure> {
        let now = self.clock.now();
        self.produce(now, topic.partitions[index as usize], batch.finish())
    }

    fn produce(
        &mut self,
        now: flowstone_core::Now,
        partition: PartitionId,
        batch: CheckedBatch,
    ) -> Result<Appended, Failure> {
        let ticket = self.ticket();
        // Acks none: the place is known at once, and the turn below writes it anyway.
        let (ticket, acks) = (Some(ticket), Acks::None);
        let lsn = self.shard.log().next_lsn();
        let input = Input::Produce {
            ticket,
            partition,
            batch,
            acks,
        };
        self.shard.step(now, input, &mut self.outbox);
        let reply = self.perform();
        self.shard.step(now, Input::Turn, &mut self.outbox);
        if self.shard.has_to_end() {
            self.shard.ended(self.clock.now());
        }
        self.perform();
        if let Some(reason) = self.shard.fenced() {
            return Err(Failure::new(ErrorCode::ShardFenced, reason));
        }
        match reply {
            Some(Ok(Reply::Produced(answer))) => Ok(Appended {
                offset: answer.base_offset,
                lsn,
            }),
            Some(Err(failure)) => Err(failure),
            _ => Err(Failure::new(
                ErrorCode::Internal,
                "the shard gave no answer",
            )),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Takes in what the helper threads have done, and fires timers that are due. To be called now
    /// and then, and while waiting.
    pub fn poll(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.take(done);
        }
        if self
            .shard
            .deadline()
            .is_some_and(|at| at <= self.clock.now().mono_us)
        {
            self.step(Input::Tick);
        }
    }

    fn take(&mut self, done: Done) {
        if let Ok(input) = done.into_input() {
            self.step(input);
            self.step(Input::Turn);
        }
    }

    /// Waits until everything that was appended is on the disk.
    ///
    /// # Errors
    /// [`ErrorCode::ShardFenced`] after an error of the disk.
    pub fn wait_durable(&mut self) -> Result<(), Failure> {
        let upto = self.shard.log().written();
        while self.shard.log().durable() < upto {
            // A deadline may have to pass before anything is synced.
            match self.done.recv_timeout(std::time::Duration::from_millis(1)) {
                Ok(done) => self.take(done),
                Err(_) => self.poll(),
            }
            if let Some(reason) = self.shard.fenced() {
                return Err(Failure::new(ErrorCode::ShardFenced, reason));
            }
        }
        Ok(())
    }

    /// The log is on the disk up to here, as far as [`Self::poll`] has seen.
    pub fn durable(&self) -> Lsn {
        self.shard.log().durable()
    }

    /// How the shard, its partitions and its tasks stand.
    pub fn status(&mut self) -> Option<Status> {
        let ticket = self.ticket();
        self.shard
            .step(self.clock.now(), Input::Status { ticket }, &mut self.outbox);
        match self.perform() {
            Some(Ok(Reply::Status(status))) => Some(*status),
            _ => None,
        }
    }

    fn step(&mut self, input: Input) {
        self.shard.step(self.clock.now(), input, &mut self.outbox);
        if self.shard.has_to_end() {
            self.shard.ended(self.clock.now());
        }
        self.perform();
    }

    /// Does what the shard asks for; gives back the reply, of which there is one at most.
    #[inline]
    fn perform(&mut self) -> Option<Result<Reply, Failure>> {
        let mut reply = None;
        for output in self.outbox.drain() {
            match output {
                Output::Reply { result, .. } => reply = Some(result),
                // The threads end only after this engine has.
                Output::Sync(job) => drop(self.syncer.send(Some(job))),
                Output::Report(text) => tracing::warn!("{text}"),
                Output::Fenced(reason) => tracing::error!("the shard takes nothing more: {reason}"),
                Output::Drained => self.drained = true,
                Output::Carry(_) => unreachable!("one shard has every partition"),
                other => drop(self.background.send(Job::Shard(SHARD, other))),
            }
        }
        reply
    }
}

fn run_syncs(jobs: &Receiver<Option<SyncJob>>, done: &Sender<Done>) {
    while let Ok(Some(job)) = jobs.recv() {
        let result = job.run().map_err(|e| e.to_string());
        if done
            .send(Done::Synced {
                upto: job.upto,
                result,
            })
            .is_err()
        {
            return;
        }
    }
}

impl Drop for Engine {
    /// Stops in order: everything is synced and the state store brought up to date.
    fn drop(&mut self) {
        self.step(Input::Drain);
        self.step(Input::Turn);
        while !self.drained {
            match self.done.recv() {
                Ok(done) => self.take(done),
                Err(_) => break,
            }
        }
        // A thread that is gone needs no telling, and a panic has been printed.
        let _ = self.background.send(Job::Stop);
        let _ = self.syncer.send(None);
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}
