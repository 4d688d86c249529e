//! `flowstone produce`: a record a line, from a file or standard input.

use super::connect::{Connect, block_on};
use super::{Failed, Outcome};
use clap::ValueEnum;
use flowstone_client::{Acks, Producer, Record, Ticket};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::time::{Duration, Instant};

/// Records sent and not acknowledged, at most.
const UNACKNOWLEDGED_MAX: usize = 100_000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: String,
    /// The file; - for standard input.
    #[arg(default_value = "-")]
    file: String,
    /// Field of a JSON line that becomes the key.
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,
    /// The partition; without it by key, or in turn.
    #[arg(long)]
    partition: Option<u32>,
    /// When a record counts as sent.
    #[arg(long, value_enum, default_value_t = AckLevel::Durable)]
    acks: AckLevel,
    /// At most so many records per second.
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Print a JSON summary.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

/// When a record counts as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AckLevel {
    /// When the broker has it; it may be lost.
    None,
    /// When it survives the end of the broker's process.
    Written,
    /// When it survives a power cut.
    Durable,
}

impl AckLevel {
    pub(super) fn acks(self) -> Acks {
        match self {
            Self::None => Acks::None,
            Self::Written => Acks::Written,
            Self::Durable => Acks::Durable,
        }
    }
}

pub(super) fn run(args: Args) -> Outcome {
    let (input, length): (Box<dyn BufRead>, Option<u64>) = if args.file == "-" {
        (Box::new(BufReader::new(std::io::stdin())), None)
    } else {
        let file = File::open(&args.file)
            .map_err(|e| Failed::new(1, format!("cannot read '{}': {e}", args.file)))?;
        let length = file
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|m| m.len());
        (Box::new(BufReader::with_capacity(256 << 10, file)), length)
    };
    block_on(async {
        let client = args.connect.client().await?;
        let producer = client
            .producer(&args.topic)
            .acks(args.acks.acks())
            .open()
            .await?;
        let start = Instant::now();
        let mut sender = Sender {
            args: &args,
            producer,
            waiting: VecDeque::new(),
            records: 0,
            bytes: 0,
        };
        sender.send_all(input, progress(length)).await?;
        let seconds = start.elapsed().as_secs_f64();
        let (records, bytes) = (sender.records, sender.bytes);
        if args.json {
            let summary = serde_json::json!({
                "topic": args.topic, "records": records, "bytes": bytes, "seconds": seconds,
            });
            println!("{summary}");
        } else {
            let rate = records as f64 / seconds.max(1e-9);
            eprintln!("{records} records, {bytes} bytes in {seconds:.2} s ({rate:.0} records/s)");
        }
        Ok(())
    })
}

/// A progress bar for a file, where somebody looks.
fn progress(length: Option<u64>) -> ProgressBar {
    let Some(length) = length.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    ProgressBar::new(length).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

struct Sender<'a> {
    args: &'a Args,
    producer: Producer,
    waiting: VecDeque<Ticket>,
    records: u64,
    bytes: u64,
}

impl Sender<'_> {
    async fn send_all(&mut self, mut input: Box<dyn BufRead>, bar: ProgressBar) -> Outcome {
        let mut line = Vec::new();
        let start = Instant::now();
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            bar.inc(read as u64);
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if let Some(rate) = self.args.rate.filter(|r| *r > 0) {
                let due = start + Duration::from_secs_f64(self.records as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
            }
            self.send(&line).await?;
        }
        bar.finish_and_clear();
        self.producer.flush().await?;
        while let Some(ticket) = self.waiting.pop_front() {
            ticket.wait().await?;
        }
        Ok(())
    }

    async fn send(&mut self, line: &[u8]) -> Outcome {
        let key = match &self.args.key_field {
            Some(field) => Some(self.key_of(line, field)?),
            None => None,
        };
        let mut record = Record::new(line);
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(partition) = self.args.partition {
            record = record.partition(partition);
        }
        self.waiting.push_back(self.producer.enqueue(record).await?);
        self.records += 1;
        self.bytes += line.len() as u64;
        // The first failure ends it, however long the input is.
        while self.waiting.len() > UNACKNOWLEDGED_MAX
            || self.waiting.front().is_some_and(|t| t.try_wait().is_some())
        {
            if let Some(ticket) = self.waiting.pop_front() {
                ticket.wait().await?;
            }
        }
        Ok(())
    }

    fn key_of(&self, line: &[u8], field: &str) -> Result<Vec<u8>, Failed> {
        let bad =
            |why: &str| Failed::new(1, format!("line {} has no key: {why}", self.records + 1));
        let value: serde_json::Value =
            serde_json::from_slice(line).map_err(|e| bad(&format!("it is not JSON: {e}")))?;
        match value.get(field) {
            None | Some(serde_json::Value::Null) => {
                Err(bad(&format!("field '{field}' is not there")))
            }
            Some(serde_json::Value::String(text)) => Ok(text.clone().into_bytes()),
            Some(other) => Ok(other.to_string().into_bytes()),
        }
    }
}
