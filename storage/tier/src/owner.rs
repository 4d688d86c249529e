//! Who owns a tier: a row of epochs, none of which is ever removed.
//!
//! ```text
//! epoch   1         2          3            4            5
//!         node a    cluster b  b: shard 0   b: shard 1   b: shard 0, of a later term
//!         alone     joint      held: 0->3   held: 0->3,  held: 0->5, 1->4
//!                                           1->4
//! ```
//! A node that is alone takes all of it. The nodes of a cluster share it: each claims what it leads, and
//! the newest claim lists all that are held. An owner that was superseded finds the next epoch in the
//! row, whatever else it missed. So it asks for that one after each change and before it takes the change
//! for done.

use crate::envelope::{self, Kind};
use crate::error::TierError;
use crate::manifest::TierEpoch;
use flowstone_wire::ShardId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node of a cluster claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Documents, and what is left of deleted topics: of the catalog's leader.
    Catalog,
    /// The partitions of a shard: of its leader.
    Shard(ShardId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog => f.write_str("the catalog"),
            Self::Shard(shard) => write!(f, "shard {shard}"),
        }
    }
}

/// What a node may write, and under which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// `None`: everything, alone.
    pub scope: Option<Scope>,
    /// The number of the claim.
    pub epoch: TierEpoch,
}

impl Right {
    /// What is said where a newer epoch than the right's was met.
    pub(crate) fn overtaken(self, epoch: TierEpoch) -> TierError {
        match self.scope {
            None => TierError::Fenced { epoch },
            Some(scope) => TierError::Superseded { scope, epoch },
        }
    }
}

impl From<TierEpoch> for Right {
    /// The right to everything.
    fn from(epoch: TierEpoch) -> Self {
        let scope = None;
        Self { scope, epoch }
    }
}

/// A scope that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What.
    pub scope: Scope,
    /// The number of its newest claim.
    pub epoch: TierEpoch,
    /// The leader's own epoch: of the shard, or the term of the catalog. A lower one claims nothing.
    pub term: u64,
}

/// What a claim says where the nodes of a cluster share a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// Number of the cluster.
    pub cluster: String,
    /// With which claim the cluster took the tier over.
    pub since: TierEpoch,
    /// What is held, sorted by scope, once each.
    pub held: Vec<Held>,
}

/// A claim of an epoch, as it stands in the bucket.
///
/// Encoded as an envelope around postcard of its fields in this order; those of a cluster have an
/// envelope of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// For people who look into the bucket.
    pub who: String,
    /// So that no two claims have the same bytes.
    pub nonce: u64,
    /// Whether it is shared; `None` for a node that is alone.
    pub joint: Option<Joint>,
}

impl Joint {
    /// The newest claim of a scope.
    pub fn holder(&self, scope: Scope) -> Option<&Held> {
        let at = self.held.binary_search_by_key(&scope, |h| h.scope).ok()?;
        self.held.get(at)
    }

    pub(crate) fn hold(&mut self, held: Held) {
        match self.held.binary_search_by_key(&held.scope, |h| h.scope) {
            Ok(at) => self.held[at] = held,
            Err(at) => self.held.insert(at, held),
        }
    }

    fn check(&self) -> Result<(), String> {
        let rises = self.held.is_sorted_by(|a, b| a.scope < b.scope);
        let later = self.held.iter().all(|h| h.epoch > self.since);
        (rises && later)
            .then_some(())
            .ok_or_else(|| "what it says to be held does not add up".into())
    }
}

impl Owner {
    /// Its bytes in the bucket.
    pub fn encode(&self) -> Vec<u8> {
        let plain = "texts and numbers can be written to memory";
        match &self.joint {
            None => {
                let body = postcard::to_stdvec(&(&self.who, self.nonce)).expect(plain);
                envelope::seal(Kind::Owner, &body)
            }
            Some(joint) => {
                let body = postcard::to_stdvec(&(&self.who, self.nonce, joint)).expect(plain);
                envelope::seal(Kind::JointOwner, &body)
            }
        }
    }

    /// Reads a claim.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if let Ok(body) = envelope::open(Kind::JointOwner, bytes) {
            let (who, nonce, joint): (String, u64, Joint) = whole(body)?;
            joint.check()?;
            let joint = Some(joint);
            return Ok(Self { who, nonce, joint });
        }
        let (who, nonce) = whole(envelope::open(Kind::Owner, bytes)?)?;
        let joint = None;
        Ok(Self { who, nonce, joint })
    }

    /// Whether a right still counts, where this is the newest claim, of that number.
    pub(crate) fn grants(&self, number: TierEpoch, right: Right) -> Result<(), TierError> {
        let since = self.joint.as_ref().map_or(number, |j| j.since);
        let Some(scope) = right.scope else {
            return match since == right.epoch {
                true => Ok(()),
                false => Err(TierError::Fenced { epoch: since }),
            };
        };
        match self.joint.as_ref().and_then(|j| j.holder(scope)) {
            Some(held) if held.epoch == right.epoch => Ok(()),
            Some(held) if right.epoch > since => Err(TierError::Superseded {
                scope,
                epoch: held.epoch,
            }),
            _ => Err(TierError::Fenced { epoch: since }),
        }
    }

    /// Whether nobody may write under `epoch` any more, where this is the newest claim, of that number.
    pub(crate) fn has_ended(&self, number: TierEpoch, epoch: TierEpoch) -> bool {
        let holds = match &self.joint {
            None => epoch == number,
            Some(joint) => epoch == joint.since || joint.held.iter().any(|h| h.epoch == epoch),
        };
        !holds && epoch < number
    }
}

fn whole<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((read, [])) => Ok(read),
        Ok((_, rest)) => Err(format!("{} bytes follow its end", rest.len())),
        Err(e) => Err(format!("it cannot be read: {e}")),
    }
}
