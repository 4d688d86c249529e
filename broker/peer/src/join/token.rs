//! One-time tokens: a secret, and the fingerprint of the authority that the joiner is to meet.
//!
//! ```text
//! fsj1.<base64url of: secret (16 bytes) | SHA-256 of the authority's certificate, first 16 | crc32>
//! ```

use crate::identity::IdentityError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "fsj1.";
const BYTES: usize = 36;

/// A one-time token. It is shown once, to who is to join; the cluster keeps its id and key only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: [u8; 16],
    /// First half of SHA-256 of the authority's certificate.
    authority: [u8; 16],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(hidden)")
    }
}

/// Names a token without telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

/// What proofs are checked with. Who has it can join, while the token is valid.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey(pub [u8; 32]);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(hidden)")
    }
}

/// Shows that the sender has the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

/// A text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token, or a part of one; it begins with fsj1. and has 53 characters")]
pub struct NotAToken;

impl JoinToken {
    /// A new one, for an authority with this fingerprint.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn generate(fingerprint: [u8; 32]) -> Result<Self, IdentityError> {
        let mut secret = [0; 16];
        let drawn = SystemRandom::new().fill(&mut secret);
        drawn.map_err(|_| IdentityError::Make {
            what: "token",
            why: "no randomness".into(),
        })?;
        let authority = half(&fingerprint);
        Ok(Self { secret, authority })
    }

    /// The text to paste. A secret until it is used, so it is not what `Display` shows.
    pub fn to_text(&self) -> String {
        let mut bytes = [self.secret, self.authority].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Names it.
    pub fn id(&self) -> TokenId {
        let id = self.derive(b"flowstone join id");
        TokenId(*id.first_chunk().expect("a tag has 32 bytes"))
    }

    /// What its proofs are checked with.
    pub fn key(&self) -> TokenKey {
        TokenKey(self.derive(b"flowstone join key"))
    }

    /// Whether an authority with this fingerprint is the one to meet.
    pub(crate) fn is_for(&self, fingerprint: &[u8; 32]) -> bool {
        self.authority == half(fingerprint)
    }

    fn derive(&self, label: &[u8]) -> [u8; 32] {
        tag(&self.secret, label)
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(NotAToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAToken)?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| NotAToken)?;
        let (both, crc) = bytes.split_at(BYTES - 4);
        if crc32fast::hash(both).to_le_bytes() != crc {
            return Err(NotAToken);
        }
        let (secret, authority) = both.split_at(16);
        let part = |bytes: &[u8]| bytes.try_into().map_err(|_| NotAToken);
        Ok(Self {
            secret: part(secret)?,
            authority: part(authority)?,
        })
    }
}

impl TokenKey {
    /// Proves it over some bytes.
    pub fn prove(&self, over: &[u8]) -> Proof {
        Proof(tag(&self.0, over))
    }

    /// Whether a proof is of this key and these bytes; takes as long for every wrong one.
    pub fn holds(&self, proof: &Proof, over: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::verify(&key, over, &proof.0).is_ok()
    }
}

fn tag(key: &[u8], over: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, over);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

fn half(fingerprint: &[u8; 32]) -> [u8; 16] {
    *fingerprint.first_chunk().expect("32 bytes have a half")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_text_and_every_slip_is_seen() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let text = token.to_text();
        assert_eq!(text.len(), 53, "{text}");
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(wrong.parse::<JoinToken>(), Err(NotAToken), "{wrong}");
            assert!(text[..at].parse::<JoinToken>().is_err());
        }
        assert!(token.is_for(&[7; 32]) && !token.is_for(&[8; 32]));
        let shown = format!("{token:?} {:?}", token.key());
        assert_eq!(shown, "JoinToken(hidden) TokenKey(hidden)");
    }

    #[test]
    fn a_proof_is_of_a_key_and_of_bytes() {
        let key = JoinToken::generate([7; 32]).unwrap().key();
        let other = JoinToken::generate([7; 32]).unwrap().key();
        let proof = key.prove(b"this");
        assert!(key.holds(&proof, b"this"));
        assert!(!key.holds(&proof, b"that") && !other.holds(&proof, b"this"));
    }
}
