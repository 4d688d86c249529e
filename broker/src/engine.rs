//! Placeholder.
/// x
pub struct Engine;
