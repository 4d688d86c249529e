//! Settings of queries.

use serde::Deserialize;

/// Queries that are asked once, with `flowstone sql` or over HTTP.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Queries that run at once; a further one is refused.
    pub concurrent: usize,
    /// Memory that grouping, sorting and joining may take, of all queries together, in bytes.
    pub memory_bytes: usize,
    /// Threads that they run on, behind all others in line for a core.
    pub threads: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            concurrent: 8,
            memory_bytes: 256 << 20,
            threads: 2,
        }
    }
}
