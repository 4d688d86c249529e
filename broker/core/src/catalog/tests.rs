//! The catalog never numbers two things alike, and its rows are all it is.

use super::*;
use flowstone_wire::ErrorCode;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn create(name: &str, partitions: u32, placement: Option<&str>) -> Command {
    let settings = TopicSettings {
        placement: placement.map(Into::into),
        ..Default::default()
    };
    Command::CreateTopic {
        name: name.into(),
        partitions,
        settings,
    }
}

#[test]
fn topics_of_a_placement_group_meet_on_the_same_shards() {
    let mut c = Catalog::new(3);
    c.apply(create("other", 1, None)).unwrap();
    c.apply(create("a", 5, Some("g"))).unwrap();
    c.apply(create("b", 5, Some("g"))).unwrap();
    let shards = |n| {
        c.topic(n)
            .unwrap()
            .partitions
            .iter()
            .map(|p| p.shard)
            .collect::<Vec<_>>()
    };
    assert_eq!(shards("a"), shards("b"));
    assert_ne!(shards("a")[0], shards("other")[0]);
}

#[test]
fn bad_commands_change_nothing() {
    let mut c = Catalog::new(1);
    c.apply(create("a", 1, None)).unwrap();
    let before = c.clone();
    let code = |c: &mut Catalog, cmd| c.apply(cmd).unwrap_err().code;
    assert_eq!(code(&mut c, create("a", 1, None)), ErrorCode::TopicExists);
    assert_eq!(
        code(&mut c, create("b", 0, None)),
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        code(&mut c, create("b", 4097, None)),
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        code(&mut c, create("../b", 1, None)),
        ErrorCode::InvalidName
    );
    assert_eq!(
        code(&mut c, create("b", 1, Some("x/y"))),
        ErrorCode::InvalidName
    );
    assert_eq!(
        code(
            &mut c,
            Command::DeleteTopic {
                name: "b".into(),
                in_tier: false
            }
        ),
        ErrorCode::UnknownTopic
    );
    assert_eq!(c, before);
}

fn spec(name: &str) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        addresses: Addresses::default(),
        role: Role::Data,
        fingerprint: Some([7; 32]),
    }
}

fn founded() -> Catalog {
    let mut c = Catalog::new(2);
    let (id, node) = ("c1".into(), spec("one"));
    let found = ClusterCommand::Found { id, node };
    c.apply(Command::Cluster(found)).unwrap();
    c
}

fn add_token(expires_ms: u64, now_ms: u64) -> Command {
    let role = Role::Witness;
    Command::Cluster(ClusterCommand::AddToken {
        hash: [9; 32],
        token: Token { role, expires_ms },
        now_ms,
    })
}

fn join(name: &str, now_ms: u64) -> Command {
    Command::Node(NodeCommand::Join {
        token: [9; 32],
        now_ms,
        node: spec(name),
    })
}

#[test]
fn a_token_lets_one_node_join_in_time_as_what_it_is_for() {
    let mut c = founded();
    let code = |done: Result<(Event, Vec<Row>), Failure>| done.unwrap_err().code;
    assert_eq!(code(c.apply(join("two", 5))), ErrorCode::NotFound);
    c.apply(add_token(10, 5)).unwrap();
    assert_eq!(code(c.apply(join("two", 10))), ErrorCode::NotFound, "late");
    assert_eq!(
        code(c.apply(join("one", 9))),
        ErrorCode::InvalidRequest,
        "a name twice"
    );
    let (event, _) = c.apply(join("two", 9)).unwrap();
    assert_eq!(event, Event::NodeJoined(NodeId(2)));
    assert_eq!(c.node(NodeId(2)).unwrap().role, Role::Witness);
    assert_eq!(
        code(c.apply(join("three", 9))),
        ErrorCode::NotFound,
        "used up"
    );
    c.apply(add_token(10, 5)).unwrap();
    let state = NodeState::Removed;
    let node = NodeId(2);
    c.apply(Command::Node(NodeCommand::SetState { node, state }))
        .unwrap();
    let (event, _) = c.apply(join("two", 9)).unwrap();
    assert_eq!(
        event,
        Event::NodeJoined(NodeId(3)),
        "a number is not given twice"
    );
}

#[test]
fn a_cluster_is_founded_once() {
    let mut c = founded();
    let (id, node) = ("c2".into(), spec("other"));
    let again = Command::Cluster(ClusterCommand::Found { id, node });
    assert_eq!(c.apply(again).unwrap_err().code, ErrorCode::InvalidRequest);
}

