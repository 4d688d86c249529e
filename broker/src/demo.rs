//! This computer's telemetry through an embedded broker and a pipeline that flags what is unusual.

pub mod screen;
pub mod telemetry;

use crate::bench::{Times, note, raw, times};
use crate::broker::{Broker, StartError};
use crate::config::Config;
use flowstone_client::{Consumer, ReadFrom, Record, Ticket, TopicSettings};
use flowstone_processor::{Pipeline, builtin};
use flowstone_wire::Failure;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use telemetry::Telemetry;

const TOPIC: &str = "telemetry";
const WINDOWS: &str = "telemetry-windows";
const ALERTS: &str = "telemetry-alerts";
/// Samples a second.
const RATE: u64 = 50;
/// Alerts kept for the screen.
const ALERTS_SHOWN: usize = 6;
/// Header with the time of sending, in nanoseconds since the start.
const SENT: &str = "sent-ns";

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The pipeline cannot run.
    #[error(transparent)]
    Pipeline(#[from] Failure),
    /// A client of the broker failed.
    #[error(transparent)]
    Client(#[from] flowstone_client::Error),
    /// The operating system says no.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What was seen so far.
pub struct Seen {
    /// Since the start.
    pub seconds: f64,
    /// Records that were acknowledged as durable.
    pub records: u64,
    /// Windows that were closed.
    pub windows: u64,
    /// Values that were flagged.
    pub alerts: u64,
    /// Records that were acknowledged and are not in the topic, or not as they were sent. Counted at
    /// the end.
    pub lost: u64,
    /// The last window of each metric, as JSON.
    pub last_windows: BTreeMap<String, serde_json::Value>,
    /// The last alerts, newest first.
    pub last_alerts: VecDeque<serde_json::Value>,
    /// From the call of send until the pipeline saw the record.
    pub to_task: Arc<Mutex<Times>>,
    /// From the call of send until the record was on the disk.
    pub to_durable: Times,
    /// The machine's own `fdatasync` behind a 4 KiB write.
    pub raw_fdatasync: Times,
}

fn pipeline(start: Instant, to_task: &Arc<Mutex<Times>>) -> Result<Pipeline, Failure> {
    let seen = to_task.clone();
    let probe = builtin::filter(move |record: &flowstone_processor::Record<'_>| {
        let sent = record
            .headers
            .get(SENT)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_le_bytes);
        if let (Some(sent), Ok(mut times)) = (sent, seen.lock()) {
            note(
                &mut times,
                start.elapsed().saturating_sub(Duration::from_nanos(sent)),
            );
        }
        true
    });
    let window = builtin::Window {
        field: "value".into(),
        size_ms: 1000,
        allowed_lateness_ms: 0,
    };
    let zscore = builtin::Zscore {
        field: "value".into(),
        samples: 250,
        min_samples: 100,
        threshold: 6.0,
    };
    let mut builder = Pipeline::new("watch")?;
    builder.source(TOPIC);
    let all = builder.add(flowstone_processor::NodeRef::INPUT, "probe", probe);
    let windows = builder.add(all, "window", builtin::window(window)?);
    builder.sink(windows, WINDOWS);
    let alerts = builder.add(all, "zscore", builtin::zscore(zscore)?);
    builder.sink(alerts, ALERTS);
    builder.build()
}

/// A running demonstration.
pub struct Demo {
    start: Instant,
    broker: Broker,
    // Dropped behind the broker.
    _dir: tempfile::TempDir,
    seen: Seen,
}

