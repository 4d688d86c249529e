//! Dead letters: what failed for good, as it came, with the reason in headers.

use crate::output::{Draft, Outputs, header_cost};
use crate::pipeline::{Plan, SinkRef};
use crate::processor::Timer;
use crate::record::Headers;
use crate::unit::Fault;
use flowstone_wire::{Header, Offset, PartitionId, RecordView, limits};

/// Longest reason in a header, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// What a dead letter says beside the record or timer.
pub(super) struct DeadLetter<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fault: &'a Fault,
    /// Attempts made.
    pub(super) attempts: u32,
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
}

impl DeadLetter<'_> {
    /// Writes the letter of a record.
    pub(super) fn push_record(&self, outputs: &mut Outputs, view: &RecordView<'_>) {
        let notes = self.notes();
        let draft = self.draft(view.timestamp, view.key, view.value);
        self.push(outputs, draft, view.into(), notes);
    }

    /// Writes the letter of a timer, with the value that its stage has given.
    pub(super) fn push_timer(
        &self,
        outputs: &mut Outputs,
        timer: &Timer,
        value: Option<Vec<u8>>,
        now_ms: i64,
    ) {
        let mut notes = self.notes();
        let due = format!("{} {}", timer.kind.name(), timer.at_ms);
        notes.push(("x-dlq-timer", due));
        let draft = self.draft(
            now_ms,
            Some(&timer.key),
            Some(value.as_deref().unwrap_or_default()),
        );
        self.push(outputs, draft, Headers::NONE, notes);
    }

    fn draft<'d>(
        &self,
        timestamp: i64,
        key: Option<&'d [u8]>,
        value: Option<&'d [u8]>,
    ) -> Draft<'d> {
        Draft {
            sink: SinkRef::DLQ,
            partition: self.partition,
            key_changed: false,
            timestamp,
            key,
            value,
            headers: Headers::NONE,
        }
    }

    fn notes(&self) -> Vec<(&'static str, String)> {
        let stage = match self.fault.node {
            Some(node) => &self.plan.nodes[usize::from(node)].name,
            None => "event-time",
        };
        vec![
            ("x-dlq-pipeline", self.plan.name.clone()),
            ("x-dlq-stage", stage.into()),
            ("x-dlq-reason", cut(self.fault.error.reason()).into()),
            ("x-dlq-partition", self.partition.to_string()),
            ("x-dlq-offset", self.offset.to_string()),
            ("x-dlq-attempts", self.attempts.to_string()),
        ]
    }

    /// Writes the record with as many of its own headers as there is room for beside the notes. The
    /// original stays where it was read, so nothing is lost if something must be left out.
    fn push(
        &self,
        outputs: &mut Outputs,
        draft: Draft<'_>,
        original: Headers<'_>,
        mut notes: Vec<(&'static str, String)>,
    ) {
        let kept = fitting(original, &notes);
        let left_out = original.iter().count() - kept;
        if left_out > 0 {
            notes.push(("x-dlq-left-out", format!("{left_out} headers")));
        }
        let mut headers: Vec<Header<'_>> = original.iter().take(kept).collect();
        headers.extend(as_headers(&notes));
        let whole = Draft {
            headers: (&headers).into(),
            ..draft
        };
        if outputs.push(&whole).is_err() {
            notes.push(("x-dlq-left-out", "key, value and headers".into()));
            let headers: Vec<Header<'_>> = as_headers(&notes).collect();
            let empty = Draft {
                key: None,
                value: Some(&[]),
                headers: (&headers).into(),
                ..draft
            };
            outputs
                .push(&empty)
                .expect("notes alone are within the limits of a record");
        }
    }
}

fn as_headers<'n>(notes: &'n [(&'static str, String)]) -> impl Iterator<Item = Header<'n>> {
    notes.iter().map(|(name, value)| Header {
        name: name.as_bytes(),
        value: Some(value.as_bytes()),
    })
}

/// How many of the `original` headers fit beside the notes and one more note.
fn fitting(original: Headers<'_>, notes: &[(&'static str, String)]) -> usize {
    const ONE_MORE_BYTES: usize = 64;
    let notes_bytes: usize = as_headers(notes).map(|h| header_cost(&h)).sum();
    let mut room_bytes = limits::RECORD_HEADER_BYTES_MAX - notes_bytes - ONE_MORE_BYTES;
    original
        .iter()
        .take(limits::RECORD_HEADERS_MAX - notes.len() - 1)
        .take_while(|header| {
            let cost_bytes = header_cost(header);
            let fits = cost_bytes <= room_bytes;
            room_bytes = room_bytes.saturating_sub(cost_bytes);
            fits
        })
        .count()
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

const _: () =
    assert!(REASON_BYTES_MAX + 3 * limits::NAME_BYTES_MAX + 1024 < limits::RECORD_HEADER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = format!("x{}", "\u{fc}".repeat(REASON_BYTES_MAX));
        assert_eq!(cut(&long).len(), REASON_BYTES_MAX - 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn own_headers_are_kept_as_far_as_there_is_room() {
        let notes = vec![("n", String::from("v")); 6];
        let many = vec![
            Header {
                name: b"h",
                value: None
            };
            limits::RECORD_HEADERS_MAX
        ];
        let kept = fitting((&many).into(), &notes);
        assert_eq!(kept, limits::RECORD_HEADERS_MAX - 7);
        let large = vec![0u8; limits::RECORD_HEADER_BYTES_MAX - 100];
        let one = [Header {
            name: b"h",
            value: Some(&large),
        }];
        assert_eq!(fitting((&one).into(), &notes), 0);
    }
}
