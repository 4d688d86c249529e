//! Who owns a tier: a row of epochs, none of which is ever removed.
//!
//! An owner that was superseded finds the next epoch in the row, whatever else it missed. So it asks
//! for that one after each change and before it takes the change for done.

use crate::envelope::{self, Kind};
use crate::error::TierError;
use crate::manifest::TierEpoch;
use crate::nonce::nonce;
use crate::objects::Created;
use crate::tier::Tier;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const WHO_BYTES_MAX: usize = 256;
const OWNER_BYTES_MAX: u64 = 4096;
/// Others that may be faster before we give up.
const RACES_MAX: usize = 100;

/// A claim of an epoch, as it stands in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// For people who look into the bucket.
    pub who: String,
    /// So that no two claims have the same bytes.
    pub nonce: u64,
}

impl Owner {
    /// Its bytes in the bucket.
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a text and a number can be written to memory");
        envelope::seal(Kind::Owner, &body)
    }

    /// Reads a claim.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let body = envelope::open(Kind::Owner, bytes)?;
        match postcard::take_from_bytes(body) {
            Ok((owner, [])) => Ok(owner),
            Ok((_, rest)) => Err(format!("{} bytes follow its end", rest.len())),
            Err(e) => Err(format!("it cannot be read: {e}")),
        }
    }
}

impl Tier {
    /// Takes the tier over: every owner before this one is fenced off from here on. `who` is for
    /// people who look into the bucket, at most 256 bytes.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], and [`TierError::Refused`] where others take it all the time.
    pub async fn take_epoch(&self, who: &str) -> Result<TierEpoch, TierError> {
        if who.len() > WHO_BYTES_MAX {
            return Err(TierError::refused(format!(
                "the owner's name has {} bytes, at most {WHO_BYTES_MAX} are allowed",
                who.len()
            )));
        }
        let row = self.names().owner_row();
        let mut known = 0;
        for _ in 0..RACES_MAX {
            let newest = self.objects().newest(&row, known, OWNER_BYTES_MAX).await?;
            known = newest.map_or(0, |n| n.version);
            let next = known.saturating_add(1);
            let Ok(epoch) = u32::try_from(next) else {
                return Err(TierError::refused(
                    "this tier has no epochs left: use another prefix",
                ));
            };
            let who = who.to_string();
            let nonce = nonce();
            let claim = Bytes::from(Owner { who, nonce }.encode());
            if self.objects().append(&row, next, &claim).await? == Created::Ours {
                return Ok(TierEpoch(epoch));
            }
        }
        Err(TierError::refused(
            "others take this tier over all the time: let only one cluster use this prefix",
        ))
    }

    /// The newest epoch, and who took it; `None` where nobody ever did.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Damaged`].
    pub async fn owner(&self) -> Result<Option<(TierEpoch, String)>, TierError> {
        let row = self.names().owner_row();
        let Some(newest) = self.objects().newest(&row, 0, OWNER_BYTES_MAX).await? else {
            return Ok(None);
        };
        let name = row.name(newest.version);
        let owner = Owner::decode(&newest.bytes).map_err(|what| TierError::damaged(&name, what))?;
        let epoch = u32::try_from(newest.version)
            .map_err(|_| TierError::damaged(&name, "its number is no epoch"))?;
        Ok(Some((TierEpoch(epoch), owner.who)))
    }

    /// Whether `epoch` still owns the tier.
    ///
    /// # Errors
    /// [`TierError::Fenced`], [`TierError::Unavailable`].
    pub async fn check_epoch(&self, epoch: TierEpoch) -> Result<(), TierError> {
        let next = TierEpoch(epoch.0.saturating_add(1));
        let name = self.names().owner_row().name(u64::from(next.0));
        match self.objects().head(&name).await? {
            None => Ok(()),
            Some(_) => Err(TierError::Fenced { epoch: next }),
        }
    }
}
