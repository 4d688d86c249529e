//! The cluster's certificate authority: who has it decides who is a node.

use super::error::IdentityError;
use super::key::PublicKey;
use super::name::{ClusterId, NodeName};
use super::trust::{TrustedCa, fingerprint};
use crate::limits::{AUTHORITY_LIFE_S, BACKDATED_S, NODE_LIFE_S};
use flowstone_wire::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// From when and for how long a certificate holds, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The present time, since 1970. The certificate begins [`BACKDATED_S`] earlier.
    pub now_s: u64,
    /// How long from now on.
    pub life_s: u64,
}

impl Term {
    /// That of a node's certificate, [`NODE_LIFE_S`], from now on.
    pub fn of_node(now_s: u64) -> Self {
        let life_s = NODE_LIFE_S;
        Self { now_s, life_s }
    }

    /// That of a node's certificate whose operator wants another life than [`NODE_LIFE_S`], in hours.
    pub fn of_hours(now_s: u64, hours: u64) -> Self {
        let life_s = hours.saturating_mul(3600);
        Self { now_s, life_s }
    }

    /// That of an authority, [`AUTHORITY_LIFE_S`], from now on.
    pub fn of_authority(now_s: u64) -> Self {
        let life_s = AUTHORITY_LIFE_S;
        Self { now_s, life_s }
    }

    fn until_s(self) -> u64 {
        self.now_s.saturating_add(self.life_s)
    }
}

/// A certificate that an authority has issued to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// DER.
    pub certificate: Vec<u8>,
    /// The certificate of the authority, DER: a joiner compares it with its token.
    pub issuer: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub from_s: u64,
    /// The last second it holds.
    pub until_s: u64,
}

/// A certificate authority with its private key.
pub struct Authority {
    cluster: ClusterId,
    /// 1 for the first one of a cluster. It is in the name, so that two of them are told apart.
    generation: u32,
    key: KeyPair,
    certificate: Vec<u8>,
    until_s: u64,
}

/// What is stored of an authority.
#[derive(Serialize, Deserialize)]
struct Stored {
    cluster: ClusterId,
    generation: u32,
    key: Vec<u8>,
    certificate: Vec<u8>,
    until_s: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, .. } = self;
        let generation = self.generation;
        write!(
            f,
            "Authority({cluster} generation {generation}, key hidden)"
        )
    }
}

impl Authority {
    /// The first authority of a new cluster.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn found(cluster: ClusterId, term: Term) -> Result<Self, IdentityError> {
        Self::make(cluster, 1, term)
    }

    /// The one that replaces this one, with a key of its own. Both are to be trusted ([`super::Trust::and`])
    /// until every node has a certificate of the new one.
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn successor(&self, term: Term) -> Result<Self, IdentityError> {
        Self::make(self.cluster, self.generation.saturating_add(1), term)
    }

    fn make(cluster: ClusterId, generation: u32, term: Term) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(made("key"))?;
        let mut params = params(cluster, generation);
        (params.not_before, params.not_after) = dates(term)?;
        let certificate = params.self_signed(&key).map_err(made("authority"))?;
        Ok(Self {
            cluster,
            generation,
            key,
            certificate: certificate.der().to_vec(),
            until_s: term.until_s(),
        })
    }

    /// Whose authority it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The public part, for those who are to believe it.
    pub fn trusted(&self) -> TrustedCa {
        TrustedCa {
            certificate: self.certificate.clone(),
            until_s: self.until_s,
        }
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// Says that this key is that node's. The key must be proven first ([`super::CertificateRequest::check`]).
    ///
    /// # Errors
    /// [`IdentityError::Make`].
    pub fn issue(
        &self,
        node: NodeId,
        key: &PublicKey,
        term: Term,
    ) -> Result<Issued, IdentityError> {
        let cluster = self.cluster;
        let name = NodeName { node, cluster }.to_string();
        let mut params = CertificateParams::new(vec![name.clone()]).map_err(made("name"))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = dates(term)?;
        let of_authority = self::params(self.cluster, self.generation);
        let issuer = Issuer::from_params(&of_authority, &self.key);
        let certificate = params
            .signed_by(&Subject(key), &issuer)
            .map_err(made("certificate"))?;
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            issuer: self.certificate.clone(),
            from_s: term.now_s,
            until_s: term.until_s(),
        })
    }

    /// With its private key, to be stored: who reads this can make nodes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            cluster: self.cluster,
            generation: self.generation,
            key: self.key.serialized_der().to_vec(),
            certificate: self.certificate.clone(),
            until_s: self.until_s,
        };
        postcard::to_allocvec(&stored).expect("a vector takes everything")
    }

    /// Reads what [`Self::to_bytes`] has given.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |why: String| IdentityError::Unreadable(why);
        let stored: Stored = postcard::from_bytes(bytes).map_err(|e| unreadable(e.to_string()))?;
        let der = PrivatePkcs8KeyDer::from(stored.key);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
            .map_err(|e| unreadable(e.to_string()))?;
        Ok(Self {
            cluster: stored.cluster,
            generation: stored.generation,
            key,
            certificate: stored.certificate,
            until_s: stored.until_s,
        })
    }
}

/// Of an authority. Its certificates name it by what is said here, so that it is the same in each run.
fn params(cluster: ClusterId, generation: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = rcgen::DistinguishedName::new();
    name.push(
        DnType::CommonName,
        format!("flowstone {cluster} authority {generation}"),
    );
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn dates(term: Term) -> Result<(OffsetDateTime, OffsetDateTime), IdentityError> {
    let date = |at_s: u64| {
        let at = i64::try_from(at_s).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(at).map_err(|e| IdentityError::Make {
            what: "date",
            why: e.to_string(),
        })
    };
    let from_s = term.now_s.saturating_sub(BACKDATED_S);
    Ok((date(from_s)?, date(term.until_s())?))
}

fn made(what: &'static str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |e| IdentityError::Make {
        what,
        why: e.to_string(),
    }
}

/// A key of somebody else, as rcgen wants it.
struct Subject<'a>(&'a PublicKey);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}
