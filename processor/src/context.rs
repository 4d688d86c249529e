//! What a stage can do while it deals with a record or a timer: emit, state, timers, time.

use crate::bulk::Cause;
use crate::output::Draft;
use crate::pipeline::{Links, Plan, SinkRef};
use crate::processor::{ProcessError, Processor, TimeKind, Timer};
use crate::record::{Headers, Record};
use crate::timers::{Origin, TimerId};
use crate::unit::Unit;
use flowstone_wire::limits;

/// Longest key of state or of a timer, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = limits::RECORD_KEY_BYTES_MAX;
/// Longest value of state, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 1 << 20;

const _: () =
    assert!(STATE_VALUE_BYTES_MAX + STATE_KEY_BYTES_MAX < crate::unit::UNIT_CHANGE_BYTES_MAX);

/// The key of what a stage is dealing with, to see whether the stage changes it.
#[derive(Clone, Copy)]
pub(crate) enum Incoming<'a> {
    /// Of a record.
    Key(Option<&'a [u8]>),
    /// Of the record that set the timer.
    Hash(u64),
}

/// FNV-1a with 64 bits; no key has a hash that a key has only by accident.
fn key_hash(key: Option<&[u8]>) -> u64 {
    key.map_or(0, |key| {
        key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    })
}

impl Incoming<'_> {
    #[inline]
    fn differs(self, key: Option<&[u8]>) -> bool {
        match self {
            Self::Key(incoming) => incoming != key,
            Self::Hash(incoming) => incoming != key_hash(key),
        }
    }

    fn hash(self) -> u64 {
        match self {
            Self::Key(key) => key_hash(key),
            Self::Hash(hash) => hash,
        }
    }
}

/// What a stage can do. Whatever it does is undone as a whole if the record or timer fails, in this
/// stage or in one behind it.
pub struct Context<'a> {
    pub(crate) unit: &'a mut Unit,
    pub(crate) plan: &'a Plan,
    /// The processors of the nodes behind `node`, by number.
    pub(crate) rest: &'a mut [Box<dyn Processor>],
    pub(crate) node: u16,
    pub(crate) incoming: Incoming<'a>,
    /// Whether the key was already changed on the way here.
    pub(crate) rekeyed: bool,
}

/// Hands a record to the sinks and stages of `links`, which are behind node `from` (`None` for the
/// input); `processors` are those of all nodes behind it, by number.
#[inline]
pub(crate) fn deliver(
    unit: &mut Unit,
    plan: &Plan,
    links: &Links,
    from: Option<u16>,
    processors: &mut [Box<dyn Processor>],
    record: &Record<'_>,
    rekeyed: bool,
) {
    for &sink in &links.sinks {
        unit.emit(from, &draft(sink, record, rekeyed));
    }
    let first = from.map_or(0, |node| node + 1);
    for &child in &links.children {
        if unit.fault.is_some() || unit.muted {
            return;
        }
        let (front, rest) = processors.split_at_mut(usize::from(child - first) + 1);
        let Some(processor) = front.last_mut() else {
            return;
        };
        let mut ctx = Context {
            unit: &mut *unit,
            plan,
            rest,
            node: child,
            incoming: Incoming::Key(record.key),
            rekeyed,
        };
        if let Err(error) = processor.process(record, &mut ctx) {
            unit.fail(Some(child), error);
        }
    }
}

#[inline]
fn draft<'r>(sink: SinkRef, record: &Record<'r>, key_changed: bool) -> Draft<'r> {
    Draft {
        sink,
        partition: record.partition,
        key_changed,
        timestamp: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}