#[test]
fn a_shard_has_as_many_copies_as_its_most_precious_group_wants() {
    let mut c = founded();
    c.apply(create("a", 1, Some("g"))).unwrap();
    c.apply(create("b", 2, Some("h"))).unwrap();
    let copies = |group: Option<&str>, n| {
        let group = group.map(Into::into);
        let copies = Some(n);
        Command::Cluster(ClusterCommand::SetCopies { group, copies })
    };
    c.apply(copies(None, 2)).unwrap();
    c.apply(copies(Some("g"), 3)).unwrap();
    assert_eq!([0, 1].map(|s| c.copies_of(ShardId(s))), [3, 2]);
    c.apply(copies(Some("h"), 1)).unwrap();
    assert_eq!([0, 1].map(|s| c.copies_of(ShardId(s))), [3, 1]);
    assert!(c.apply(copies(None, 0)).is_err());
}

#[test]
fn the_key_of_the_authority_is_not_shown() {
    let authority = Authority {
        certificate: vec![1],
        key: b"secret".to_vec(),
    };
    let shown = format!("{:?}", ClusterCommand::SetAuthority(authority));
    assert!(!shown.contains("115"), "{shown}");
}

proptest! {
    #[test]
    fn numbers_are_never_given_twice_and_rows_are_everything(
        steps in proptest::collection::vec((0u8..6, 0u8..6, 1u32..9), 1..60),
    ) {
        let (mut c, mut rows) = (Catalog::new(4), BTreeMap::new());
        let (mut topics, mut partitions) = (BTreeSet::new(), BTreeSet::new());
        for (what, which, n) in steps {
            let name = format!("n{which}");
            let command = match what {
                0 => create(&name, n, None),
                1 => Command::DeleteTopic { name, in_tier: true },
                2 => Command::TakeProducers { count: u64::from(n) },
                3 => Command::ForgetInTier { topic: TopicId(n) },
                4 => Command::Skip { partition: PartitionId(n * 3000), producers: 5 },
                _ => Command::RegisterPipeline { name },
            };
            let Ok((event, changed)) = c.apply(command) else { continue };
            if let Event::TopicCreated(t) = event {
                prop_assert!(topics.insert(t.id));
                for p in t.partitions { prop_assert!(partitions.insert(p.id) && !p.id.is_control()); }
            }
            for row in changed {
                match row.value { Some(v) => rows.insert(row.key, v), None => rows.remove(&row.key) };
            }
            let stored = rows.iter().map(|(k, v)| (&k[..], &v[..]));
            prop_assert_eq!(&Catalog::from_rows(4, stored).unwrap(), &c);
        }
    }
}

#[test]
fn deployed_pipelines_are_kept_paused_and_forgotten() {
    let mut c = Catalog::new(1);
    let deployed = Deployed {
        streams: [("s".to_string(), "CREATE STREAM s".to_string())].into(),
        statement: "CREATE PIPELINE p".into(),
        plan: "sink".into(),
        paused: false,
    };
    let other = Deployed {
        plan: "other".into(),
        ..deployed.clone()
    };
    let of_two = |second: &str| Command::Deploy {
        streams: deployed.streams.clone(),
        pipelines: vec![
            ("p".into(), deployed.clone()),
            (second.into(), deployed.clone()),
        ],
    };
    let deploy = || of_two("q");
    let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut apply = |c: &mut Catalog, command| -> Event {
        let (event, changed) = c.apply(command).unwrap();
        for row in changed {
            match row.value {
                Some(value) => drop(rows.insert(row.key, value)),
                None => drop(rows.remove(&row.key)),
            }
        }
        let stored = rows.iter().map(|(k, v)| (&k[..], &v[..]));
        assert_eq!(Catalog::from_rows(1, stored).unwrap(), *c);
        event
    };
    for bad in ["p", "no/name"] {
        assert!(c.apply(of_two(bad)).is_err());
        assert_eq!(c, Catalog::new(1), "all or none");
    }
    assert_eq!(apply(&mut c, deploy()), Event::Deployed);
    assert_eq!((c.pipeline("p"), c.pipeline("q")), (Some(1), Some(2)));
    assert!(c.streams().contains_key("s"));
    let name = "p".to_string();
    let configured = Command::RegisterPipeline { name };
    assert!(c.clone().apply(configured).is_err(), "it is another one");
    assert!(c.clone().apply(deploy()).is_err(), "it is there already");
    let pause = Command::PausePipeline {
        name: "p".into(),
        paused: true,
    };
    apply(&mut c, pause);
    assert!(c.deployed_as("p").unwrap().paused);
    let upgrade = |name: &str, before: &str| Command::Upgrade {
        streams: BTreeMap::new(),
        pipelines: vec![
            ("q".into(), "sink".into(), other.clone()),
            (name.into(), before.into(), other.clone()),
        ],
    };
    for bad in [upgrade("p", "another plan"), upgrade("unknown", "sink")] {
        let before = c.clone();
        assert!(c.apply(bad).is_err());
        assert_eq!(c, before, "all or none");
    }
    apply(&mut c, upgrade("p", "sink"));
    let upgraded = c.deployed_as("p").unwrap();
    assert_eq!((&upgraded.plan[..], upgraded.paused), ("other", true));
    assert_eq!(c.pipeline("p"), Some(1), "it keeps its number");
    let forget = || Command::ForgetPipeline { name: "p".into() };
    let forget_other = Command::ForgetPipeline { name: "q".into() };
    apply(&mut c, forget_other);
    assert_eq!(apply(&mut c, forget()), Event::PipelineForgotten(1));
    assert!(c.clone().apply(forget()).is_err());
    apply(&mut c, deploy());
    assert_eq!(c.pipeline("p"), Some(3), "a number of its own");
}

