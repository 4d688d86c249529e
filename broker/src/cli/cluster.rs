//! `flowstone cluster`: how it stands, and what an operator changes.

use super::Outcome;
use super::connect::{Options, block_on};
use crate::worker::unix_ms;
use comfy_table::{Table, presets};
use flowstone_wire::native::{ClusterChange, ClusterStatus, ShardPlace};
use flowstone_wire::{NodeId, ShardId};
use serde_json::json;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show nodes, voters, and who holds which shard.
    Status {
        #[command(flatten)]
        output: Options,
    },
    /// Make a data directory that of the first node of a cluster; the node is not running.
    Init {
        #[command(flatten)]
        node: super::cluster_node::Args,
    },
    /// Make a token, with which one node joins: once, and while it is valid.
    Token {
        /// The node will vote on the catalog, and hold nothing.
        #[arg(long)]
        witness: bool,
        /// For how many seconds it is valid.
        #[arg(long, default_value_t = 3600)]
        valid_s: u64,
        #[command(flatten)]
        output: Options,
    },
    /// Make an empty data directory that of a new node of a cluster.
    Join {
        /// What `flowstone cluster token` prints.
        #[arg(value_name = "TOKEN@ADDR")]
        from: String,
        #[command(flatten)]
        node: super::cluster_node::Args,
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
    match command {
        Command::Init { node } => super::cluster_node::init(node),
        Command::Join { from, node } => super::cluster_node::join(&from, node),
        command => block_on(ask(command)),
    }
}

async fn ask(command: Command) -> Outcome {
    match command {
        // They ask nobody who runs.
        Command::Init { .. } | Command::Join { .. } => Ok(()),
        Command::Token {
            witness,
            valid_s,
            output,
        } => token(&output, witness, valid_s).await,
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
}

async fn token(output: &Options, witness: bool, valid_s: u64) -> Outcome {
    let client = output.connect.client().await?;
    let token = client.join_token(witness, valid_s).await?;
    if output.json {
        println!("{}", json!({ "token": token }));
    } else {
        println!("{token}");
    }
    Ok(())
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
        "NODE", "NAME", "ROLE", "STATE", "VOTES", "HEARD", "PEER", "NATIVE", "HTTP",
    ]);
    for n in &status.nodes {
        let votes = if n.votes { "yes" } else { "no" };
        table.add_row([
            n.node.to_string(),
            n.name.clone(),
            n.role.clone(),
            n.state.clone(),
            votes.into(),
            heard(n.silent_ms),
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

/// A node that was heard within this is there.
const HEARD_MS: u64 = 1000;

fn heard(silent_ms: Option<u64>) -> String {
    match silent_ms {
        None => "-".into(),
        Some(ms) if ms < HEARD_MS => "now".into(),
        Some(ms) => ago(ms / 1000),
    }
}

/// When another node came to lead it, why, and for how long nobody did.
fn moved(s: &ShardPlace) -> String {
    let Some(moved) = &s.moved else {
        return "-".into();
    };
    let now_ms = u64::try_from(unix_ms()).unwrap_or(0);
    let ago = ago(now_ms.saturating_sub(moved.at_ms) / 1000);
    let took = moved
        .took_ms
        .map_or("not over".into(), |ms| format!("{ms} ms"));
    format!("{ago}, from {} ({}), {took}", moved.from, moved.cause)
}

fn ago(s: u64) -> String {
    match s {
        0..120 => format!("{s} s ago"),
        120..7200 => format!("{} min ago", s / 60),
        7200..172_800 => format!("{} h ago", s / 3600),
        _ => format!("{} days ago", s / 86_400),
    }
}

/// How far the others are behind.
fn lag_of(s: &ShardPlace) -> String {
    let Some(told) = &s.told else {
        return "-".into();
    };
    let behind = told.others.iter().filter(|o| o.lag_bytes > 0);
    let behind: Vec<String> = behind
        .map(|o| format!("{}: {} bytes", o.node, o.lag_bytes))
        .collect();
    if behind.is_empty() {
        return "0".into();
    }
    behind.join(", ")
}

fn shards(status: &ClusterStatus) -> Table {
    let mut table = table(&[
        "SHARD",
        "EPOCH",
        "LEADER",
        "MEMBERS",
        "LEARNERS",
        "WANTED",
        "LAG",
        "STATE",
        "LAST MOVE",
    ]);
    for s in &status.shards {
        let state = s.lacks().unwrap_or_else(|| "well".into());
        table.add_row([
            s.shard.to_string(),
            s.epoch.to_string(),
            s.leader.to_string(),
            list(&s.members),
            list(&s.learners),
            list(&s.homes),
            lag_of(s),
            state,
            moved(s),
        ]);
    }
    table
}
