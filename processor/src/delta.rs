//! What a step changed: the outputs to append, and the changes to replay.

use crate::bulk::TaskTime;
use crate::inputs::Writer;
use crate::output::Outputs;
use crate::pipeline::StageId;
use crate::processor::TimeKind;
use crate::timers::Origin;
use crate::unit::EventClock;
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The first byte of an encoded [`DeltaState`]. A change of the layout takes another number.
const FORMAT: u8 = 2;
/// The layout before: without what is behind the timers.
const FORMAT_FIRST: u8 = 1;

/// What one step gives out; all of it counts, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The records for the sinks.
    pub outputs: Outputs,
    /// The changes of the task, for [`crate::Task::apply`].
    pub state: DeltaState,
}

/// The changes of a task in one step; only what changed.
///
/// Not self-describing: read it with the format that wrote it ([`Self::encode`] and
/// [`Self::decode`], or postcard).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaState {
    pub(crate) inputs: Vec<InputChange>,
    pub(crate) watermark_ms: Option<i64>,
    /// If event timers that are due have not all fired.
    pub(crate) clock: Option<EventClock>,
    pub(crate) states: Vec<StateChange>,
    pub(crate) timers: Vec<TimerChange>,
    /// What the writers of `inputs` have said of themselves.
    pub(crate) writers: Vec<(PartitionId, Writer)>,
    /// If the tasks behind an exchange were told another time.
    pub(crate) told: Option<TaskTime>,
}

/// The fields of the first format.
type First = (
    Vec<InputChange>,
    Option<i64>,
    Option<EventClock>,
    Vec<StateChange>,
    Vec<TimerChange>,
);

/// Where reading goes on in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputChange {
    pub(crate) partition: PartitionId,
    pub(crate) position: Offset,
    pub(crate) watermark_ms: i64,
}

/// State set or, without a value, removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateChange {
    pub(crate) stage: StageId,
    pub(crate) key: Blob,
    pub(crate) value: Option<Blob>,
}

/// A timer set or, without an origin, removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimerChange {
    pub(crate) stage: StageId,
    pub(crate) kind: TimeKind,
    pub(crate) at_ms: i64,
    pub(crate) key: Blob,
    pub(crate) origin: Option<Origin>,
}

impl DeltaState {
    /// The positions that changed: next offset to read, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.inputs.iter().map(|i| (i.partition, i.position))
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && self.watermark_ms.is_none()
            && self.told.is_none()
            && self.states.is_empty()
            && self.timers.is_empty()
    }

    /// Appends the bytes of this value: a format number, then postcard. They are at most the
    /// `max_output_bytes` of the step, 2 MiB for its last record, and 32 bytes for every partition.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        let start = std::mem::take(out);
        *out = postcard::to_extend(self, start).expect("a vector takes any number of bytes");
    }

    fn take(format: u8, bytes: &[u8]) -> postcard::Result<(Self, &[u8])> {
        if format == FORMAT {
            return postcard::take_from_bytes(bytes);
        }
        let (first, rest): (First, _) = postcard::take_from_bytes(bytes)?;
        let (inputs, watermark_ms, clock, states, timers) = first;
        let state = Self {
            inputs,
            watermark_ms,
            clock,
            states,
            timers,
            ..Self::default()
        };
        Ok((state, rest))
    }

    /// Reads what [`Self::encode`] wrote, in this version or in the first.
    ///
    /// # Errors
    /// [`ErrorCode::UnsupportedVersion`] for another format, [`ErrorCode::Damaged`] for anything
    /// that is not a delta.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let damaged = |text: String| Failure::new(ErrorCode::Damaged, text);
        match bytes.split_first() {
            Some((&(FORMAT | FORMAT_FIRST), rest)) => match Self::take(bytes[0], rest) {
                Ok((delta, [])) => Ok(delta),
                Ok((_, tail)) => Err(damaged(format!(
                    "task delta has {} bytes too many: restore it from a replica",
                    tail.len()
                ))),
                Err(error) => Err(damaged(format!(
                    "task delta of {} bytes cannot be read ({error}): restore it from a replica",
                    bytes.len()
                ))),
            },
            Some((format, _)) => Err(Failure::new(
                ErrorCode::UnsupportedVersion,
                format!("task delta has format {format}, this version reads {FORMAT}: upgrade"),
            )),
            None => Err(damaged(
                "task delta is empty: restore it from a replica".into(),
            )),
        }
    }
}

/// Bytes that serde writes as bytes, not as a sequence of numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        d.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> DeltaState {
        DeltaState {
            inputs: vec![InputChange {
                partition: PartitionId(1024),
                position: Offset(7),
                watermark_ms: -3,
            }],
            watermark_ms: Some(i64::MIN),
            clock: Some(EventClock::firing(5, 1)),
            states: vec![StateChange {
                stage: StageId(9),
                key: Blob(vec![0, 255]),
                value: None,
            }],
            timers: vec![TimerChange {
                stage: StageId(9),
                kind: TimeKind::Processing,
                at_ms: 1,
                key: Blob(vec![]),
                origin: Some(Origin::default()),
            }],
            writers: vec![(PartitionId(1024), Writer::Idle)],
            told: Some(TaskTime {
                watermark_ms: -3,
                idle: true,
            }),
        }
    }

    #[test]
    fn round_trip_and_the_bytes_stay_as_they_are() {
        let mut bytes = vec![0xaa];
        sample().encode(&mut bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(DeltaState::decode(&bytes[1..]).unwrap(), sample());
        assert_eq!(
            hex,
            "aa020180080705\
             01ffffffffffffffffff01\
             010a01\
             0109\
             0200ff00\
             0109\
             0102\
             0001\
             00000000\
             01800802\
             010501"
        );
    }

    #[test]
    fn what_the_first_version_wrote_is_read() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        bytes.truncate(bytes.len() - 7);
        bytes[0] = FORMAT_FIRST;
        let first = DeltaState {
            writers: Vec::new(),
            told: None,
            ..sample()
        };
        assert_eq!(DeltaState::decode(&bytes).unwrap(), first);
    }

    #[test]
    fn other_formats_and_tails_are_refused() {
        let code = |bytes: &[u8]| DeltaState::decode(bytes).unwrap_err().code;
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        assert_eq!(code(&[]), ErrorCode::Damaged);
        assert_eq!(code(&bytes[..bytes.len() - 1]), ErrorCode::Damaged);
        bytes.push(0);
        assert_eq!(code(&bytes), ErrorCode::Damaged);
        bytes[0] = 3;
        assert_eq!(code(&bytes), ErrorCode::UnsupportedVersion);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = DeltaState::decode(&bytes);
        }
    }
}
