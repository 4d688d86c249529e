//! Claims in the bucket.

use crate::error::TierError;
use crate::manifest::TierEpoch;
use crate::nonce::nonce;
use crate::objects::Created;
use crate::owner::{Held, Joint, Owner, Right, Scope};
use crate::tier::Tier;
use bytes::Bytes;
use std::sync::PoisonError;

const WHO_BYTES_MAX: usize = 256;
/// More than a claim has where every shard that there can be is held.
const OWNER_BYTES_MAX: u64 = 64 << 10;
/// Others that may be faster before we give up.
const RACES_MAX: usize = 100;

/// The newest claim, and its number.
type Newest = (TierEpoch, Owner);

/// What becomes of the row of owners.
enum Next {
    /// It stays as it is.
    Leave,
    /// A claim of everything alone, or one that is shared.
    Claim(Option<Joint>),
}

impl Tier {
    /// Takes the tier over, alone: every owner before this one is fenced off from here on. `who` is for
    /// people who look into the bucket, at most 256 bytes.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], and [`TierError::Refused`] where others take it all the time.
    pub async fn take_epoch(&self, who: &str) -> Result<TierEpoch, TierError> {
        self.append_claim(who, |_, _| Ok(Next::Claim(None))).await
    }

    /// Takes part in the tier as a node of a cluster, and gives the claim with which the cluster took it
    /// over; where another owner has it, this is that claim.
    ///
    /// # Errors
    /// As of [`Self::take_epoch`].
    pub async fn join(&self, cluster: &str, who: &str) -> Result<TierEpoch, TierError> {
        let mut since = TierEpoch(0);
        self.append_claim(who, |newest, number| {
            let joint = newest.and_then(|(_, owner)| owner.joint.as_ref());
            if let Some(joint) = joint.filter(|j| j.cluster == cluster) {
                since = joint.since;
                return Ok(Next::Leave);
            }
            since = number;
            Ok(Next::Claim(Some(Joint {
                cluster: cluster.into(),
                since,
                held: Vec::new(),
            })))
        })
        .await?;
        Ok(since)
    }

    /// Claims a scope for a leader of this term, in a tier that the cluster has had since that claim.
    /// Whoever held the scope is fenced off from here on.
    ///
    /// # Errors
    /// [`TierError::Superseded`] where a later term holds it, [`TierError::Fenced`] where another owner
    /// has the tier; otherwise as of [`Self::take_epoch`].
    pub async fn claim(
        &self,
        scope: Scope,
        term: u64,
        since: TierEpoch,
        who: &str,
    ) -> Result<Right, TierError> {
        let epoch = self
            .append_claim(who, |newest, number| {
                let joint = newest.and_then(|(_, owner)| owner.joint.clone());
                let joint = joint.filter(|j| j.since == since);
                let Some(mut joint) = joint else {
                    let of = |(n, owner): &Newest| owner.joint.as_ref().map_or(*n, |j| j.since);
                    let epoch = newest.map_or(TierEpoch(0), of);
                    return Err(TierError::Fenced { epoch });
                };
                if let Some(held) = joint.holder(scope).filter(|h| h.term > term) {
                    let epoch = held.epoch;
                    return Err(TierError::Superseded { scope, epoch });
                }
                let epoch = number;
                joint.hold(Held { scope, epoch, term });
                Ok(Next::Claim(Some(joint)))
            })
            .await?;
        // Others may have removed versions meanwhile.
        self.objects().row_starts().clear();
        let scope = Some(scope);
        Ok(Right { scope, epoch })
    }

    /// Appends what `next` makes of the newest claim, and of the number that the one behind it gets. Gives
    /// the number of the newest one then.
    async fn append_claim(
        &self,
        who: &str,
        mut next: impl FnMut(Option<&Newest>, TierEpoch) -> Result<Next, TierError>,
    ) -> Result<TierEpoch, TierError> {
        if who.len() > WHO_BYTES_MAX {
            return Err(TierError::refused(format!(
                "the owner's name has {} bytes, at most {WHO_BYTES_MAX} are allowed",
                who.len()
            )));
        }
        let row = self.names().owner_row();
        for _ in 0..RACES_MAX {
            let newest = self.owner().await?;
            let known = newest.as_ref().map_or(TierEpoch(0), |(number, _)| *number);
            let Some(number) = known.0.checked_add(1).map(TierEpoch) else {
                return Err(TierError::refused(
                    "this tier has no epochs left: use another prefix",
                ));
            };
            let Next::Claim(joint) = next(newest.as_ref(), number)? else {
                return Ok(known);
            };
            let (who, nonce) = (who.to_string(), nonce());
            let owner = Owner { who, nonce, joint };
            let claim = Bytes::from(owner.encode());
            let version = u64::from(number.0);
            if self.objects().append(&row, version, &claim).await? == Created::Ours {
                self.note_claim((number, owner));
                return Ok(number);
            }
        }
        Err(TierError::refused(
            "others take this tier over all the time: let only one cluster use this prefix",
        ))
    }

    /// Whether a right still counts.
    ///
    /// # Errors
    /// [`TierError::Fenced`] where another owner has the tier, [`TierError::Superseded`] where a later
    /// leader has the scope, [`TierError::Unavailable`].
    pub async fn check_right(&self, right: impl Into<Right>) -> Result<(), TierError> {
        let right = right.into();
        if let Some((number, owner)) = self.known_claim() {
            let next = u64::from(number.0) + 1;
            let name = self.names().owner_row().name(next);
            if self.objects().head(&name).await?.is_none() {
                return owner.grants(number, right);
            }
        }
        match self.owner().await? {
            Some((number, owner)) => owner.grants(number, right),
            None => Err(TierError::Fenced {
                epoch: TierEpoch(0),
            }),
        }
    }

    /// The newest epoch, and who took it; `None` where nobody ever did.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Damaged`].
    pub async fn owner(&self) -> Result<Option<(TierEpoch, Owner)>, TierError> {
        let row = self.names().owner_row();
        let known = self.known_claim().map_or(0, |(number, _)| number.0);
        let newest = self
            .objects()
            .newest(&row, u64::from(known), OWNER_BYTES_MAX)
            .await?;
        let Some(newest) = newest else {
            return Ok(None);
        };
        let name = row.name(newest.version);
        let owner = Owner::decode(&newest.bytes).map_err(|what| TierError::damaged(&name, what))?;
        let number = u32::try_from(newest.version)
            .map_err(|_| TierError::damaged(&name, "its number is no epoch"))?;
        let newest = (TierEpoch(number), owner);
        self.note_claim(newest.clone());
        Ok(Some(newest))
    }

    fn known_claim(&self) -> Option<Newest> {
        let known = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn note_claim(&self, newest: Newest) {
        let mut known = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(number, _)| *number < newest.0) {
            *known = Some(newest);
        }
    }
}
