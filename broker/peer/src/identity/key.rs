//! Ed25519 keys of nodes, and asking for a certificate.
//!
//! A request is a public key and a signature that only its owner can make. PKCS #10 would say the same in
//! a format that takes a parser of its own, for names which the authority chooses anyway.

use super::error::IdentityError;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands before everything that is signed to ask for a certificate.
const REQUEST_CONTEXT: &[u8] = b"flowstone certificate request 1\0";

/// The private key of a node. It is not printed, and leaves the process for its file only.
pub struct NodeKey {
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(hidden)")
    }
}

impl Clone for NodeKey {
    fn clone(&self) -> Self {
        Self::from_pkcs8(self.pkcs8.clone()).expect("it was read from the same bytes before")
    }
}

impl NodeKey {
    /// A new one, from the kernel's randomness.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn generate() -> Result<Self, IdentityError> {
        let failed = |_| IdentityError::Make {
            what: "key",
            why: "no randomness".into(),
        };
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Reads PKCS #8.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, IdentityError> {
        let failed = |why: ring::error::KeyRejected| IdentityError::Make {
            what: "key",
            why: why.to_string(),
        };
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(failed)?;
        Ok(Self { pkcs8, pair })
    }

    /// As PKCS #8, for its file and for TLS.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A copy as PKCS #8, for whoever stores it elsewhere.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.pkcs8.clone()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref().try_into();
        PublicKey(bytes.expect("an Ed25519 key has 32 bytes"))
    }

    /// Asks for a certificate. `binding` says on which occasion: a request cannot be used on another one.
    pub fn request(&self, binding: &[u8]) -> CertificateRequest {
        let public_key = self.public();
        let signature = self.pair.sign(&signed(&public_key, binding));
        let (r, s) = signature.as_ref().split_at(32);
        let half = |bytes: &[u8]| bytes.try_into().expect("an Ed25519 signature has 64 bytes");
        CertificateRequest {
            public_key,
            signature: [half(r), half(s)],
        }
    }
}

/// The public key of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// Asks for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// For this key.
    pub public_key: PublicKey,
    signature: [[u8; 32]; 2],
}

impl CertificateRequest {
    /// Whether the asker has the private key, and asked on this occasion.
    ///
    /// # Errors
    /// [`IdentityError::BadRequest`].
    pub fn check(&self, binding: &[u8]) -> Result<PublicKey, IdentityError> {
        let key = UnparsedPublicKey::new(&ED25519, self.public_key.0);
        let signature = self.signature.concat();
        key.verify(&signed(&self.public_key, binding), &signature)
            .map_err(|_| IdentityError::BadRequest)?;
        Ok(self.public_key)
    }
}

fn signed(key: &PublicKey, binding: &[u8]) -> Vec<u8> {
    [REQUEST_CONTEXT, &key.0, binding].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_for_its_key_and_occasion() {
        let key = NodeKey::generate().unwrap();
        let request = key.request(b"here");
        assert_eq!(request.check(b"here"), Ok(key.public()));
        assert_eq!(request.check(b"there"), Err(IdentityError::BadRequest));
        let mut other = request;
        other.public_key = NodeKey::generate().unwrap().public();
        assert_eq!(other.check(b"here"), Err(IdentityError::BadRequest));
        assert_eq!(format!("{key:?}"), "NodeKey(hidden)");
    }
}
