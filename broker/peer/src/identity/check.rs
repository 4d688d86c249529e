//! Whether a certificate is that of a node of the cluster: every rule, and one answer.

use super::error::IdentityError;
use super::key::PublicKey;
use super::name::{ClusterId, NodeName};
use super::trust::Trust;
use crate::limits::{CHAIN_MAX, CLOCK_SKEW_S};
use flowstone_wire::NodeId;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, Error, KeyUsage};

/// On which side of a connection the certificate was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// By the one that was dialled, as this node.
    Dialled(NodeId),
    /// By the one that dialled.
    Accepted,
}

/// Whose certificate it is, if it is that of a node of this cluster. `now_s` is in seconds since 1970;
/// clocks may differ by [`CLOCK_SKEW_S`].
///
/// # Errors
/// [`IdentityError`].
pub fn check(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    side: Side,
    cluster: ClusterId,
    now_s: u64,
) -> Result<NodeId, IdentityError> {
    let shown = chain.first().ok_or(IdentityError::NoCertificate)?;
    let certificate = parse(shown)?;
    // The name comes first: "of another cluster" says more than "of an unknown authority".
    let name = name_of(&certificate)?;
    if name.cluster != cluster {
        let (theirs, ours) = (name.cluster, cluster);
        return Err(IdentityError::WrongCluster { theirs, ours });
    }
    let others = chain.get(1..CHAIN_MAX.min(chain.len())).unwrap_or(&[]);
    let anchors = anchors(trust, now_s)?;
    verify(&certificate, &anchors, others, side, now_s)?;
    match side {
        Side::Dialled(expected) if expected != name.node => {
            let found = name.node;
            Err(IdentityError::WrongNode { expected, found })
        }
        _ => Ok(name.node),
    }
}

/// The name in a certificate, whoever has issued it.
pub(crate) fn name_in(shown: &CertificateDer<'_>) -> Result<NodeName, IdentityError> {
    name_of(&parse(shown)?)
}

/// The key that a certificate is for.
pub(crate) fn key_of(shown: &CertificateDer<'_>) -> Result<PublicKey, IdentityError> {
    let info = parse(shown)?.subject_public_key_info();
    let key = info.as_ref().last_chunk::<32>();
    let key = key.ok_or_else(|| IdentityError::Invalid("its key is no Ed25519 key".into()))?;
    Ok(PublicKey(*key))
}

fn parse<'a>(shown: &'a CertificateDer<'a>) -> Result<EndEntityCert<'a>, IdentityError> {
    EndEntityCert::try_from(shown).map_err(|e| IdentityError::Unreadable(e.to_string()))
}

fn name_of(certificate: &EndEntityCert<'_>) -> Result<NodeName, IdentityError> {
    let mut names = certificate.valid_dns_names();
    let (first, second) = (names.next(), names.next());
    let no_name = |why: &str| IdentityError::NoNodeName(why.to_owned());
    match (first, second) {
        (Some(name), None) => name
            .parse()
            .map_err(|_| no_name("its name has another form")),
        (None, _) => Err(no_name("it has no name")),
        (Some(_), Some(_)) => Err(no_name("it has several names")),
    }
}

fn anchors(trust: &Trust, now_s: u64) -> Result<Vec<TrustAnchor<'static>>, IdentityError> {
    let believed = trust.at(now_s.saturating_sub(CLOCK_SKEW_S));
    let anchors = believed.map(|authority| {
        let der = CertificateDer::from_slice(&authority.certificate);
        let anchor = webpki::anchor_from_trusted_cert(&der);
        anchor
            .map(|a| a.to_owned())
            .map_err(|e| IdentityError::Unreadable(e.to_string()))
    });
    anchors.collect()
}

fn verify(
    certificate: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    others: &[CertificateDer<'_>],
    side: Side,
    now_s: u64,
) -> Result<(), IdentityError> {
    let at = |at_s| verify_at(certificate, anchors, others, side, at_s);
    match at(now_s) {
        Err(Error::CertNotValidYet { not_before, .. }) => {
            let in_s = not_before.as_secs().saturating_sub(now_s);
            if in_s > CLOCK_SKEW_S {
                return Err(IdentityError::NotYetValid { in_s });
            }
            at(not_before.as_secs()).map_err(told)
        }
        Err(Error::CertExpired { not_after, .. }) => {
            let ago_s = now_s.saturating_sub(not_after.as_secs());
            if ago_s > CLOCK_SKEW_S {
                return Err(IdentityError::Expired { ago_s });
            }
            at(not_after.as_secs()).map_err(told)
        }
        other => other.map_err(told),
    }
}

fn verify_at(
    certificate: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    others: &[CertificateDer<'_>],
    side: Side,
    at_s: u64,
) -> Result<(), Error> {
    let usage = match side {
        Side::Dialled(_) => KeyUsage::server_auth(),
        Side::Accepted => KeyUsage::client_auth(),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    certificate
        .verify_for_usage(algorithms, anchors, others, time, usage, None, None)
        .map(|_| ())
}

fn told(error: Error) -> IdentityError {
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
            IdentityError::UnknownAuthority
        }
        other => IdentityError::Invalid(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
