//! Who a node is: names, keys, the certificates of the cluster's authority, and what is believed of them.
//!
//! | module | what it is |
//! | - | - |
//! | [`name`] | cluster ids and the names of nodes |
//! | [`key`] | Ed25519 keys, and asking for a certificate |
//! | [`authority`] | the cluster's certificate authority |
//! | [`trust`] | which authorities are believed, and until when |
//! | [`credentials`] | what a node shows to others, and when it wants a new one |
//! | `check` | whether a certificate is that of a node of the cluster |
//! | [`files`] | the same on disk |

pub mod authority;
pub mod check;
pub mod credentials;
mod error;
pub mod files;
pub mod key;
pub mod name;
pub(crate) mod tls;
pub mod trust;

pub use authority::{Authority, Term};
pub use check::{Side, check};
pub use credentials::Credentials;
pub use error::IdentityError;
pub use key::{CertificateRequest, NodeKey, PublicKey};
pub use name::{ClusterId, NodeName};
pub use trust::{Trust, TrustedCa};
