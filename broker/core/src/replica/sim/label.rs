//! How the story of a run is told: short lines.
#![cfg(test)]

use super::world::Event;
use crate::replica::{Config, Envelope, EpochTable, Input, Message, Output, Span};
use std::fmt::{Display, Formatter, Result};

/// Something, in a few words.
pub(super) struct Label<'a, T>(pub(super) &'a T);

impl Display for Label<'_, Span> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Span {
            epoch, first, last, ..
        } = self.0;
        write!(f, "{first}..={last}@{epoch}")
    }
}

impl Display for Label<'_, EpochTable> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.0
            .starts()
            .iter()
            .try_for_each(|s| write!(f, " {}:{}", s.epoch, s.first))
    }
}

impl Display for Label<'_, Config> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let c = self.0;
        write!(
            f,
            "v{} e{} led by {}, members",
            c.version, c.epoch, c.leader
        )?;
        c.members.iter().try_for_each(|m| write!(f, " {m}"))?;
        write!(f, ", learners")?;
        c.learners.iter().try_for_each(|m| write!(f, " {m}"))?;
        write!(f, ", before")?;
        c.previous.iter().try_for_each(|m| write!(f, " {m}"))
    }
}

impl Display for Label<'_, Envelope> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Envelope { header: h, message } = self.0;
        write!(f, "{}->{} e{} ", h.from, h.to, h.epoch)?;
        match message {
            Message::Follow { epochs, .. } => write!(f, "Follow{}", Label(epochs)),
            Message::Append {
                span, committed, ..
            } => {
                write!(f, "Append ")?;
                if let Some(span) = span {
                    write!(f, "{} ", Label(span))?;
                }
                write!(f, "committed {committed}")
            }
            Message::Sealed { end } => write!(f, "Sealed {end}"),
            Message::Snapshot { last } => write!(f, "Snapshot {last}"),
            Message::Ack {
                standing,
                written,
                durable,
                ..
            } => {
                write!(f, "Ack {standing:?} written {written} durable {durable}")
            }
            Message::Seal | Message::Refused => write!(f, "{message:?}"),
        }
    }
}

impl Display for Label<'_, Input> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Input::Appointed(config) => write!(f, "appointed {}", Label(config)),
            Input::Written(span) => write!(f, "written {}", Label(span)),
            Input::Durable(id) => write!(f, "durable {id}"),
            Input::Installed(id) => write!(f, "installed {id}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Display for Label<'_, Output> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Output::Send(envelope) => write!(f, "{}", Label(envelope)),
            Output::Append(span) => write!(f, "append {}", Label(span)),
            Output::AskCatalog(asked) => {
                write!(f, "{:?} for e{} v{}", asked.ask, asked.epoch, asked.version)
            }
            Output::SendSnapshot {
                header,
                least,
                committed,
            } => {
                write!(f, "send snapshot to {} {least}..={committed}", header.to)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl Display for Label<'_, Event> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Event::Packet(to, packet) => write!(f, "{to} < {}", Label(&packet.envelope)),
            Event::Tell(node, _, input) | Event::Told(node, input) => {
                write!(f, "{node} < {}", Label(input))
            }
            Event::Asked(asked) => write!(f, "catalog < {} {:?}", asked.from, asked.ask),
            Event::Done(node, _, op) => write!(f, "{node} disk {op:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}
