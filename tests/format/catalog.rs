//! Commands and rows of the catalog are in the logs of clusters: their bytes stay what they are.

use flowstone_core::catalog::{
    Addresses, Appointment, Authority, Catalog, ClusterCommand, Command, Deployed, NodeCommand,
    NodeSpec, NodeState, Role, ShardCommand, Token,
};
use flowstone_core::replica::Member;
use flowstone_wire::native::{TopicSettings, Visibility};
use flowstone_wire::{
    ConfigVersion, Epoch, Incarnation, NodeId, Offset, PartitionId, ShardId, TopicId,
};
use std::collections::BTreeMap;
use std::fmt::Write;

fn spec(name: &str) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        addresses: Addresses {
            peer: "a:7400".into(),
            native: "a:7401".into(),
            http: "a:7480".into(),
        },
        role: Role::Data,
        fingerprint: Some([1; 32]),
    }
}

fn member(node: u32) -> Member {
    Member {
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node) + 4),
    }
}

fn of_topics() -> Vec<Command> {
    let settings = TopicSettings {
        placement: Some("g".into()),
        retention_bytes: Some(300),
        visibility: Visibility::Written,
        ..TopicSettings::default()
    };
    let name = String::from("t");
    let topic = TopicId(1);
    vec![
        Command::CreateTopic {
            name: name.clone(),
            partitions: 2,
            settings,
        },
        Command::DeleteTopic {
            name: name.clone(),
            in_tier: true,
        },
        Command::ForgetInTier { topic },
        Command::TakeProducers { count: 1000 },
        Command::Skip {
            partition: PartitionId(2000),
            producers: 7,
        },
        Command::RegisterPipeline { name },
    ]
}

fn of_nodes() -> Vec<Command> {
    let (hash, now_ms, node) = ([2; 32], 1000, NodeId(2));
    let token = Token {
        role: Role::Witness,
        expires_ms: 2000,
    };
    let cluster = [
        ClusterCommand::Found {
            id: "c0ffee".into(),
            node: spec("one"),
        },
        ClusterCommand::SetCopies {
            group: Some("g".into()),
            copies: Some(3),
        },
        ClusterCommand::SetAuthority(Authority {
            certificate: vec![1, 2],
            key: vec![3],
        }),
        ClusterCommand::AddToken {
            hash,
            token,
            now_ms,
        },
        ClusterCommand::RemoveToken { hash: [4; 32] },
    ];
    let nodes = [
        NodeCommand::Join {
            token: hash,
            now_ms,
            node: spec("two"),
        },
        NodeCommand::Certify {
            node,
            fingerprint: [5; 32],
        },
        NodeCommand::SetAddresses {
            node,
            addresses: Addresses::default(),
        },
        NodeCommand::SetState {
            node: NodeId(1),
            state: NodeState::Draining,
        },
    ];
    let cluster = cluster.into_iter().map(Command::Cluster);
    cluster
        .chain(nodes.into_iter().map(Command::Node))
        .collect()
}

fn of_shards() -> Vec<Command> {
    let shard = ShardId(0);
    let all = [
        ShardCommand::Appoint(Appointment {
            shard,
            basis: ConfigVersion(0),
            above: Epoch(4),
            leader: member(1),
            members: vec![member(1)],
            learners: Vec::new(),
            now_ms: 3,
        }),
        ShardCommand::SetLearners {
            shard,
            basis: ConfigVersion(1),
            learners: Vec::new(),
        },
        ShardCommand::Activate {
            shard,
            epoch: Epoch(5),
            leader: member(1),
        },
        ShardCommand::SetHomes {
            shard,
            was: vec![NodeId(1)],
            homes: vec![NodeId(1)],
        },
    ];
    all.into_iter().map(Command::Shard).collect()
}

/// Pipelines of SQL; the last of the commands of a catalog, which other ones stand before already.
fn of_pipelines() -> Vec<Command> {
    let deployed = |plan: &str| Deployed {
        streams: [("s".into(), "CREATE STREAM s".into())].into(),
        statement: "CREATE PIPELINE p".into(),
        plan: plan.into(),
        paused: false,
    };
    let topic = |name: &str| Command::CreateTopic {
        name: name.into(),
        partitions: 1,
        settings: TopicSettings::default(),
    };
    let rename = |from: &str, to: &str| (from.to_string(), to.to_string());
    vec![
        Command::Deploy {
            streams: [("s".into(), "CREATE STREAM s".into())].into(),
            pipelines: vec![("p".into(), deployed("one"))],
        },
        Command::Upgrade {
            streams: BTreeMap::new(),
            pipelines: vec![("p".into(), "one".into(), deployed("two"))],
        },
        Command::PausePipeline {
            name: "p".into(),
            paused: true,
        },
        Command::Replay {
            pipelines: vec![("p.replay".into(), deployed("two"))],
            starts: [(PartitionId(2000), Offset(300))].into(),
        },
        topic("p"),
        topic("p.replay"),
        Command::Switch {
            pipelines: vec![("p.replay".into(), "p".into(), deployed("three"))],
            topics: vec![rename("p", "p.before"), rename("p.replay", "p")],
        },
        Command::ForgetPipeline { name: "p".into() },
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn commands_and_rows_of_the_catalog_are_what_they_always_were() {
    let mut told = String::new();
    let mut catalog = Catalog::new(2);
    for command in [of_topics(), of_nodes(), of_shards(), of_pipelines()].concat() {
        let bytes = postcard::to_stdvec(&command).expect("it is plain data");
        let again: Command = postcard::from_bytes(&bytes).expect("it is what was written");
        assert_eq!(again, command);
        let kind = format!("{command:?}");
        let kind = kind.split([' ', '{']).next().unwrap_or_default();
        let _ = writeln!(told, "{kind} {}", hex(&bytes));
        let (event, rows) = catalog.apply(command).expect("it is valid");
        let event = postcard::to_stdvec(&event).expect("it is plain data");
        let _ = writeln!(told, "  > {}", hex(&event));
        for row in rows {
            let value = row.value.as_deref().map_or("gone".into(), hex);
            let _ = writeln!(told, "  {} = {value}", row.key);
        }
    }
    super::golden("catalog.txt", told.as_bytes());
}
