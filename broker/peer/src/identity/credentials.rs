//! What a node shows to others, and when it wants a new certificate.

use super::authority::Issued;
use super::check::{Side, check, key_of};
use super::error::IdentityError;
use super::key::NodeKey;
use super::name::NodeName;
use super::trust::Trust;
use rustls::pki_types::CertificateDer;

/// What a node shows to others, and whom it believes.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who it is.
    pub name: NodeName,
    /// Its private key.
    pub key: NodeKey,
    /// Its certificate, for that key.
    pub issued: Issued,
    /// Whose certificates it believes.
    pub trust: Trust,
}

impl Credentials {
    /// Whether the parts belong together, at a time in seconds since 1970: a certificate of this node for
    /// this key, by an authority that it believes itself.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn check(&self, now_s: u64) -> Result<(), IdentityError> {
        let chain = self.chain();
        let NodeName { node, cluster } = self.name;
        check(&chain, &self.trust, Side::Dialled(node), cluster, now_s)?;
        if key_of(&chain[0])? != self.key.public() {
            return Err(IdentityError::WrongKey);
        }
        Ok(())
    }

    /// The certificate and that of its authority.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let both = [&self.issued.certificate, &self.issued.issuer];
        both.map(|der| CertificateDer::from(der.clone())).to_vec()
    }

    /// When to ask for a new certificate, in seconds since 1970: between one half and two thirds of its
    /// life. The seed spreads the nodes of a cluster.
    pub fn renew_at_s(&self, seed: u64) -> u64 {
        let life_s = self.issued.until_s.saturating_sub(self.issued.from_s);
        let spread_s = (life_s / 6).max(1);
        self.issued.from_s + life_s / 2 + seed % spread_s
    }

    /// The same node with a new key and certificate.
    ///
    /// # Errors
    /// [`IdentityError`], where they are not of this node or not for this key.
    pub fn renewed(&self, key: NodeKey, issued: Issued, now_s: u64) -> Result<Self, IdentityError> {
        let next = Self {
            name: self.name,
            key,
            issued,
            trust: self.trust.clone(),
        };
        next.check(now_s)?;
        Ok(next)
    }
}
