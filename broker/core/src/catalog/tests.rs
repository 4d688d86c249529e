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
    let deploy = || Command::DeployPipeline {
        name: "p".into(),
        deployed: deployed.clone(),
    };
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
    let stream = Command::SetStream {
        name: "s".into(),
        statement: "CREATE STREAM s".into(),
    };
    apply(&mut c, stream);
    assert_eq!(apply(&mut c, deploy()), Event::PipelineRegistered(1));
    assert!(c.clone().apply(deploy()).is_err(), "it is there already");
    let pause = Command::PausePipeline {
        name: "p".into(),
        paused: true,
    };
    apply(&mut c, pause);
    assert!(c.deployed_as("p").unwrap().paused);
    let forget = || Command::ForgetPipeline { name: "p".into() };
    assert_eq!(apply(&mut c, forget()), Event::PipelineForgotten(1));
    assert!(c.clone().apply(forget()).is_err());
    let again = apply(&mut c, deploy());
    assert_eq!(again, Event::PipelineRegistered(2), "a number of its own");
}
