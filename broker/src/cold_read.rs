//! Reads of settled segments: what a reader wants of one, and what it is answered.

use crate::effects::Done;
use flowstone_core::{Output, Reply, Ticket};
use flowstone_storage::Error;
use flowstone_storage::settled::{SettledReader, Source};
use flowstone_wire::native::FetchAnswer;
use flowstone_wire::{ErrorCode, Failure, Offset};
use std::io::ErrorKind;

/// Bytes a task is given from a settled segment at once.
const TASK_READ_BYTES: usize = 1 << 20;

/// A read of a settled segment.
#[derive(Debug)]
pub(crate) struct ColdRead {
    /// Where from.
    pub(crate) source: Source,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Batches {
        ticket: Ticket,
        offset: Offset,
        max_bytes: u32,
        bounds: FetchAnswer,
    },
    Time {
        ticket: Ticket,
        timestamp: i64,
    },
    ForTask {
        id: u32,
        offset: Offset,
    },
}

/// An output, or the read that it asks for.
pub(crate) enum Sorted {
    Read(ColdRead),
    Other(Output),
}

impl ColdRead {
    /// The read that an output asks for, if it does.
    pub(crate) fn of(output: Output) -> Sorted {
        let (source, wanted) = match output {
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => {
                let wanted = Wanted::Batches {
                    ticket,
                    offset,
                    max_bytes,
                    bounds,
                };
                (segment, wanted)
            }
            Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            } => (segment, Wanted::Time { ticket, timestamp }),
            Output::ReadForTask {
                id,
                segment,
                offset,
            } => (segment, Wanted::ForTask { id, offset }),
            other => return Sorted::Other(other),
        };
        Sorted::Read(Self { source, wanted })
    }

    /// Reads. Waits for the disk, or for the tier.
    pub(crate) fn run(self, reader: Result<&SettledReader, Error>) -> Done {
        let (ticket, result) = match &self.wanted {
            Wanted::Batches {
                ticket,
                offset,
                max_bytes,
                bounds,
            } => {
                let read = reader.and_then(|r| r.read(*offset, *max_bytes as usize));
                let read = read.map(|(slices, _)| Reply::Fetched(*bounds, slices));
                (*ticket, read)
            }
            Wanted::Time { ticket, timestamp } => {
                let find = |r: &SettledReader| {
                    Ok(r.find_time(*timestamp)?.unwrap_or(r.meta().next_offset))
                };
                (*ticket, reader.and_then(find).map(Reply::Found))
            }
            Wanted::ForTask { id, offset } => {
                let read = reader.and_then(|r| r.read(*offset, TASK_READ_BYTES));
                return Done::TaskBatches {
                    id: *id,
                    partition: self.source.id.partition,
                    result: read.map(|(slices, _)| slices).map_err(|e| e.to_string()),
                };
            }
        };
        match result {
            Err(e) if e.is_gone() => {
                let (read, why) = (Box::new(self.into_output()), e.to_string());
                Done::ReadGone { read, why }
            }
            result => reply(ticket, result),
        }
    }

    fn into_output(self) -> Output {
        let segment = self.source;
        match self.wanted {
            Wanted::Batches {
                ticket,
                offset,
                max_bytes,
                bounds,
            } => Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            },
            Wanted::Time { ticket, timestamp } => Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            },
            Wanted::ForTask { id, offset } => Output::ReadForTask {
                id,
                segment,
                offset,
            },
        }
    }
}

fn reply(ticket: Ticket, result: Result<Reply, Error>) -> Done {
    let result = result.map_err(|e| Failure::new(code_of(&e), e.to_string()));
    Done::Reply { ticket, result }
}

/// What is wrong with the bytes stays; what is wrong with the way to them may pass.
fn code_of(error: &Error) -> ErrorCode {
    if error.is_unreachable() {
        ErrorCode::TierUnavailable
    } else {
        ErrorCode::Damaged
    }
}

/// Why nothing can be read from the tier of a node that has none.
pub(crate) fn no_tier() -> Error {
    let what = "these records are in the tier only, and the settings have no [tier]";
    Error::Io {
        action: "read",
        path: "tier".into(),
        source: std::io::Error::new(ErrorKind::NotConnected, what),
    }
}
