//! The node's side of joining: it reads, checks what needs no catalog, and asks the catalog.

use super::message::{Admitted, Answer, JoinRefusal, JoinRequest};
use super::token::{TokenId, TokenKey};
use crate::BoxFuture;
use crate::identity::PublicKey;
use crate::limits::{ADMITTED_BYTES_MAX, JOIN_BYTES_MAX, JOIN_TIMEOUT};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What names the channel of a joiner, for both ends and nobody else.
pub(super) const CHANNEL: &[u8] = b"EXPORTER-flowstone-join";

/// Decides who becomes a node: the catalog.
pub trait Admission: Send + Sync {
    /// Looks the token up, has it proven ([`JoinAsk::is_proven`]), uses it up and gives the node a number and
    /// a certificate for [`JoinAsk::public_key`], all at once or not at all.
    ///
    /// The same token with the same public key should get the same answer again: the first one may not have
    /// arrived.
    fn admit(&self, ask: JoinAsk) -> BoxFuture<Result<Admitted, JoinRefusal>>;
}

/// A joiner's request, with what is known of the connection that it came on.
#[derive(Clone)]
pub struct JoinAsk {
    request: JoinRequest,
    channel: [u8; 32],
    public_key: PublicKey,
    remote: SocketAddr,
}

impl fmt::Debug for JoinAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JoinAsk(token {:?} from {})",
            self.request.token, self.remote
        )
    }
}

impl JoinAsk {
    fn new(
        request: JoinRequest,
        channel: [u8; 32],
        remote: SocketAddr,
    ) -> Result<Self, JoinRefusal> {
        let public_key = request.certificate.check(&channel);
        let public_key = public_key.map_err(|e| JoinRefusal::Request(e.to_string()))?;
        Ok(Self {
            request,
            channel,
            public_key,
            remote,
        })
    }

    /// Which token it says to have.
    pub fn token(&self) -> TokenId {
        self.request.token
    }

    /// Whether it has the token with this key.
    pub fn is_proven(&self, key: &TokenKey) -> bool {
        self.request.is_proven(key, &self.channel)
    }

    /// The key that the certificate is for. The joiner has its private half.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Where it says that others reach it.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.request.addresses
    }

    /// What it wants the catalog to know.
    pub fn note(&self) -> &[u8] {
        &self.request.note
    }

    /// Where it asked from.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

/// Serves one joiner; whatever happens, the connection is over then.
pub(crate) async fn serve(connection: quinn::Connection, admission: Option<Arc<dyn Admission>>) {
    let served = tokio::time::timeout(JOIN_TIMEOUT, answer(&connection, admission)).await;
    let reason: &[u8] = match served {
        Ok(Ok(())) => b"joined or refused",
        Ok(Err(error)) => {
            tracing::info!(remote = %connection.remote_address(), %error, "a joiner went away");
            b"not understood"
        }
        Err(_) => b"too slow",
    };
    connection.close(quinn::VarInt::from_u32(0), reason);
}

async fn answer(
    connection: &quinn::Connection,
    admission: Option<Arc<dyn Admission>>,
) -> Result<(), String> {
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|e| e.to_string())?;
    let bytes = receive.read_to_end(JOIN_BYTES_MAX).await;
    let bytes = bytes.map_err(|e| e.to_string())?;
    let channel = channel(connection)?;
    let remote = connection.remote_address();
    let answer: Answer = match (JoinRequest::decode(&bytes), admission) {
        (Err(why), _) => Err(JoinRefusal::Request(why)),
        (Ok(_), None) => Err(JoinRefusal::NotNow("this node lets nobody join".into())),
        (Ok(request), Some(admission)) => match JoinAsk::new(request, channel, remote) {
            Ok(ask) => admission.admit(ask).await,
            Err(refusal) => Err(refusal),
        },
    };
    if let Err(refusal) = &answer {
        tracing::warn!(%remote, %refusal, "a joiner was refused");
    }
    let text = postcard::to_allocvec(&answer).expect("a vector takes everything");
    if text.len() > ADMITTED_BYTES_MAX {
        return Err(format!("the answer of {} bytes is too long", text.len()));
    }
    send.write_all(&text).await.map_err(|e| e.to_string())?;
    send.finish().map_err(|e| e.to_string())?;
    // The joiner closes the connection, or leaves the stream: then it has everything.
    let _ = send.stopped().await;
    Ok(())
}

/// Names the channel of a connection.
pub(super) fn channel(connection: &quinn::Connection) -> Result<[u8; 32], String> {
    let mut channel = [0; 32];
    let exported = connection.export_keying_material(&mut channel, CHANNEL, b"");
    exported.map_err(|_| "TLS gives no keying material".to_owned())?;
    Ok(channel)
}
