//! The joiner's side: it believes the authority that its token names, and nobody else.

use super::admission::channel;
use super::error::JoinError;
use super::message::{Admitted, JoinRequest, MemberAddress, decode_answer};
use super::token::{JoinToken, Proof};
use crate::clock::Clock;
use crate::identity::check::name_in;
use crate::identity::tls::{self, Judge, Verdict};
use crate::identity::trust::fingerprint;
use crate::identity::{
    ClusterId, Credentials, IdentityError, NodeKey, NodeName, Side, Trust, TrustedCa, check,
};
use crate::limits::{ADMITTED_BYTES_MAX, CHAIN_MAX, GREETING_TIMEOUT, JOIN_TIMEOUT};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between the first time that it asks and the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// It doubles up to this.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// One that wants to become a node.
#[derive(Debug)]
pub struct Joiner {
    /// Its token.
    pub token: JoinToken,
    /// Nodes of the cluster, tried in this order.
    pub cluster: Vec<SocketAddr>,
    /// Its key. It should be on disk before: a second try with the same key gets the same answer.
    pub key: NodeKey,
    /// Where the others will reach it.
    pub addresses: Vec<SocketAddr>,
    /// For the catalog.
    pub note: Vec<u8>,
    /// What certificates are held against.
    pub clock: Clock,
    /// How long it asks again after an answer that may be another one a moment later; zero asks once.
    pub patience: Duration,
}

/// What has come of it.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Who it is now; to be stored before anything else.
    pub credentials: Credentials,
    /// The others.
    pub members: Vec<MemberAddress>,
    /// From the catalog.
    pub note: Vec<u8>,
}

impl Joiner {
    /// Joins by the first node that answers, and asks again for as long as its patience lasts: a cluster that
    /// takes several nodes at once, or elects a leader, cannot always decide at once. Needs a tokio runtime
    /// with time and I/O.
    ///
    /// # Errors
    /// [`JoinError`]; of several addresses the error of the last one that was tried. Once a node has refused,
    /// no other one is tried.
    pub async fn join(self) -> Result<Joined, JoinError> {
        let end = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.join_by_any().await {
                Err(error) if error.may_pass() && Instant::now() + pause < end => {
                    tracing::warn!(%error, "not joined yet, asks again");
                }
                joined => return joined,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn join_by_any(&self) -> Result<Joined, JoinError> {
        let mut last = JoinError::NoAddress;
        for address in &self.cluster {
            match self.join_by(*address).await {
                Err(
                    error @ (JoinError::Unreachable { .. }
                    | JoinError::NotBelieved { .. }
                    | JoinError::WrongAuthority { .. }),
                ) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn join_by(&self, address: SocketAddr) -> Result<Joined, JoinError> {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let endpoint = quinn::Endpoint::client(any).map_err(|e| local(&e))?;
        let connection = self.dial(&endpoint, address).await?;
        let asked = tokio::time::timeout(JOIN_TIMEOUT, self.ask(&connection)).await;
        let lost = |why: String| JoinError::Lost { address, why };
        let answer = match asked {
            Err(_) => Err(lost("no answer in time".into())),
            Ok(Err(why)) => Err(lost(why)),
            Ok(Ok(bytes)) => decode_answer(&bytes).map_err(JoinError::BadAnswer),
        };
        let server = server_name(&connection);
        connection.close(quinn::VarInt::from_u32(0), b"done");
        endpoint.wait_idle().await;
        let admitted = answer?.map_err(JoinError::Refused)?;
        let cluster = server.map_err(|why| JoinError::NotBelieved { address, why })?;
        self.take(admitted, cluster.cluster)
            .map_err(|e| JoinError::BadAnswer(e.to_string()))
    }

    async fn dial(
        &self,
        endpoint: &quinn::Endpoint,
        address: SocketAddr,
    ) -> Result<quinn::Connection, JoinError> {
        let verdict = Verdict::default();
        let (token, clock) = (self.token.clone(), self.clock.clone());
        let judge = Judge::new(verdict.clone(), move |chain| {
            pinned(chain, &token, clock.now_s())
        });
        let config = tls::joiner(judge).map_err(|e| local(&e))?;
        let config = QuicClientConfig::try_from(config).map_err(|e| local(&e))?;
        let config = quinn::ClientConfig::new(Arc::new(config));
        let unreachable = |why: String| JoinError::Unreachable { address, why };
        let connecting = endpoint
            .connect_with(config, address, "join.flowstone")
            .map_err(|e| unreachable(e.to_string()))?;
        let connected = tokio::time::timeout(GREETING_TIMEOUT, connecting).await;
        let why = match connected {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "no answer in time".into(),
        };
        Err(match verdict.take() {
            Some(IdentityError::UnknownAuthority) => JoinError::WrongAuthority { address },
            Some(why) => JoinError::NotBelieved { address, why },
            None => unreachable(why),
        })
    }

    /// The handshake is over: who is there has a certificate of the token's authority.
    async fn ask(&self, connection: &quinn::Connection) -> Result<Vec<u8>, String> {
        let channel = channel(connection)?;
        let mut request = JoinRequest {
            token: self.token.id(),
            certificate: self.key.request(&channel),
            addresses: self.addresses.clone(),
            note: self.note.clone(),
            proof: Proof([0; 32]),
        };
        request.prove(&self.token.key(), &channel);
        let bytes = postcard::to_allocvec(&request).expect("a vector takes everything");
        let (mut send, mut receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
        send.write_all(&bytes).await.map_err(|e| e.to_string())?;
        send.finish().map_err(|e| e.to_string())?;
        let answer = receive.read_to_end(ADMITTED_BYTES_MAX).await;
        answer.map_err(|e| e.to_string())
    }

    fn take(&self, admitted: Admitted, cluster: ClusterId) -> Result<Joined, IdentityError> {
        if admitted.cluster != cluster {
            let (theirs, ours) = (admitted.cluster, cluster);
            return Err(IdentityError::WrongCluster { theirs, ours });
        }
        let authorities = admitted.trust.authorities();
        if !authorities
            .iter()
            .any(|a| self.token.is_for(&a.fingerprint()))
        {
            return Err(IdentityError::UnknownAuthority);
        }
        let node = admitted.node;
        let credentials = Credentials {
            name: NodeName { node, cluster },
            key: self.key.clone(),
            issued: admitted.issued,
            trust: admitted.trust,
        };
        credentials.check(self.clock.now_s())?;
        Ok(Joined {
            credentials,
            members: admitted.members,
            note: admitted.note,
        })
    }
}

/// Believes a node whose authority is the one that the token names.
fn pinned(
    chain: &[CertificateDer<'_>],
    token: &JoinToken,
    now_s: u64,
) -> Result<(), IdentityError> {
    let authorities = chain.iter().take(CHAIN_MAX).skip(1);
    let mut named = authorities.filter(|der| token.is_for(&fingerprint(der)));
    let authority = named.next().ok_or(IdentityError::UnknownAuthority)?;
    let trust = Trust::only(TrustedCa {
        certificate: authority.to_vec(),
        until_s: u64::MAX,
    });
    let shown = chain.first().ok_or(IdentityError::NoCertificate)?;
    let name = name_in(shown)?;
    check(chain, &trust, Side::Dialled(name.node), name.cluster, now_s).map(|_| ())
}

fn server_name(connection: &quinn::Connection) -> Result<NodeName, IdentityError> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.ok_or(IdentityError::NoCertificate)?;
    name_in(chain.first().ok_or(IdentityError::NoCertificate)?)
}

fn local(error: &dyn std::fmt::Display) -> JoinError {
    JoinError::Local(error.to_string())
}