impl Demo {
    /// Starts a broker in a temporary directory and deploys the pipeline. Opens no socket.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start() -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let mut config = Config::default();
        config.node.data = dir.path().join("data");
        config.node.native = String::new();
        config.node.http = String::new();
        let raw_fdatasync = raw::fdatasync(dir.path(), 4096, 500)?;
        let start = Instant::now();
        let to_task = Arc::new(Mutex::new(times()));
        let broker = Broker::start(config)?;
        let client = broker.client();
        broker
            .runtime()
            .block_on(client.create_topic(TOPIC, 1, TopicSettings::default()))?;
        broker.deploy(pipeline(start, &to_task)?)?;
        let seen = Seen {
            seconds: 0.0,
            records: 0,
            windows: 0,
            alerts: 0,
            lost: 0,
            last_windows: BTreeMap::new(),
            last_alerts: VecDeque::new(),
            to_task,
            to_durable: times(),
            raw_fdatasync,
        };
        Ok(Self {
            start,
            broker,
            _dir: dir,
            seen,
        })
    }

    /// Samples, sends and watches until `stop` says so; shows what was seen after every sample.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run(
        &mut self,
        mut stop: impl FnMut(Duration) -> bool,
        mut show: impl FnMut(&Seen),
    ) -> Result<(), Error> {
        let client = self.broker.client();
        let producer = client.producer(TOPIC).open().await?;
        let open = |topic| {
            client
                .consumer(topic)
                .from(ReadFrom::Start)
                .max_wait_ms(100)
                .open()
        };
        let (mut windows, mut alerts) = (open(WINDOWS).await?, open(ALERTS).await?);
        let mut telemetry = Telemetry::default();
        let mut sent: Vec<Vec<u8>> = Vec::new();
        let mut waiting: VecDeque<(Instant, Ticket)> = VecDeque::new();
        let mut ticker = tokio::time::interval(Duration::from_nanos(1_000_000_000 / RATE));
        while !stop(self.start.elapsed()) {
            tokio::select! {
                _ = ticker.tick() => {
                    for (metric, value) in telemetry.sample() {
                        let n = sent.len();
                        let body = format!("{{\"n\":{n},\"metric\":\"{metric}\",\"value\":{value:.3}}}");
                        let at = Instant::now();
                        let since = (at - self.start).as_nanos() as u64;
                        let since = since.to_le_bytes();
                        let record = Record::new(&body).key(&metric).header(SENT, &since);
                        waiting.push_back((at, producer.enqueue(record).await?));
                        sent.push(body.into_bytes());
                    }
                    show(&self.seen);
                }
                done = async { match waiting.front() {
                    Some((_, ticket)) => ticket.clone().wait().await,
                    None => std::future::pending().await,
                }} => {
                    done?;
                    if let Some((at, _)) = waiting.pop_front() {
                        note(&mut self.seen.to_durable, at.elapsed());
                        self.seen.records += 1;
                    }
                }
                batch = windows.next_batch() => self.seen.take_windows(&batch?),
                batch = alerts.next_batch() => self.seen.take_alerts(&batch?),
            }
            self.seen.seconds = self.start.elapsed().as_secs_f64();
        }
        for (at, ticket) in waiting {
            ticket.wait().await?;
            note(&mut self.seen.to_durable, at.elapsed());
            self.seen.records += 1;
        }
        let topic = client.consumer(TOPIC).from(ReadFrom::Start).open().await?;
        self.seen.lost = count_lost(topic, &sent).await?;
        Ok(())
    }

    /// What was seen.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The runtime to run it on.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.broker.runtime().clone()
    }
}

/// Reads the topic back and holds it against what was sent: in order, each once.
async fn count_lost(mut topic: Consumer, sent: &[Vec<u8>]) -> Result<u64, Error> {
    let (mut lost, mut next) = (0, 0);
    while next < sent.len() {
        let batch = topic.next_batch().await?;
        if batch.is_empty() {
            // Everything was acknowledged: what is not there now is not there.
            return Ok(lost + (sent.len() - next) as u64);
        }
        for record in &batch {
            let same = sent.get(next).map(Vec::as_slice) == record.value;
            lost += u64::from(!same);
            next += 1;
        }
    }
    Ok(lost)
}

impl Seen {
    fn take_windows(&mut self, batch: &flowstone_client::Records) {
        for record in batch {
            let value = record.value.and_then(|v| serde_json::from_slice(v).ok());
            let Some(window): Option<serde_json::Value> = value else {
                continue;
            };
            self.windows += 1;
            let key = window["key"].as_str().unwrap_or("-").to_string();
            self.last_windows.insert(key, window);
        }
    }

    fn take_alerts(&mut self, batch: &flowstone_client::Records) {
        for record in batch {
            let value = record.value.and_then(|v| serde_json::from_slice(v).ok());
            let Some(alert): Option<serde_json::Value> = value else {
                continue;
            };
            self.alerts += 1;
            self.last_alerts.push_front(alert);
            self.last_alerts.truncate(ALERTS_SHOWN);
        }
    }

    /// The summary, as one JSON object.
    pub fn summary(&self) -> serde_json::Value {
        let quantiles = |t: &Times| {
            use crate::bench::us;
            serde_json::json!({ "p50": us(t, 0.5), "p99": us(t, 0.99), "p999": us(t, 0.999) })
        };
        let to_task = self.to_task.lock().map_or_else(|_| times(), |t| t.clone());
        serde_json::json!({
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "records": self.records,
            "windows": self.windows,
            "alerts": self.alerts,
            "append_to_task_us": quantiles(&to_task),
            "append_to_durable_us": quantiles(&self.to_durable),
            "raw_fdatasync_us": quantiles(&self.raw_fdatasync),
            "lost": self.lost,
        })
    }
}
