//! Cluster ids, and the names that certificates give to nodes.

use flowstone_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The last label of a node's name. No resolver knows it: names are compared, never looked up.
const SUFFIX: &str = "flowstone";

/// The number of a cluster: 128 random bits, in text 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let number = u128::from_str_radix(text, 16);
        match number {
            Ok(number) if text.len() == 32 && text.bytes().all(lower) => {
                Ok(Self(number.to_be_bytes()))
            }
            _ => Err(NotAName),
        }
    }
}

/// A node of a cluster, as its certificate names it: `n7.<cluster id>.flowstone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}.{SUFFIX}", self.node, self.cluster)
    }
}

impl FromStr for NodeName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let rest = text.strip_prefix('n').ok_or(NotAName)?;
        let (node, rest) = rest.split_once('.').ok_or(NotAName)?;
        let (cluster, suffix) = rest.split_once('.').ok_or(NotAName)?;
        let name = Self {
            node: NodeId(node.parse().map_err(|_| NotAName)?),
            cluster: cluster.parse()?,
        };
        // A node has one spelling: "n07" and "n+7" are nobody.
        let is_spelt = suffix == SUFFIX && name.to_string() == text;
        is_spelt.then_some(name).ok_or(NotAName)
    }
}

/// A text is not the name of a cluster or of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names of clusters have 32 hexadecimal digits, names of nodes look like n7.<cluster>.flowstone"
)]
pub struct NotAName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_spelling() {
        let cluster: ClusterId = "00112233445566778899aabbccddeeff".parse().unwrap();
        let node = NodeId(7);
        let text = NodeName { node, cluster }.to_string();
        assert_eq!(text, "n7.00112233445566778899aabbccddeeff.flowstone");
        assert_eq!(text.parse(), Ok(NodeName { node, cluster }));
        for wrong in [
            text.replace("n7", "n07"),
            text.replace("n7", "n+7"),
            text.replace("n7", "7"),
            text.replace("aabb", "AABB"),
            text.replace("n7", "n4294967296"),
            text.replace(".flowstone", ""),
            format!("{text}."),
            format!("x.{text}"),
        ] {
            assert_eq!(wrong.parse::<NodeName>(), Err(NotAName), "{wrong}");
        }
        assert!(
            "+0112233445566778899aabbccddeeff"
                .parse::<ClusterId>()
                .is_err()
        );
    }
}
