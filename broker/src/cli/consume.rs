//! `flowstone consume`: prints records.

use super::connect::{Connect, block_on};
use super::format::Format;
use super::{Failed, Outcome};
use crate::http::parse_place;
use flowstone_client::{Client, Consumer, Offset, Place, ReadFrom};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: String,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
    /// Where to begin: start, end, an offset, or @ and a time (@2026-01-31T12:00:00Z, @1767225600000).
    #[arg(long, default_value = "start")]
    from: String,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Go on when the end is reached.
    #[arg(long)]
    follow: bool,
    /// Begin where this group has stopped, and note where this ends.
    #[arg(long)]
    group: Option<String>,
    /// value, json, or text with %p %o %t %k %v %h, as in '%p %o %k %v\n'.
    #[arg(long, default_value = "value")]
    format: Format,
    /// The same as --format json.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args) -> Outcome {
    block_on(async {
        let client = args.connect.client().await?;
        let mut consumer = open(&client, &args).await?;
        // Without --follow it ends where the topic ended when it began.
        let ends = ends(&client, &args, &consumer).await?;
        let printed = print_all(&mut consumer, &args, ends).await;
        if args.group.is_some() {
            consumer.commit().await?;
        }
        printed
    })
}

async fn open(client: &Client, args: &Args) -> Result<Consumer, Failed> {
    let place = parse_place(&args.from).map_err(|p| Failed::new(2, p.0.message))?;
    let from = match place {
        Ok(offset) => ReadFrom::Offset(offset),
        Err(Place::Start) => ReadFrom::Start,
        Err(Place::End) => ReadFrom::End,
        Err(Place::Time(ms)) => ReadFrom::Time(ms),
    };
    let mut builder = client.consumer(&args.topic).from(from);
    if let Some(partition) = args.partition {
        builder = builder.partitions([partition]);
    }
    if let Some(group) = &args.group {
        builder = builder.group(group);
    }
    Ok(builder.open().await?)
}

async fn ends(
    client: &Client,
    args: &Args,
    consumer: &Consumer,
) -> Result<Option<BTreeMap<u32, Offset>>, Failed> {
    if args.follow {
        return Ok(None);
    }
    let mut ends = BTreeMap::new();
    for index in consumer.partitions() {
        ends.insert(
            index,
            client.offset_of(&args.topic, index, Place::End).await?,
        );
    }
    Ok(Some(ends))
}

fn at_end(consumer: &Consumer, ends: Option<&BTreeMap<u32, Offset>>) -> Result<bool, Failed> {
    let Some(ends) = ends else { return Ok(false) };
    for (index, end) in ends {
        if consumer.position(*index)? < *end {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn print_all(
    consumer: &mut Consumer,
    args: &Args,
    ends: Option<BTreeMap<u32, Offset>>,
) -> Outcome {
    let format = if args.json {
        &Format::Json
    } else {
        &args.format
    };
    let mut out = BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
    let mut left = args.max.unwrap_or(u64::MAX);
    while left > 0 && !at_end(consumer, ends.as_ref())? {
        let records = consumer.next_batch().await?;
        let index = records.partition();
        for r in &records {
            if left == 0 {
                // The group goes on with the first record that was not printed.
                consumer.seek(index, r.offset)?;
                break;
            }
            format.print(&mut out, index, &r)?;
            left -= 1;
        }
        if args.follow {
            out.flush()?;
        }
    }
    Ok(out.flush()?)
}
