//! Options and plumbing of every command that talks to a running broker.

use super::Failed;
use flowstone_client::Client;

/// Where the broker is.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Connect {
    /// The broker: tcp://HOST:PORT or unix:///PATH; several with commas between them.
    #[arg(
        long,
        env = "FLOWSTONE_URL",
        default_value = "tcp://127.0.0.1:7400",
        global = true
    )]
    pub(super) url: String,
}

/// Where the broker is, and how its answer is printed.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connect: Connect,
}

impl Connect {
    pub(super) async fn client(&self) -> Result<Client, Failed> {
        Ok(Client::connect(&self.url).await?)
    }
}

/// Runs a client's future on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
