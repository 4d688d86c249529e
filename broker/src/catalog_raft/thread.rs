//! The thread on which the catalog is agreed on.

use super::file::{CatalogFile, Role};
use super::machine::Shown;
use super::member::Member;
use crate::reserve::Reserve;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The running thread; it ends when this is dropped.
pub(crate) struct CatalogThread {
    pub(crate) member: Arc<Member>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Begun = Result<(Arc<Member>, Handle), String>;

impl CatalogThread {
    /// Opens a file and begins. An only voter leads on return; one of several may not have heard of the
    /// others yet.
    ///
    /// # Errors
    /// What is wrong, as text for an operator.
    pub(crate) fn start(
        path: &Path,
        shards: u16,
        reserve: Arc<Reserve>,
        role: Role,
    ) -> Result<Self, String> {
        let file = CatalogFile::open(path, reserve, role).map_err(|e| e.to_string())?;
        let (file, shown) = (Arc::new(file), Arc::new(Shown::new(shards)));
        let (begun, beginning) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || run(file, shown, &begun, stopped))
            .map_err(|e| format!("cannot start its thread: {e}"))?;
        let begun = beginning
            .recv()
            .unwrap_or_else(|_| Err("its thread has ended".into()));
        match begun {
            Ok((member, handle)) => Ok(Self {
                member,
                handle,
                stop: Some(stop),
                thread: Some(thread),
            }),
            Err(e) => {
                // It has said why.
                let _ = thread.join();
                Err(e)
            }
        }
    }

    /// Runs something there and waits for it; on any thread but that one. `None` if it has stopped.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        run: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, doing) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Whoever asked waits for it.
            let _ = done.send(run.await);
        });
        doing.recv().ok()
    }

    /// Its runtime.
    #[cfg(test)]
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs something there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        run: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(run)
    }
}

fn run(
    file: Arc<CatalogFile>,
    shown: Arc<Shown>,
    begun: &mpsc::SyncSender<Begun>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            // Whoever started this waits for it.
            let _ = begun.send(Err(format!("cannot start its runtime: {e}")));
            return;
        }
    };
    runtime.block_on(async {
        let member = match Member::begin(file, shown).await {
            Ok(member) => Arc::new(member),
            Err(e) => {
                let _ = begun.send(Err(e));
                return;
            }
        };
        let _ = begun.send(Ok((member.clone(), Handle::current())));
        tokio::spawn(member.clone().keep());
        // Dropped or told, it is over.
        let _ = stopped.await;
        member.end().await;
    });
}

impl Drop for CatalogThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the catalog's thread panicked");
        }
    }
}
