//! A query at work: the stage of a pipeline.

use crate::exchanged::Exchanged;
use crate::flow::{Down, Flow, Node, reject};
use crate::format::{Decoded, Decoder};
use crate::operator::exchange;
use crate::operator::{Operator, Sink, prefix};
use crate::pipeline::OutputFormat;
use crate::plan::{Scan, Translated};
use crate::rows::{Change, Marks, Rows};
use crate::spread::Edge;
use crate::stream::Stream;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use flowstone_processor::{
    Bulk, BulkProcessor, BulkRecord, Cause, Context, Part, ProcessError, Reading, TaskTime, Timer,
};
use std::sync::Arc;

/// The operators of a query, and how the records of its streams are read.
#[derive(Clone)]
pub(crate) struct Program {
    nodes: Vec<Node>,
    scans: Vec<Scan>,
    /// One for each source.
    decoders: Vec<Decoder>,
    /// What was read last, for each source.
    decoded: Vec<Arc<Decoded>>,
    /// Why it could not be read as a whole.
    fault: Option<ProcessError>,
    /// What it reads in place of streams, if it is the second part of a query.
    exchanged: Option<Exchanged>,
}

impl Program {
    pub(crate) fn new(translated: Translated, streams: &[Stream], format: OutputFormat) -> Self {
        let Translated {
            mut nodes,
            mut scans,
            ..
        } = translated;
        let with_state = nodes.iter_mut().filter(|n| !n.operator.is_alone());
        with_state.enumerate().for_each(|(id, n)| n.id = id);
        let last = nodes.len();
        if let Some(root) = nodes.last_mut() {
            root.next = Some(last);
        }
        nodes.push(Node::new(Operator::Sink(Sink::new(format)), None));
        let mut used: Vec<usize> = scans.iter().map(|s| s.stream).collect();
        used.sort_unstable();
        used.dedup();
        // Tables are read before streams, and their rows are dealt with before those of streams.
        used.sort_by_key(|s| !streams[*s].is_table());
        scans.sort_by_key(|s| !streams[s.stream].is_table());
        let decoder = |stream: &usize| {
            let scans = scans.iter().filter(|s| s.stream == *stream);
            let columns: Vec<usize> = scans.flat_map(|s| s.columns.clone()).collect();
            Decoder::new(&streams[*stream], &columns)
        };
        let decoders: Vec<Decoder> = used.iter().map(decoder).collect();
        for scan in &mut scans {
            // From here on: the number of the source.
            let source = used.iter().position(|s| *s == scan.stream);
            scan.stream = source.unwrap_or_default();
        }
        Self {
            nodes,
            scans,
            decoders,
            decoded: Vec::new(),
            fault: None,
            exchanged: None,
        }
    }

    /// The part of it that is in front of these edges.
    pub(crate) fn front(&self, edges: &[Edge]) -> Self {
        let mut front = self.clone();
        for edge in edges {
            let number = front.nodes.len();
            front.nodes[edge.from].next = Some(number);
            front.nodes[edge.from].port = 0;
            let exchange = Operator::Exchange(edge.exchange.clone());
            front.nodes.push(Node::new(exchange, None));
        }
        front
    }

    /// The part of it that is behind these edges.
    pub(crate) fn back(&self, edges: &[Edge]) -> Self {
        let entries = edges.iter().map(|e| e.entry.clone());
        let mut back = self.clone();
        back.exchanged = Some(Exchanged::new(entries.collect()));
        (back.scans, back.decoders) = (Vec::new(), Vec::new());
        back
    }

    /// Gives rows that came out of an exchange to the operators that they go on at.
    fn go_on(&mut self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let Some(exchanged) = &mut self.exchanged else {
            return Ok(());
        };
        let (pieces, keys) = exchanged.take(bulk);
        for (entry, rows) in pieces {
            let mut flow = Flow {
                cause: ctx.cause(),
                ctx: &mut *ctx,
                bulk: Some(*bulk),
                keys: Some(&keys),
                late: None,
            };
            Down::at(&mut self.nodes, (entry.node, entry.port)).push(rows, &mut flow)?;
        }
        Ok(())
    }

    /// What was read last does not count.
    pub(crate) fn fail(&mut self, fault: ProcessError) {
        self.fault = Some(fault);
    }

