//! `flowstone sql`: a query, asked once.

mod print;

use super::connect::{Connect, block_on};
use super::{Failed, Outcome, statements};
use flowstone_client::{Client, Query, QueryKind, QueryStatistics};
use print::Printer;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The query: SELECT ..., SELECT ... EMIT CHANGES, or INFER SCHEMA FOR topic; CREATE STREAM may
    /// stand before it.
    #[arg(required_unless_present = "file")]
    query: Option<String>,
    /// A file with the query; `-` for standard input.
    #[arg(long, conflicts_with = "query")]
    file: Option<PathBuf>,
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Where a query with EMIT begins.
    #[arg(long, value_enum, default_value_t)]
    from: Begin,
    #[command(flatten)]
    connect: Connect,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Columns side by side.
    #[default]
    Table,
    /// A JSON object a line.
    Json,
    /// Comma-separated values, with names in the first line.
    Csv,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Begin {
    /// With what is there.
    Start,
    /// With what comes.
    #[default]
    End,
}

pub(super) fn run(args: Args) -> Outcome {
    let text = match (args.query, args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => statements::read(&file)?,
        (None, None) => return Err(Failed::new(2, "there is no query")),
    };
    block_on(async {
        let client = args.connect.client().await?;
        ask(&client, &text, args.from == Begin::Start, args.output).await
    })
}

async fn ask(client: &Client, text: &str, from_start: bool, output: Output) -> Outcome {
    let mut query = client.query(text, from_start).await?;
    let mut printer = Printer::new(output, query.kind(), query.columns());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let printed = tokio::select! {
        printed = print_all(&mut query, &mut printer, &mut out) => printed.map(|()| true),
        // Whoever waits no longer ends the query as well.
        _ = tokio::signal::ctrl_c() => Ok(false),
    };
    let (kind, statistics) = (query.kind(), query.statistics().clone());
    match printed {
        // It has ended by itself.
        Ok(true) => {}
        Ok(false) => query.stop().await?,
        Err(failed) => {
            // The failure to print is what matters.
            let _ = query.stop().await;
            return Err(failed);
        }
    }
    tell(kind, output, &statistics);
    Ok(())
}

async fn print_all(query: &mut Query, printer: &mut Printer, out: &mut impl Write) -> Outcome {
    while let Some(lines) = query.next().await? {
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            printer.row(line, out)?;
        }
        if query.kind() == QueryKind::Changes {
            printer.flush(out)?;
            out.flush()?;
        }
    }
    printer.flush(out)?;
    Ok(out.flush()?)
}

/// What is to be known beside the rows goes to standard error.
fn tell(kind: QueryKind, output: Output, statistics: &QueryStatistics) {
    let QueryStatistics {
        rows,
        records_read,
        unreadable,
        first_unreadable,
        late,
        expired,
        ..
    } = statistics;
    if output == Output::Table && kind == QueryKind::Rows {
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        let (rs, records) = (plural(*rows), plural(*records_read));
        eprintln!("({rows} row{rs} of {records_read} record{records} read)");
    }
    if *unreadable > 0 {
        let first = first_unreadable.as_deref().unwrap_or_default();
        eprintln!(
            "flowstone: {unreadable} record(s) left out, they cannot be read as rows; {first}"
        );
    }
    if *expired > 0 {
        eprintln!("flowstone: {expired} offsets had expired when they were to be read");
    }
    if *late > 0 {
        eprintln!("flowstone: {late} record(s) left out, their window was closed when they came");
    }
}
