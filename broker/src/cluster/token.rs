//! Tokens, with which a node joins once.

use super::Cluster;
use super::found::authority_of;
use crate::service::Service;
use crate::worker::unix_ms;
use flowstone_core::catalog::{ClusterCommand, Command, Role, Token};
use flowstone_peer::join::JoinToken;
use flowstone_wire::native::{MakeToken, TokenAnswer};
use flowstone_wire::{ErrorCode, Failure};
use std::sync::Arc;

/// A token that nobody uses is forgotten after so long, at most.
const VALID_S_MAX: u64 = 7 * 24 * 3600;

impl Cluster {
    /// Makes a token: whoever has it becomes a node, once.
    ///
    /// # Errors
    /// What the catalog says.
    pub(crate) async fn make_token(
        &self,
        service: Arc<Service>,
        asked: &MakeToken,
    ) -> Result<TokenAnswer, Failure> {
        let internal = |what: String| Failure::new(ErrorCode::Internal, what);
        if asked.valid_s == 0 || asked.valid_s > VALID_S_MAX {
            let what = format!("a token is valid for 1 to {VALID_S_MAX} seconds");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let authority = authority_of(service.catalog_store()).map_err(internal)?;
        let authority = authority.ok_or_else(|| {
            let what = "this node has not heard of the cluster's authority yet; try again";
            Failure::new(ErrorCode::CatalogUnavailable, what)
        })?;
        let token = JoinToken::generate(authority.fingerprint());
        let token = token.map_err(|e| internal(e.to_string()))?;
        let now_ms = u64::try_from(unix_ms()).unwrap_or(0);
        let role = if asked.witness {
            Role::Witness
        } else {
            Role::Data
        };
        let command = ClusterCommand::AddToken {
            hash: token.key().0,
            token: Token {
                role,
                expires_ms: now_ms.saturating_add(asked.valid_s * 1000),
            },
            now_ms,
        };
        service.clone().command(Command::Cluster(command)).await?;
        let me = service.catalog().node(self.me).cloned();
        let address = me.map(|n| n.addresses.peer).filter(|a| !a.is_empty());
        let address = address.unwrap_or_else(|| self.address.to_string());
        Ok(TokenAnswer {
            token: format!("{}@{address}", token.to_text()),
        })
    }
}