impl Context<'_> {
    /// Emits a record to all stages and sinks behind this stage. `timestamp` is event time in
    /// milliseconds since 1970. The stages behind it run before this returns; if one of them fails,
    /// the whole input record does, whatever this stage does next.
    #[inline]
    pub fn emit<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<Headers<'h>>,
    ) {
        let record = Record {
            partition: self.unit.origin.partition,
            offset: self.unit.origin.offset,
            timestamp,
            key,
            value,
            headers: headers.into(),
        };
        self.forward(&record);
    }

    /// Emits a record that `cause` led to; for stages that deal with many records at once.
    #[inline]
    pub fn emit_for<'h>(
        &mut self,
        cause: Cause,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<Headers<'h>>,
    ) {
        let record = Record {
            partition: cause.partition,
            offset: cause.offset,
            timestamp,
            key,
            value,
            headers: headers.into(),
        };
        (self.unit.origin.partition, self.unit.origin.offset) = (cause.partition, cause.offset);
        let links = &self.plan.nodes[usize::from(self.node)].links;
        deliver(
            self.unit,
            self.plan,
            links,
            Some(self.node),
            self.rest,
            &record,
            self.rekeyed || cause.rekeyed,
        );
    }

    /// Emits a record that came too late, and that `cause` led to, to the sink `<pipeline>.late`.
    pub fn emit_late_for<'h>(
        &mut self,
        cause: Cause,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<Headers<'h>>,
    ) {
        let draft = Draft {
            sink: SinkRef::LATE,
            partition: cause.partition,
            key_changed: self.rekeyed || cause.rekeyed,
            timestamp,
            key,
            value,
            headers: headers.into(),
        };
        self.unit.emit(Some(self.node), &draft);
    }

    /// A part of this stage, which is the first one, is given rows by the part that was at work before, if there
    /// was one, and is at work from now on; what fails then, fails in it. Returns the one before, for
    /// [`Self::leave`].
    pub fn enter(&mut self, part: usize, rows: usize) -> Option<usize> {
        self.unit.parts.enter(part, rows as u64)
    }

    /// The part at work is done, without an error.
    pub fn leave(&mut self, before: Option<usize>) {
        self.unit.parts.leave(before);
    }

    /// A record could not be read by this part, and goes to the dead letters alone.
    pub fn refuse(&mut self, part: usize) {
        self.unit.parts.refused(part);
    }

    /// The input record that set the timer, or that is dealt with.
    pub fn cause(&self) -> Cause {
        Cause {
            partition: self.unit.origin.partition,
            offset: self.unit.origin.offset,
            rekeyed: self.rekeyed,
        }
    }

    /// Emits `record` as it is.
    #[inline]
    pub fn forward(&mut self, record: &Record<'_>) {
        let rekeyed = self.rekeyed || self.incoming.differs(record.key);
        let links = &self.plan.nodes[usize::from(self.node)].links;
        deliver(
            self.unit,
            self.plan,
            links,
            Some(self.node),
            self.rest,
            record,
            rekeyed,
        );
    }

    /// Emits a record that came too late to the sink `<pipeline>.late`.
    pub fn emit_late<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<Headers<'h>>,
    ) {
        let draft = Draft {
            sink: SinkRef::LATE,
            partition: self.unit.origin.partition,
            key_changed: self.rekeyed || self.incoming.differs(key),
            timestamp,
            key,
            value,
            headers: headers.into(),
        };
        self.unit.emit(Some(self.node), &draft);
    }

    /// The state of this stage under `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.unit.store.get(self.node, key)
    }

    /// Sets the state of this stage under `key` (up to 64 KiB) to `value` (up to 1 MiB). Over a
    /// limit the record is rejected.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        if self.fits("a state key", key, STATE_KEY_BYTES_MAX)
            && self.fits("a state value", value, STATE_VALUE_BYTES_MAX)
        {
            let before_bytes = self.unit.state_bytes();
            self.unit.store.put(self.node, key, value);
            self.unit.check_state(self.node, before_bytes);
        }
    }

    /// Removes the state of this stage under `key`, if there is any.
    pub fn delete(&mut self, key: &[u8]) {
        self.unit.store.delete(self.node, key);
        self.unit.check_state(self.node, usize::MAX);
    }

    /// The state of this stage under all keys that start with `prefix`, in the order of the keys.
    pub fn scan<'s>(
        &'s self,
        prefix: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + use<'s> {
        self.unit.store.scan(self.node, prefix)
    }

    /// Of what [`Context::scan`] gives, that whose keys are `from` or behind it; `from` starts with
    /// `prefix`.
    pub fn scan_from<'s>(
        &'s self,
        prefix: &'s [u8],
        from: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + use<'s> {
        self.unit.store.scan_from(self.node, prefix, from)
    }

    /// Sets a timer of this stage. One that is due already fires before the next record. Over a
    /// limit (key up to 64 KiB) the record is rejected.
    pub fn set_timer(&mut self, timer: Timer) {
        if self.fits("a timer key", &timer.key, STATE_KEY_BYTES_MAX) {
            let origin = Origin {
                key_hash: self.incoming.hash(),
                rekeyed: self.rekeyed,
                ..self.unit.origin
            };
            let (kind, id) = self.timer_id(timer);
            let before_bytes = self.unit.state_bytes();
            self.unit.timers.set(kind, id, origin);
            self.unit.check_state(self.node, before_bytes);
        }
    }

    /// Removes a timer of this stage, if it is set.
    pub fn cancel_timer(&mut self, timer: Timer) {
        let (kind, id) = self.timer_id(timer);
        self.unit.timers.cancel(kind, id);
        self.unit.check_state(self.node, usize::MAX);
    }

    fn timer_id(&self, timer: Timer) -> (TimeKind, TimerId) {
        let id = TimerId {
            at_ms: timer.at_ms,
            node: self.node,
            key: timer.key,
        };
        (timer.kind, id)
    }

    /// The clock, milliseconds since 1970, as the caller of the step gave it.
    pub fn now_ms(&self) -> i64 {
        self.unit.now_ms
    }

    /// Event time, milliseconds since 1970: no record with `timestamp < watermark` is expected any
    /// more. `i64::MIN` as long as it is not known.
    pub fn watermark(&self) -> i64 {
        self.unit.clock.seen_by(self.node)
    }

    fn fits(&mut self, what: &str, bytes: &[u8], max: usize) -> bool {
        if bytes.len() <= max {
            return true;
        }
        let text = format!(
            "{what} has {} bytes, over the limit of {max}: store less",
            bytes.len()
        );
        self.unit.fail(Some(self.node), ProcessError::Reject(text));
        false
    }
}
