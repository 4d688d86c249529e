//! Renewing a node's certificate over the connection that the old one has made.

use crate::BoxFuture;
use crate::call::{CallFailure, CallHandler};
use crate::endpoint::PeerEndpoint;
use crate::error::PeerError;
use crate::identity::authority::Issued;
use crate::identity::{CertificateRequest, Credentials, IdentityError, NodeKey, PublicKey, Trust};
use bytes::Bytes;
use flowstone_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The kind of the call: small, and before others.
pub const RENEW_KIND: u16 = 1;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer to a request for a new certificate.
#[derive(Serialize, Deserialize)]
struct Renewed {
    issued: Issued,
    trust: Trust,
}

/// Issues a certificate to a node that the catalog still lists, and says whom to believe now.
pub type Issue =
    dyn Fn(NodeId, PublicKey) -> BoxFuture<Result<(Issued, Trust), String>> + Send + Sync;

/// Answers [`RENEW_KIND`]: for [`PeerEndpoint::register`], on nodes that have the authority.
pub struct RenewalHandler(pub Arc<Issue>);

impl CallHandler for RenewalHandler {
    fn call(
        &self,
        from: NodeId,
        request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        let asked = checked(from, &request);
        let issue = self.0.clone();
        Box::pin(async move {
            let key = asked.map_err(|e| CallFailure(e.to_string()))?;
            let (issued, trust) = issue(from, key).await.map_err(CallFailure)?;
            let answer = postcard::to_allocvec(&Renewed { issued, trust });
            Ok(answer.expect("a vector takes everything").into())
        })
    }
}

fn checked(from: NodeId, request: &[u8]) -> Result<PublicKey, IdentityError> {
    let request: CertificateRequest =
        postcard::from_bytes(request).map_err(|_| IdentityError::BadRequest)?;
    request.check(&binding(from))
}

/// What a request is signed over, beside its key: for whom it is.
fn binding(node: NodeId) -> Vec<u8> {
    format!("renewal of node {node}").into_bytes()
}

/// Gets a new key and certificate from a node that has the authority, and begins to use it. The caller
/// stores what this returns, and asks again at [`Credentials::renew_at_s`].
///
/// # Errors
/// [`PeerError`]; the old certificate stays in use.
pub async fn renew(endpoint: &PeerEndpoint, by: NodeId) -> Result<Credentials, PeerError> {
    let refused = |e: IdentityError| PeerError::Refused(e.to_string());
    let own = endpoint.credentials();
    let key = NodeKey::generate().map_err(refused)?;
    let request = key.request(&binding(own.name.node));
    let request = postcard::to_allocvec(&request).expect("a vector takes everything");
    let answer = endpoint
        .call(by, RENEW_KIND, request.into(), TIMEOUT)
        .await?;
    let renewed: Renewed = postcard::from_bytes(&answer).map_err(|e| {
        PeerError::Refused(format!("node {by} answered what is no certificate: {e}"))
    })?;
    take(endpoint, key, renewed)
}

/// The same on a node that has the authority, where no other one answers.
///
/// # Errors
/// [`PeerError::Refused`]; the old certificate stays in use.
pub async fn renew_here(endpoint: &PeerEndpoint, issue: &Issue) -> Result<Credentials, PeerError> {
    let key = NodeKey::generate().map_err(|e| PeerError::Refused(e.to_string()))?;
    let issued = issue(endpoint.credentials().name.node, key.public()).await;
    let (issued, trust) = issued.map_err(PeerError::Refused)?;
    take(endpoint, key, Renewed { issued, trust })
}

fn take(endpoint: &PeerEndpoint, key: NodeKey, renewed: Renewed) -> Result<Credentials, PeerError> {
    if !renewed.trust.is_sound() {
        let why = "the answer to a request for a certificate trusts nobody";
        return Err(PeerError::Refused(why.into()));
    }
    let next = Credentials {
        name: endpoint.credentials().name,
        key,
        issued: renewed.issued,
        trust: renewed.trust,
    };
    let set = endpoint.set_credentials(next.clone());
    set.map_err(|e| PeerError::Refused(e.to_string()))?;
    Ok(next)
}