    /// The streams that are read, by source.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.decoders.iter().map(Decoder::stream)
    }

    fn kind(&self, number: usize) -> &'static str {
        match self.scans.iter().any(|s| s.node == number) {
            true => "stream",
            false => self.nodes[number].operator.kind(),
        }
    }

    /// The operators that rows come in at.
    fn entries(&self) -> impl Iterator<Item = usize> {
        let behind = self.exchanged.iter().flat_map(Exchanged::nodes);
        self.scans.iter().map(|s| s.node).chain(behind)
    }

    /// Which operators rows can come to: a part of a query has those of the other part, too.
    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        for entry in self.entries() {
            let mut at = Some(entry);
            while let Some(number) = at.filter(|n| !std::mem::replace(&mut reached[*n], true)) {
                at = self.nodes[number].next;
            }
        }
        reached
    }

    /// Records that cannot be read fail in what reads them first.
    fn count_unreadable(&self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) {
        let unreadable = bulk
            .records
            .iter()
            .zip(bulk.readable)
            .filter(|(_, ok)| !**ok);
        for (record, _) in unreadable {
            let of_source = |s: &&Scan| s.stream == usize::from(record.source);
            let scan = self.scans.iter().find(of_source).map(|s| s.node);
            if let Some(part) = scan.or_else(|| self.entries().next()) {
                ctx.refuse(part);
            }
        }
    }

    /// The rows of one scan.
    fn rows(&self, scan: &Scan, bulk: &Bulk<'_>) -> Result<Rows, ProcessError> {
        let (decoder, decoded) = (&self.decoders[scan.stream], &self.decoded[scan.stream]);
        let place = |c: &usize| decoder.place(*c);
        let columns = scan
            .columns
            .iter()
            .filter_map(place)
            .map(|p| decoded.batch.column(p).clone());
        let options = RecordBatchOptions::new().with_row_count(Some(decoded.causes.len()));
        let batch =
            RecordBatch::try_new_with_options(scan.schema.clone(), columns.collect(), &options);
        let watermark = |row: &u32| bulk.watermarks[*row as usize];
        let marks = Marks {
            times_ms: decoded.times_ms.clone(),
            watermarks_ms: decoded.causes.iter().map(watermark).collect(),
            causes: decoded.causes.clone(),
            groups: Vec::new(),
            keys: None,
        };
        Ok(Rows {
            batch: batch.map_err(reject)?,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        })
    }
}

impl BulkProcessor for Program {
    fn read(&mut self, records: &[BulkRecord<'_>]) -> Vec<Result<Reading, String>> {
        self.fault = None;
        if let Some(exchanged) = &mut self.exchanged {
            return exchanged.read(records).unwrap_or_else(|error| {
                self.fault = Some(error);
                vec![Ok(Reading::default()); records.len()]
            });
        }
        let mut readings = vec![Ok(Reading::default()); records.len()];
        self.decoded.clear();
        for (source, decoder) in self.decoders.iter().enumerate() {
            match decoder.decode(source as u16, records, &mut readings) {
                Ok(decoded) => self.decoded.push(Arc::new(decoded)),
                Err(error) => self.fault = Some(reject(error)),
            }
        }
        readings
    }

    fn process(&mut self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        if let Some(fault) = self.fault.take() {
            self.entries().next().map(|entry| ctx.enter(entry, 0));
            return Err(fault);
        }
        self.count_unreadable(bulk, ctx);
        self.go_on(bulk, ctx)?;
        for number in 0..self.scans.len() {
            let rows = self.rows(&self.scans[number], bulk)?;
            if rows.len() == 0 {
                continue;
            }
            let cause = ctx.cause();
            let mut flow = Flow {
                ctx: &mut *ctx,
                bulk: Some(*bulk),
                cause,
                keys: None,
                late: None,
            };
            Down::all(&mut self.nodes, self.scans[number].node).push(rows, &mut flow)?;
        }
        Ok(())
    }

    fn tell_time(&mut self, time: TaskTime, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        exchange::tell_time(time, ctx);
        Ok(())
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let Some((number, key)) = timer.key.split_first() else {
            return Err(reject("a timer has no operator"));
        };
        let cause = Cause {
            rekeyed: true,
            ..ctx.cause()
        };
        let mut flow = Flow {
            ctx,
            bulk: None,
            cause,
            keys: None,
            late: None,
        };
        let id = usize::from(*number);
        let is_it = |n: &Node| !n.operator.is_alone() && n.id == id;
        let Some(number) = self.nodes.iter().position(is_it) else {
            return Err(reject(
                "a timer is of an operator that the plan does not have",
            ));
        };
        // No unit does more than one timer: nobody is at work behind it.
        flow.ctx.enter(number, 0);
        match Down::all(&mut self.nodes, number).split() {
            Some((id, operator, mut down)) => {
                operator.on_timer(id, timer.at_ms, key, &mut flow, &mut down)
            }
            None => Ok(()),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let reached = self.reached();
        let part = |(number, node): (usize, &Node)| Part {
            name: format!("{number} {}", self.kind(number)),
            number,
            keys: (!node.operator.is_alone()).then(|| prefix(node.id)),
        };
        let parts = self.nodes.iter().enumerate();
        parts.filter(|(n, _)| reached[*n]).map(part).collect()
    }

    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        // What the window held is told by its keys; it is gone, so that time can go on.
        let keys: Vec<Vec<u8>> = ctx
            .scan(&timer.key)
            .take(REJECTED_MAX)
            .map(|(k, _)| k.to_vec())
            .collect();
        keys.iter().for_each(|key| ctx.delete(key));
        None
    }
}

/// Most groups that are forgotten when the closing of a window fails for good; the rest stays
/// stored, unused.
const REJECTED_MAX: usize = 4096;
