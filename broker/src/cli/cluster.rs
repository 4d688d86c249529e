//! `flowstone cluster`: how it stands, and what an operator changes.

use super::Outcome;
use super::connect::{Options, block_on};
use comfy_table::{Table, presets};
use flowstone_wire::native::{ClusterChange, ClusterStatus};
use flowstone_wire::{NodeId, ShardId};
use serde_json::json;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show nodes, voters, and who holds which shard.
    Status {
        #[command(flatten)]
        output: Options,
    },
    /// Set how many copies there are of every shard, or of those of a placement group.
    Copies {
        /// How many.
        copies: u8,
        /// The placement group.
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        output: Options,
    },
    /// Move everything off a node.
    Drain {
        /// Its number.
        node: u32,
        /// Place shards on it again.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        output: Options,
    },
    /// Remove a node that holds nothing any more.
    Remove {
        /// Its number.
        node: u32,
        #[command(flatten)]
        output: Options,
    },
    /// Let another node lead a shard that it holds.
    Transfer {
        /// The shard.
        shard: u16,
        /// The number of the node.
        to: u32,
        #[command(flatten)]
        output: Options,
    },
}

pub(super) fn run(command: Command) -> Outcome {
    block_on(async {
        match command {
            Command::Status { output } => status(&output).await,
            Command::Copies {
                copies,
                group,
                output,
            } => {
                let copies = Some(copies);
                change(&output, ClusterChange::SetCopies { group, copies }).await
            }
            Command::Drain { node, undo, output } => {
                let node = NodeId(node);
                let change_of = if undo {
                    ClusterChange::Undrain { node }
                } else {
                    ClusterChange::Drain { node }
                };
                change(&output, change_of).await
            }
            Command::Remove { node, output } => {
                let node = NodeId(node);
                change(&output, ClusterChange::Remove { node }).await
            }
            Command::Transfer { shard, to, output } => {
                let (shard, to) = (ShardId(shard), NodeId(to));
                change(&output, ClusterChange::Transfer { shard, to }).await
            }
        }
    })
}

async fn change(output: &Options, change: ClusterChange) -> Outcome {
    output
        .connect
        .client()
        .await?
        .change_cluster(change)
        .await?;
    if output.json {
        println!("{}", json!({ "changed": true }));
    } else {
        println!("done; `flowstone cluster status` shows what comes of it");
    }
    Ok(())
}

async fn status(output: &Options) -> Outcome {
    let status = output.connect.client().await?.cluster().await?;
    if output.json {
        println!("{}", json!(status));
        return Ok(());
    }
    let leader = status
        .leader
        .map_or("nobody".into(), |l| format!("node {l}"));
    println!(
        "cluster {}, as node {} sees it",
        status.cluster, status.node
    );
    println!(
        "catalog led by {leader}, {} changes applied",
        status.applied
    );
    println!("{}", nodes(&status));
    println!("{}", shards(&status));
    Ok(())
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

fn nodes(status: &ClusterStatus) -> Table {
    let mut table = table(&[
        "NODE", "NAME", "ROLE", "STATE", "VOTES", "PEER", "NATIVE", "HTTP",
    ]);
    for n in &status.nodes {
        let votes = if n.votes { "yes" } else { "no" };
        table.add_row([
            n.node.to_string(),
            n.name.clone(),
            n.role.clone(),
            n.state.clone(),
            votes.into(),
            n.peer.clone(),
            n.native.clone(),
            n.http.clone(),
        ]);
    }
    table
}

fn list(nodes: &[NodeId]) -> String {
    let all: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    if all.is_empty() {
        "-".into()
    } else {
        all.join(", ")
    }
}

fn shards(status: &ClusterStatus) -> Table {
    let mut table = table(&[
        "SHARD", "EPOCH", "LEADER", "MEMBERS", "LEARNERS", "WANTED", "STATE",
    ]);
    for s in &status.shards {
        let state = match (s.is_active, s.alone_since_ms) {
            (false, _) => "beginning",
            (true, Some(_)) => "on one copy",
            (true, None) if s.members.len() < usize::from(s.copies) => "short of copies",
            (true, None) => "well",
        };
        table.add_row([
            s.shard.to_string(),
            s.epoch.to_string(),
            s.leader.to_string(),
            list(&s.members),
            list(&s.learners),
            list(&s.homes),
            state.into(),
        ]);
    }
    table
}
