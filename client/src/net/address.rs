//! Where a broker listens: `tcp://host:port` or `unix:///path`.

use crate::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A parsed URL of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// `host:port`, the host being a name, an IPv4 or a bracketed IPv6 address.
    Tcp(String),
    /// An absolute path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let parsed = if let Some(rest) = url.strip_prefix("tcp://") {
            parse_tcp(rest)
        } else if let Some(path) = url.strip_prefix("unix://") {
            parse_unix(path)
        } else {
            Err("its scheme is neither tcp nor unix")
        };
        parsed.map_err(|reason| Error::InvalidUrl {
            url: url.to_owned(),
            reason,
        })
    }
}

fn parse_tcp(rest: &str) -> Result<Address, &'static str> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').ok_or("it has no port")?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host == "[]" {
        return Err("it has no host");
    }
    if host.contains(':') && !bracketed {
        return Err("an IPv6 address must stand in brackets");
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c)) {
        return Err("it has more than a host and a port");
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Address::Tcp(format!("{host}:{port}"))),
        _ => Err("its port is not a number from 1 to 65535"),
    }
}

fn parse_unix(path: &str) -> Result<Address, &'static str> {
    if !path.starts_with('/') || path.len() == 1 {
        return Err("its path is not absolute");
    }
    if path.contains('\0') {
        return Err("its path has a zero byte");
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_and_port) => write!(f, "tcp://{host_and_port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_round_trip() {
        for url in [
            "tcp://127.0.0.1:7400",
            "tcp://[::1]:1",
            "tcp://host.name:65535",
            "unix:///run/flowstone.sock",
        ] {
            assert_eq!(url.parse::<Address>().unwrap().to_string(), url);
        }
        assert!("tcp://host:1/".parse::<Address>().is_ok());
    }

    #[test]
    fn bad_urls_are_refused_with_what_to_write() {
        for url in [
            "",
            "127.0.0.1:7400",
            "http://x:1",
            "tcp://",
            "tcp://x",
            "tcp://:7400",
            "tcp://x:0",
            "tcp://x:65536",
            "tcp://::1:7400",
            "tcp://a b:1",
            "tcp://user@x:1",
            "tcp://x/y:1",
            "unix://relative",
            "unix:///",
            "unix:///a\0b",
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("write tcp://"), "{error}");
        }
    }
}