#[test]
fn a_switch_is_made_whole_or_not_at_all() {
    let mut c = Catalog::new(1);
    let deployed = |plan: &str| Deployed {
        streams: BTreeMap::new(),
        statement: "CREATE PIPELINE p".into(),
        plan: plan.into(),
        paused: false,
    };
    let starts = Starts::from([(flowstone_wire::PartitionId(1024), flowstone_wire::Offset(7))]);
    for command in [
        create("p", 2, None),
        create("p.replay", 1, Some("p")),
        Command::Deploy {
            streams: BTreeMap::new(),
            pipelines: vec![("p".into(), deployed("first"))],
        },
        Command::Replay {
            pipelines: vec![("p.replay".into(), deployed("second"))],
            starts: starts.clone(),
        },
    ] {
        c.apply(command).unwrap();
    }
    assert_eq!(c.starts_of("p.replay"), Some(&starts));
    assert!(c.is_replay("p.replay") && !c.is_replay("p"));
    let other = Command::Deploy {
        streams: BTreeMap::new(),
        pipelines: vec![("other".into(), deployed("other"))],
    };
    c.apply(other).unwrap();
    let switch = |pipeline: &str, before: &str, replay: &str| Command::Switch {
        pipelines: vec![(pipeline.into(), "p".into(), deployed("third"))],
        topics: vec![("p".into(), before.into()), (replay.into(), "p".into())],
    };
    let before = c.clone();
    for bad in [
        switch("unknown", "p.before", "p.replay"),
        switch("other", "p.before", "p.replay"),
        switch("p.replay", "p.replay", "p.replay"),
        switch("p.replay", "no/name", "p.replay"),
        switch("p.replay", "p.before", "p.late"),
    ] {
        assert!(c.apply(bad).is_err());
        assert_eq!(c, before, "all or nothing");
    }
    let partitions = |c: &Catalog, topic: &str| c.topic(topic).unwrap().partitions.clone();
    let (first, second) = (partitions(&c, "p"), partitions(&c, "p.replay"));
    c.apply(switch("p.replay", "p.before", "p.replay")).unwrap();
    assert_eq!((c.pipeline("p"), c.pipeline("p.replay")), (Some(2), None));
    assert_eq!(c.deployed_as("p").unwrap().plan, "third");
    assert!(!c.deployed_as("p").unwrap().paused);
    assert_eq!(
        (c.starts_of("p"), c.starts_of("p.replay")),
        (Some(&starts), None)
    );
    assert_eq!(partitions(&c, "p"), second);
    assert_eq!(partitions(&c, "p.before"), first);
    assert!(c.topic("p.replay").is_err());
    // A group is where it was, whatever its topic is called now.
    let group = |c: &Catalog, topic: &str| c.topic(topic).unwrap().settings.placement.clone();
    assert_eq!(group(&c, "p.before").as_deref(), Some("p"));
    let (_, rows) = c
        .apply(Command::ForgetPipeline { name: "p".into() })
        .unwrap();
    assert!(rows.iter().any(|r| r.key == "start/p" && r.value.is_none()));
    assert_eq!(c.starts_of("p"), None);
}
