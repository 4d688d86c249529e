//! The greeting on a new connection, and which of two connections stays.
//!
//! ```text
//! who dialled:   1 | life (8)          who was dialled:   1 or 0 | life (8)
//! ```
//!
//! Two nodes may dial one another at the same time. There is one who decides for each connection: the one
//! that was dialled. It lets the connection of the lower node win.

use crate::stream::HELLO;
use flowstone_wire::NodeId;
use std::time::Duration;

/// Bytes of a greeting and of its answer.
pub(super) const BYTES: usize = 9;

/// What opens a connection, or answers that. Little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of an answer: whether the connection stays. A greeting has its stream's number there.
    pub flag: u8,
    /// Which life of the sender speaks.
    pub life: u64,
}

impl Hello {
    pub(super) fn greeting(life: u64) -> Self {
        Self { flag: HELLO, life }
    }

    pub(super) fn answer(stays: bool, life: u64) -> Self {
        let flag = u8::from(stays);
        Self { flag, life }
    }

    /// As bytes.
    pub fn encode(self) -> [u8; BYTES] {
        let mut bytes = [self.flag; BYTES];
        bytes[1..].copy_from_slice(&self.life.to_le_bytes());
        bytes
    }

    /// From bytes; `None` for a flag that there is not.
    pub fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let [flag, life @ ..] = *bytes;
        let life = u64::from_le_bytes(life);
        (flag <= 1).then_some(Self { flag, life })
    }
}

/// A connection that stood for so long is not one of two that began together.
const TOGETHER: Duration = Duration::from_millis(500);

/// How the one that was dialled stands with the one that dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it is dialling the other one itself.
    pub(crate) is_dialling: bool,
    /// Which life of the other one it has a connection with, and for how long.
    pub(crate) current: Option<(u64, Duration)>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It stays; another one that there is goes.
    Take,
    /// It goes: the other one is there already, and is the better one.
    Leave,
    /// It depends on what becomes of this node's own dial.
    Wait,
}

/// What becomes of a connection that `them`, in this life, has dialled to `me`.
pub(super) fn choose(me: NodeId, them: NodeId, life: u64, standing: Standing) -> Choice {
    match standing.current {
        // Who dials has no connection any more: it began anew, or it has noticed a loss first.
        Some((known, _)) if known != life => Choice::Take,
        Some((_, stood)) if stood >= TOGETHER || them < me => Choice::Take,
        Some(_) => Choice::Leave,
        // The lower one's own dial may still fail where the higher one's has come through.
        None if standing.is_dialling && me < them => Choice::Wait,
        None => Choice::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_connections_the_lower_nodes_stays_on_both_sides() {
        let (low, high) = (NodeId(1), NodeId(2));
        let dialling = Standing {
            is_dialling: true,
            current: None,
        };
        assert_eq!(choose(high, low, 7, dialling), Choice::Take);
        assert_eq!(choose(low, high, 7, dialling), Choice::Wait);
        let just_now = |is_dialling| Standing {
            is_dialling,
            current: Some((7, Duration::from_millis(1))),
        };
        assert_eq!(choose(low, high, 7, just_now(false)), Choice::Leave);
        assert_eq!(choose(high, low, 7, just_now(true)), Choice::Take);
    }

    #[test]
    fn who_was_restarted_or_has_lost_its_connection_is_let_in() {
        let (low, high) = (NodeId(1), NodeId(2));
        let standing = |life, ms| Standing {
            is_dialling: false,
            current: Some((life, Duration::from_millis(ms))),
        };
        assert_eq!(choose(low, high, 8, standing(7, 1)), Choice::Take);
        assert_eq!(choose(low, high, 7, standing(7, 900)), Choice::Take);
        let idle = Standing {
            is_dialling: false,
            current: None,
        };
        assert_eq!(choose(low, high, 7, idle), Choice::Take);
    }

    #[test]
    fn greetings_are_nine_bytes() {
        let hello = Hello::greeting(0x0102);
        assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        assert_eq!(Hello::decode(&[9; BYTES]), None);
    }
}
