//! Which authorities are believed, and until when: two while one replaces the other.

use crate::limits::AUTHORITIES_MAX;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// An authority that is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedCa {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Until when, in seconds since 1970.
    pub until_s: u64,
}

impl TrustedCa {
    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, certificate);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The authorities that are believed, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// One; two while certificates move from one to the other.
    authorities: Vec<TrustedCa>,
}

impl Trust {
    /// Only this one.
    pub fn only(authority: TrustedCa) -> Self {
        Self {
            authorities: vec![authority],
        }
    }

    /// This one as well, before the others. The oldest goes where there would be too many.
    #[must_use]
    pub fn and(&self, authority: TrustedCa) -> Self {
        let mut authorities = self.authorities.clone();
        authorities.retain(|a| a.certificate != authority.certificate);
        authorities.insert(0, authority);
        authorities.truncate(AUTHORITIES_MAX);
        Self { authorities }
    }

    /// The newest one only: ends a change of authorities.
    #[must_use]
    pub fn newest(&self) -> Self {
        let authorities = self.authorities.iter().take(1).cloned().collect();
        Self { authorities }
    }

    /// Those that are believed at a time, in seconds since 1970.
    pub fn at(&self, now_s: u64) -> impl Iterator<Item = &TrustedCa> {
        let current = move |a: &&TrustedCa| now_s <= a.until_s;
        self.authorities.iter().filter(current)
    }

    /// All of them.
    pub fn authorities(&self) -> &[TrustedCa] {
        &self.authorities
    }

    /// Whether there is one, and no more than there may be: what came over a wire is not believed.
    pub fn is_sound(&self) -> bool {
        (1..=AUTHORITIES_MAX).contains(&self.authorities.len())
    }
}
