//! Finding out what a bucket really does.
//!
//! Some servers take a condition and ignore it, so their answer alone proves nothing: what counts is
//! what is there afterwards.

use crate::error::TierError;
use crate::names::Names;
use crate::nonce::nonce;
use crate::objects::Objects;
use bytes::Bytes;
use object_store::path::Path;

/// Creations of one name that are sent at once.
const WRITERS: usize = 8;
/// Fresh names that are raced for: a server that loses a race sometimes is to be found out, too.
const ROUNDS: usize = 3;
const BYTES_MAX: u64 = 1024;

/// What a bucket was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Of several creations of one name exactly one succeeds.
    pub conditional_create: bool,
    /// What was seen instead, if not.
    pub objection: Option<String>,
}

/// Races for fresh names, and looks at what comes of it.
pub(crate) async fn probe(objects: &Objects, names: &Names) -> Result<Abilities, TierError> {
    let mut objection = None;
    for _ in 0..ROUNDS {
        let name = names.probe(nonce());
        let seen = race(objects, &name).await;
        let removed = objects.delete(vec![name]).await;
        objection = seen?;
        removed?;
        if objection.is_some() {
            break;
        }
    }
    Ok(Abilities {
        conditional_create: objection.is_none(),
        objection,
    })
}

/// What is wrong with how one name was created; `None` where all is well.
async fn race(objects: &Objects, name: &Path) -> Result<Option<String>, TierError> {
    let mine = |i: usize| Bytes::from(format!("{name} writer {i}"));
    let create = |i: usize| objects.create_once(name, mine(i));
    let said = futures_util::future::join_all((0..WRITERS).map(create)).await;
    let mut winners = Vec::new();
    for (i, said) in said.into_iter().enumerate() {
        match said {
            Ok(true) => winners.push(i),
            Ok(false) => {}
            Err(TierError::NotFound { .. }) => return Err(no_bucket(name)),
            // Servers may say that a race is going on instead of who won it; the loser loses.
            Err(e) if e.is_passing() => tracing::debug!(error = %e, "a writer of a probe failed"),
            Err(e) => return Err(e),
        }
    }
    let there = objects.get_if_there(name, BYTES_MAX).await?;
    let [winner] = winners[..] else {
        let n = winners.len();
        return match there {
            Some(_) if n > 1 => Ok(Some(format!("{n} of {WRITERS} writers created one name"))),
            // Not one got an answer that helps.
            _ => Err(TierError::unavailable(
                "none of the probe's writers succeeded",
            )),
        };
    };
    if there != Some(mine(winner)) {
        return Ok(Some("the bytes read back are not the winner's".into()));
    }
    if objects.create_once(name, mine(WRITERS)).await? {
        return Ok(Some("a name was created that was there already".into()));
    }
    if objects.get_if_there(name, BYTES_MAX).await? != there {
        return Ok(Some(
            "a creation that was refused changed the object".into(),
        ));
    }
    Ok(None)
}

fn no_bucket(name: &Path) -> TierError {
    TierError::refused(format!(
        "there is no place for '{name}': create the bucket first"
    ))
}
