//! Mutual TLS 1.3 for QUIC: what is shown, and what of others is believed.
//!
//! A listener does not insist on a certificate in the handshake, because a joiner has none; it knows by the
//! protocol that was agreed on (ALPN) whether it is a joiner, and lets nobody else in without one.

use super::check::{Side, check};
use super::credentials::Credentials;
use super::error::IdentityError;
use crate::clock::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What nodes of a cluster speak.
pub(crate) const ALPN_PEER: &[u8] = b"flowstone-peer/1";
/// What one speaks that wants to become a node.
pub(crate) const ALPN_JOIN: &[u8] = b"flowstone-join/1";

/// Why a handshake has failed, beside what TLS can say of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<IdentityError>>>);

impl Verdict {
    fn note(&self, error: &IdentityError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    pub(crate) fn take(&self) -> Option<IdentityError> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.take()
    }
}

/// Judges a certificate by a rule of ours.
type Rule = dyn Fn(&[CertificateDer<'_>]) -> Result<(), IdentityError> + Send + Sync;

/// A verifier that asks a rule of ours, and leaves signatures to rustls.
pub(crate) struct Judge {
    rule: Box<Rule>,
    verdict: Verdict,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

impl Judge {
    pub(crate) fn new(
        verdict: Verdict,
        rule: impl Fn(&[CertificateDer<'_>]) -> Result<(), IdentityError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            verdict,
            algorithms: provider().signature_verification_algorithms,
        })
    }

    fn judge(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let mut chain = vec![first.clone()];
        chain.extend_from_slice(others);
        (self.rule)(&chain).map_err(|error| {
            self.verdict.note(&error);
            rustls::Error::InvalidCertificate(alert(error))
        })
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// The nearest that TLS can say: the other side learns no more than this.
fn alert(error: IdentityError) -> CertificateError {
    match error {
        IdentityError::Expired { .. } => CertificateError::Expired,
        IdentityError::NotYetValid { .. } => CertificateError::NotValidYet,
        IdentityError::UnknownAuthority => CertificateError::UnknownIssuer,
        IdentityError::WrongCluster { .. } => CertificateError::ApplicationVerificationFailure,
        IdentityError::WrongNode { .. } => CertificateError::NotValidForName,
        IdentityError::Unreadable(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(first, others)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(first, others)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// ring, with AES-128 first: every handshake of ours agrees on it, and it costs the least per byte.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// For those who dial this node, nodes and joiners.
pub(crate) fn server(
    own: &Credentials,
    clock: &Clock,
    verdict: Verdict,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let (trust, cluster, clock) = (own.trust.clone(), own.name.cluster, clock.clone());
    let judge = Judge::new(verdict, move |chain| {
        check(chain, &trust, Side::Accepted, cluster, clock.now_s()).map(|_| ())
    });
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(judge)
        .with_single_cert(own.chain(), key(own))?;
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_JOIN.to_vec()];
    // Every handshake is a whole one: what is resumed was judged some time ago.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For dialling other nodes as this node.
pub(crate) fn client(
    own: &Credentials,
    judge: Arc<Judge>,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let config = dialler(judge)?.with_client_auth_cert(own.chain(), key(own))?;
    Ok(speaking(config, ALPN_PEER))
}

/// For dialling as one that is no node yet.
pub(crate) fn joiner(judge: Arc<Judge>) -> Result<rustls::ClientConfig, rustls::Error> {
    Ok(speaking(dialler(judge)?.with_no_client_auth(), ALPN_JOIN))
}

type Dialler = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn dialler(judge: Arc<Judge>) -> Result<Dialler, rustls::Error> {
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(judge))
}

fn speaking(mut config: rustls::ClientConfig, alpn: &[u8]) -> rustls::ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn key(own: &Credentials) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(own.key.pkcs8().to_vec()).into()
}
