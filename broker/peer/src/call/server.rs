//! Answering a peer.

use super::CallFailure;
use super::frame::{AnswerHead, RequestHead, Status};
use crate::endpoint::connection::Wire;
use crate::limits::{
    CALL_BYTES_MAX, CALL_ERROR_BYTES_MAX, CALLS_HELD_BYTES, URGENT_HELD_BYTES, URGENT_KINDS,
};
use crate::stream::{Reader, StreamError};
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of requests of one connection that may be under way.
#[derive(Debug)]
pub(crate) struct Budget {
    urgent: Semaphore,
    others: Semaphore,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            urgent: Semaphore::new(URGENT_HELD_BYTES),
            others: Semaphore::new(CALLS_HELD_BYTES),
        }
    }

    fn take(&self, head: &RequestHead) -> Option<SemaphorePermit<'_>> {
        let budget = if head.kind < URGENT_KINDS {
            &self.urgent
        } else {
            &self.others
        };
        budget.try_acquire_many(head.size).ok()
    }
}

/// Answers one call.
pub(crate) async fn serve(
    wire: &Wire,
    send: quinn::SendStream,
    mut reader: Reader,
) -> Result<(), StreamError> {
    let head = reader.head().await?.ok_or(StreamError::Cut)?;
    let head = RequestHead::decode(&head).map_err(StreamError::Peer)?;
    wire.peer.counters.calls.fetch_add(1, Relaxed);
    let _ = send.set_priority(i32::from(head.kind < URGENT_KINDS) * 2);
    let handler = wire.shared.table().handlers.get(&head.kind).cloned();
    let Some(handler) = handler else {
        reader.stop();
        return tell(send, Status::NoHandler, Bytes::new()).await;
    };
    // Held until the answer is sent.
    let Some(_permit) = wire.calls.take(&head) else {
        wire.peer.counters.busy_calls.fetch_add(1, Relaxed);
        reader.stop();
        return tell(send, Status::Busy, Bytes::new()).await;
    };
    let within = Duration::from_millis(u64::from(head.within_ms));
    let request = reader.take(head.size as usize).await?;
    let answered = tokio::select! {
        answered = handler.call(wire.peer.node, request, within) => answered,
        () = gone(&send) => return Ok(()),
        // The clock of the caller may be a little behind: it is to be told the same.
        () = tokio::time::sleep(within) => return tell(send, Status::Late, Bytes::new()).await,
    };
    match answered {
        Ok(answer) if answer.len() <= CALL_BYTES_MAX => tell(send, Status::Answered, answer).await,
        Ok(answer) => {
            let text = format!("an answer of {} bytes does not fit a call", answer.len());
            tell(send, Status::Refused, text.into()).await
        }
        Err(CallFailure(text)) => tell(send, Status::Refused, shortened(text)).await,
    }
}

/// Until the caller does not want the answer any more.
async fn gone(send: &quinn::SendStream) {
    let _ = send.stopped().await;
}

fn shortened(text: String) -> Bytes {
    let mut bytes = text.into_bytes();
    bytes.truncate(CALL_ERROR_BYTES_MAX);
    bytes.into()
}

async fn tell(mut send: quinn::SendStream, status: Status, body: Bytes) -> Result<(), StreamError> {
    let size = body.len() as u32;
    let head = AnswerHead { status, size }.encode();
    let mut chunks = [Bytes::copy_from_slice(&head), body];
    // A caller that has gone away needs no answer.
    if send.write_all_chunks(&mut chunks).await.is_ok() {
        let _ = send.finish();
    }
    Ok(())
}
