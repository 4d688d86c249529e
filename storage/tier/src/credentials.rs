//! Where the keys of a bucket come from.

use crate::error::TierError;
use serde::Deserialize;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than this is not a file of credentials.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Who says who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credentials {
    /// The variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; without
    /// them what else AWS sets for containers and web identities.
    #[default]
    Environment,
    /// A file of `name = value` lines, alone or below `[profile]` headings as of the AWS tools:
    /// `access_key_id`, `secret_access_key`, `session_token`, each with or without `aws_` in front.
    /// Read once, when the tier is opened.
    File {
        /// The file.
        path: PathBuf,
        /// Which heading counts; `default` if none is given.
        #[serde(default)]
        profile: Option<String>,
    },
    /// What the metadata service of the machine hands out, and renews.
    InstanceMetadata,
    /// These.
    Given(Keys),
}

/// A pair of keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Which key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What temporary keys come with.
    #[serde(default)]
    pub session_token: Option<Secret>,
}

/// Reads the keys in a file.
///
/// # Errors
/// [`TierError::Io`]; [`TierError::Refused`] without quoting the file.
pub(crate) fn read_file(path: &Path, profile: Option<&str>) -> Result<Keys, TierError> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(TierError::io("open", path))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(TierError::io("read", path))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let path = path.display();
        return Err(TierError::refused(format!(
            "'{path}' is too long for a file of credentials"
        )));
    }
    parse(&text, profile.unwrap_or("default")).map_err(|missing| {
        let path = path.display();
        TierError::refused(format!(
            "'{path}' has no `{missing}`: add it, or name another profile"
        ))
    })
}

/// The keys of a profile; lines above the first heading count for every profile. The error is the name
/// of what is missing.
fn parse(text: &str, profile: &str) -> Result<Keys, &'static str> {
    let (mut id, mut key, mut token, mut counts) = (None, None, None, true);
    for line in text.lines().map(str::trim) {
        if let Some(heading) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            counts = heading.trim() == profile;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| counts) else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        match name.strip_prefix("aws_").unwrap_or(name) {
            "access_key_id" => id = Some(value.to_owned()),
            "secret_access_key" => key = Some(Secret::new(value)),
            "session_token" => token = Some(Secret::new(value)),
            _ => {}
        }
    }
    Ok(Keys {
        access_key_id: id.ok_or("access_key_id")?,
        secret_access_key: key.ok_or("secret_access_key")?,
        session_token: token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_profiles_are_read_and_secrets_hidden() {
        let plain = parse("access_key_id = a\nsecret_access_key=b=c\n", "default").unwrap();
        assert_eq!(
            (&*plain.access_key_id, plain.secret_access_key.reveal()),
            ("a", "b=c")
        );
        assert!(!format!("{plain:?}").contains("b=c"));
        let ini = "[default]\naws_access_key_id=x\naws_secret_access_key=y\n\
                   [other]\naws_access_key_id = u\naws_secret_access_key = v\naws_session_token=w\n";
        assert_eq!(parse(ini, "default").unwrap().access_key_id, "x");
        let other = parse(ini, "other").unwrap();
        assert_eq!(other.access_key_id, "u");
        assert_eq!(other.session_token, Some(Secret::new("w")));
        assert_eq!(parse(ini, "third"), Err("access_key_id"));
        assert_eq!(
            parse("access_key_id=a", "default"),
            Err("secret_access_key")
        );
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let refused = read_file(Path::new("/dev/zero"), None).unwrap_err();
        assert!(matches!(refused, TierError::Refused { .. }), "{refused}");
    }
}
