//! A broker inside the program that uses it: no socket, pipelines with closures.

use crate::reading::read_all;
use crate::server::within;
use flowstone::processor::Pipeline;
use flowstone::{Broker, Config};
use flowstone_client::{Client, Place, Record, TopicSettings};
use std::path::Path;
use std::time::Duration;

fn start(dir: &Path) -> Broker {
    let mut config = Config::default();
    config.node.data = dir.into();
    config.node.native = String::new();
    config.node.http = String::new();
    config.log.segment_bytes = 64 << 20;
    config.log.min_free_bytes = 1 << 20;
    Broker::start(config).unwrap()
}

fn pipeline() -> Pipeline {
    Pipeline::chain("loud", "words")
        .filter(|record| record.value != Some(b"boring"))
        .map(|record| Ok(record.value.map(<[u8]>::to_ascii_uppercase)))
        .key_by(|record| Ok(record.value.map(|value| value[..1].to_vec())))
        .to("loud-words")
        .build()
        .unwrap()
}

/// Waits until a topic with one partition has so many records.
async fn wait_for(client: &Client, topic: &str, count: u64) {
    let mut consumer = client.consumer(topic).open().await.unwrap();
    let reading = async {
        while consumer.position(0).unwrap().0 < count {
            consumer.next_batch().await.unwrap();
        }
    };
    within("records of the pipeline", reading).await;
}

async fn speak(client: &Client, words: &[&str]) {
    let producer = client.producer("words").open().await.unwrap();
    for word in words {
        producer.send(Record::new(*word)).await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn heard(client: &Client) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = read_all(client, "loud-words").await.concat();
    rows.into_iter()
        .map(|r| (r.key.unwrap(), r.value.unwrap()))
        .collect()
}

fn pair(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn a_broker_without_sockets_runs_closures_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let broker = start(dir.path());
    assert_eq!(
        (broker.native_address(), broker.http_address()),
        (None, None)
    );
    let client = broker.client();
    runtime.block_on(async {
        client
            .create_topic("words", 1, TopicSettings::default())
            .await
            .unwrap();
    });
    broker.deploy(pipeline()).unwrap();
    runtime.block_on(async {
        speak(&client, &["river", "boring", "stone"]).await;
        wait_for(&client, "loud-words", 2).await;
        assert_eq!(
            heard(&client).await,
            [pair("R", "RIVER"), pair("S", "STONE")]
        );
        let status = client.pipelines().await.unwrap();
        assert_eq!((status.len(), status[0].name.as_str()), (1, "loud"));
    });
    drop(client);
    assert!(broker.stop(Duration::from_secs(30)), "not in time");

    let broker = start(dir.path());
    let client = broker.client();
    broker.deploy(pipeline()).unwrap();
    runtime.block_on(async {
        speak(&client, &["boring", "layer"]).await;
        wait_for(&client, "loud-words", 3).await;
        assert_eq!(
            heard(&client).await[2..],
            [pair("L", "LAYER")],
            "nothing twice"
        );
        let end = client.offset_of("words", 0, Place::End).await.unwrap();
        assert_eq!(end.0, 5);
    });
}

#[test]
fn two_brokers_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path());
    let mut config = Config::default();
    config.node.data = dir.path().into();
    let Err(error) = Broker::start(config) else {
        panic!("both run")
    };
    assert!(error.to_string().contains("in use"), "{error}");
    drop(first);
    drop(start(dir.path()));
}
