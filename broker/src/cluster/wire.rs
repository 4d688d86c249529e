//! The endpoint that nodes speak through, while there is one.

use flowstone_peer::PeerEndpoint;
use std::sync::{Arc, PoisonError, RwLock};

/// The endpoint; none after a stop.
pub(super) struct Wire(RwLock<Option<Arc<PeerEndpoint>>>);

impl Wire {
    pub(super) fn new(endpoint: PeerEndpoint) -> Self {
        Self(RwLock::new(Some(Arc::new(endpoint))))
    }

    /// Uses the endpoint, if the node is not stopping.
    pub(super) fn with<T>(&self, run: impl FnOnce(&PeerEndpoint) -> T) -> Option<T> {
        let endpoint = self.0.read().unwrap_or_else(PoisonError::into_inner);
        endpoint.as_deref().map(run)
    }

    /// The endpoint, for a thread that may wait: whoever drops it last waits for its threads.
    pub(super) fn endpoint(&self) -> Option<Arc<PeerEndpoint>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Closes it. Not from within async code.
    pub(super) fn stop(&self) {
        let endpoint = self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(endpoint);
    }
}
