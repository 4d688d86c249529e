//! The cluster as a whole: its number, its authority, how many copies there are, tokens to join it.

use super::nodes::{NodeSpec, Role};
use super::{Catalog, Event, Row};
use flowstone_wire::{ErrorCode, Failure, name};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most copies of a shard.
pub const COPIES_MAX: u8 = 7;
/// Most tokens that are good at a time.
const TOKENS_MAX: usize = 100;
/// Largest certificate or key of the authority, in bytes.
const AUTHORITY_BYTES_MAX: usize = 16 << 10;
/// Most placement groups with a number of copies of their own.
const GROUPS_MAX: usize = 10_000;

/// A hash of a token or a certificate (SHA-256); what is hashed is not kept.
pub type Hash = [u8; 32];

/// What is said of a cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// 128 bits in hexadecimal, drawn when it was founded.
    pub id: String,
    /// How many copies a shard has, if no placement group on it wants another number.
    pub copies: u8,
    /// The number of the next node. Never goes down, so no number is given twice.
    pub next_node: u32,
}

/// Who signs the certificates of nodes: opaque to the catalog.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// Its key. Every voter has it, since any of them may have to sign.
    pub key: Vec<u8>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} bytes)", self.certificate.len())
    }
}

/// What a token is good for, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What the node will be.
    pub role: Role,
    /// Until when, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// Something of the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// Make this catalog that of a cluster, with its first node; once.
    Found {
        /// The cluster's number.
        id: String,
        /// The first node.
        node: NodeSpec,
    },
    /// Have a certain number of copies.
    SetCopies {
        /// Of what is in this placement group; `None`: of everything else.
        group: Option<String>,
        /// How many; `None`: as many as everything else.
        copies: Option<u8>,
    },
    /// Sign with this from now on.
    SetAuthority(Authority),
    /// Let one node join.
    AddToken {
        /// The hash of the token.
        hash: Hash,
        /// What it is good for.
        token: Token,
        /// The time, in milliseconds since 1970: tokens that have expired are forgotten.
        now_ms: u64,
    },
    /// Take a token back.
    RemoveToken {
        /// The hash of the token.
        hash: Hash,
    },
}

type Applied = Result<(Event, Vec<Row>), Failure>;

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, what)
}

impl Catalog {
    pub(super) fn apply_to_cluster(&mut self, command: ClusterCommand) -> Applied {
        let rows = match command {
            ClusterCommand::Found { id, node } => self.found(id, node)?,
            ClusterCommand::SetCopies { group, copies } => self.set_copies(group, copies)?,
            ClusterCommand::SetAuthority(authority) => self.set_authority(authority)?,
            ClusterCommand::AddToken {
                hash,
                token,
                now_ms,
            } => self.add_token(hash, token, now_ms)?,
            ClusterCommand::RemoveToken { hash } => {
                self.tokens.remove(&hash);
                vec![Row::no_token(&hash)]
            }
        };
        Ok((Event::ClusterChanged, rows))
    }

    fn found(&mut self, id: String, node: NodeSpec) -> Result<Vec<Row>, Failure> {
        if let Some(cluster) = &self.cluster {
            return Err(invalid(format!(
                "this catalog is that of cluster {} already",
                cluster.id
            )));
        }
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid("a cluster's number is hexadecimal"));
        }
        node.check()?;
        self.cluster = Some(Cluster {
            id,
            copies: 1,
            next_node: 1,
        });
        let (_, rows) = self.add_node(node, true);
        Ok(rows)
    }

    fn set_copies(
        &mut self,
        group: Option<String>,
        copies: Option<u8>,
    ) -> Result<Vec<Row>, Failure> {
        if copies.is_some_and(|n| n == 0 || n > COPIES_MAX) {
            return Err(invalid(format!("there are 1 to {COPIES_MAX} copies")));
        }
        let Some(group) = group else {
            let copies = copies.ok_or_else(|| invalid("say how many copies"))?;
            let cluster = self.cluster.as_mut().ok_or_else(not_founded)?;
            cluster.copies = copies;
            return Ok(vec![Row::cluster(cluster)]);
        };
        name::check("placement group", &group)?;
        let row = Row::copies(&group, copies);
        match copies {
            None => drop(self.copies.remove(&group)),
            Some(_) if self.copies.len() >= GROUPS_MAX && !self.copies.contains_key(&group) => {
                let what = format!("{GROUPS_MAX} placement groups have a number of their own");
                return Err(Failure::new(ErrorCode::LimitReached, what));
            }
            Some(copies) => drop(self.copies.insert(group, copies)),
        }
        Ok(vec![row])
    }

    fn set_authority(&mut self, authority: Authority) -> Result<Vec<Row>, Failure> {
        let largest = authority.certificate.len().max(authority.key.len());
        if largest > AUTHORITY_BYTES_MAX {
            let what = format!("an authority of {largest} bytes is over {AUTHORITY_BYTES_MAX}");
            return Err(Failure::new(ErrorCode::TooLarge, what));
        }
        let row = Row::authority(&authority);
        self.authority = Some(authority);
        Ok(vec![row])
    }

    fn add_token(&mut self, hash: Hash, token: Token, now_ms: u64) -> Result<Vec<Row>, Failure> {
        self.cluster.as_ref().ok_or_else(not_founded)?;
        let mut rows = self.forget_expired(now_ms);
        if self.tokens.len() >= TOKENS_MAX {
            let what = format!("{TOKENS_MAX} tokens are waiting to be used; take one back");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        if token.expires_ms <= now_ms {
            return Err(invalid("the token would have expired already"));
        }
        self.tokens.insert(hash, token);
        rows.push(Row::token(&hash, &token));
        Ok(rows)
    }

    fn forget_expired(&mut self, now_ms: u64) -> Vec<Row> {
        let old = self.tokens.iter().filter(|(_, t)| t.expires_ms <= now_ms);
        let old: Vec<Hash> = old.map(|(hash, _)| *hash).collect();
        for hash in &old {
            self.tokens.remove(hash);
        }
        old.iter().map(Row::no_token).collect()
    }

    /// The cluster that this catalog is of; `None` before it was founded.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Who signs the certificates of nodes.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The tokens that are waiting to be used, by their hashes.
    pub fn tokens(&self) -> impl Iterator<Item = (&Hash, &Token)> {
        self.tokens.iter()
    }
}

pub(super) fn not_founded() -> Failure {
    invalid("this catalog is of no cluster yet; start the node once")
}
