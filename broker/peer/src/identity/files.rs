//! Keys and certificates on disk: one file for what belongs together, 0600, replaced as a whole.

use super::authority::Issued;
use super::credentials::Credentials;
use super::error::IdentityError;
use super::key::NodeKey;
use super::name::NodeName;
use super::trust::{Trust, TrustedCa};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flowstone_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The file of a node's credentials, in its data directory.
pub const CREDENTIALS: &str = "node-identity.toml";

const PREFACE: &str = "# Made by flowstone. Who has this file is this node: keep it to yourself.\n";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    node_id: u32,
    cluster_id: String,
    key: String,
    certificate: String,
    issuer: String,
    from_s: u64,
    until_s: u64,
    authority: Vec<StoredAuthority>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    certificate: String,
    until_s: u64,
}

/// Writes a node's credentials to a file: after a crash there are the old ones, or the new ones.
///
/// # Errors
/// [`IdentityError::File`].
pub fn write_credentials(path: &Path, credentials: &Credentials) -> Result<(), IdentityError> {
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    let authority = |a: &TrustedCa| StoredAuthority {
        certificate: text(&a.certificate),
        until_s: a.until_s,
    };
    let stored = Stored {
        node_id: credentials.name.node.0,
        cluster_id: credentials.name.cluster.to_string(),
        key: text(credentials.key.pkcs8()),
        certificate: text(&credentials.issued.certificate),
        issuer: text(&credentials.issued.issuer),
        from_s: credentials.issued.from_s,
        until_s: credentials.issued.until_s,
        authority: credentials
            .trust
            .authorities()
            .iter()
            .map(authority)
            .collect(),
    };
    let body = toml::to_string(&stored).map_err(|e| failed("write", path, &e))?;
    write_secret(path, format!("{PREFACE}{body}").as_bytes())
}

/// Reads a node's credentials.
///
/// # Errors
/// [`IdentityError::File`]; [`IdentityError::OpenFile`] where others may read the file.
pub fn read_credentials(path: &Path) -> Result<Credentials, IdentityError> {
    let text = String::from_utf8(read_secret(path)?);
    let text = text.map_err(|_| failed("read", path, &"it is no text"))?;
    // What is wrong with it is not quoted: that could be the key.
    let hidden = "it is not what flowstone writes; restore it from a copy, or join again";
    let stored: Stored = toml::from_str(&text).map_err(|_| failed("read", path, &hidden))?;
    let bytes = |text: &str| {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|_| failed("read", path, &hidden))
    };
    let cluster = stored.cluster_id.parse();
    let mut trust: Option<Trust> = None;
    for a in stored.authority.iter().rev() {
        let (certificate, until_s) = (bytes(&a.certificate)?, a.until_s);
        let authority = TrustedCa {
            certificate,
            until_s,
        };
        trust = Some(match trust {
            None => Trust::only(authority),
            Some(trust) => trust.and(authority),
        });
    }
    Ok(Credentials {
        name: NodeName {
            node: NodeId(stored.node_id),
            cluster: cluster.map_err(|e| failed("read", path, &e))?,
        },
        key: NodeKey::from_pkcs8(bytes(&stored.key)?)?,
        issued: Issued {
            certificate: bytes(&stored.certificate)?,
            issuer: bytes(&stored.issuer)?,
            from_s: stored.from_s,
            until_s: stored.until_s,
        },
        trust: trust.ok_or_else(|| failed("read", path, &"it names no authority"))?,
    })
}

/// Writes a secret: 0600 from its first byte on, synced, and put in place of the old one as a whole.
///
/// # Errors
/// [`IdentityError::File`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let unfinished = path.with_extension("unfinished");
    let write = || -> io::Result<()> {
        // What a crash has left there is of nobody; a link would lead elsewhere.
        match fs::remove_file(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|e| failed("write", path, &e))
}

/// Reads a secret, if only its owner can.
///
/// # Errors
/// [`IdentityError::File`], [`IdentityError::OpenFile`].
pub fn read_secret(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let metadata = fs::metadata(path).map_err(|e| failed("read", path, &e))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display().to_string();
        return Err(IdentityError::OpenFile { path, mode });
    }
    fs::read(path).map_err(|e| failed("read", path, &e))
}

fn failed(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::File {
        what,
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;
