//! What can go wrong between a node and its bucket.

use crate::manifest::TierEpoch;
use crate::owner::Scope;
use std::io;
use std::path::Path;

/// Why the tier did not do it. The variant says what the caller may do.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// The bucket did not answer, or answered with a failure that passes: try again later.
    #[error("the bucket is not available: {what}")]
    Unavailable {
        /// What was tried, and what came back.
        what: String,
    },
    /// The bucket or its settings are not fit: trying again does not help, mend the configuration.
    #[error("the bucket cannot be used: {what}")]
    Refused {
        /// What is wrong, and what to do.
        what: String,
    },
    /// There is no such object.
    #[error("'{name}' is not in the bucket")]
    NotFound {
        /// Its whole name.
        name: String,
    },
    /// What is stored is not what was put there.
    #[error("'{name}' is damaged: {what}")]
    Damaged {
        /// The object's whole name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// Somebody took over: stop writing to this tier.
    #[error("the tier belongs to epoch {epoch} now: stop writing to it, or take a new epoch")]
    Fenced {
        /// The owner's epoch, or a lower one that is above the caller's already.
        epoch: TierEpoch,
    },
    /// A later leader writes this part of the tier; the rest of it may go on.
    #[error(
        "epoch {epoch} of the tier belongs to a later leader of {scope}: this one writes no more of it"
    )]
    Superseded {
        /// Which part.
        scope: Scope,
        /// The later leader's epoch.
        epoch: TierEpoch,
    },
    /// The local disk failed.
    #[error("{action} '{path}': {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl TierError {
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into() }
    }

    pub(crate) fn damaged(name: impl ToString, what: impl Into<String>) -> Self {
        Self::Damaged {
            name: name.to_string(),
            what: what.into(),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether it may work later, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
