//! What can be named in a query.

use crate::rig::{Memory, ask, refused, rows};
use flowstone_wire::ErrorCode;
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn a_topic_is_a_table_of_its_records() {
    let memory = Arc::new(Memory::default());
    let ids = memory.topic("Events.v1", 2);
    memory.send(ids[1], &[(1_500, "one".into()), (2_000, "two".into())]);
    let (found, _) = rows(
        &memory,
        "SELECT * FROM \"Events.v1\" WHERE partition = 1 AND value <> 'two'",
    )
    .await;
    assert_eq!(
        found,
        [json!({
            "key": "key", "value": "one", "timestamp": "1970-01-01T00:00:01.500Z",
            "partition": 1, "offset": 0, "headers": "{}",
        })]
    );
}

#[tokio::test]
async fn the_streams_of_the_text_come_before_those_that_were_declared_before_topics() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("t", 1)[0];
    memory.send(id, &[(0, r#"{"a": 1, "b": 2}"#.into())]);
    assert!(
        rows(&memory, "SELECT * FROM t").await.0[0]
            .get("value")
            .is_some()
    );
    memory.declare("t", "CREATE STREAM t (a BIGINT)");
    assert_eq!(rows(&memory, "SELECT * FROM t").await.0, [json!({"a": 1})]);
    let own = "CREATE STREAM t (b BIGINT); SELECT * FROM t";
    assert_eq!(rows(&memory, own).await.0, [json!({"b": 2})]);
}

#[tokio::test]
async fn a_stream_without_its_topic_is_refused() {
    let memory = Arc::new(Memory::default());
    let failure = refused(
        &memory,
        "CREATE STREAM s (a INT) WITH (topic = 'gone'); SELECT a FROM s",
    )
    .await;
    assert_eq!(failure.code, ErrorCode::UnknownTopic, "{failure}");
    let failure = refused(&memory, "INFER SCHEMA FOR gone").await;
    assert_eq!(failure.code, ErrorCode::UnknownTopic, "{failure}");
    assert!(
        failure.message.starts_with("line 1, column 18: "),
        "{failure}"
    );
}

#[tokio::test]
async fn what_is_inferred_can_be_asked() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("t", 1)[0];
    memory.send_all(id, (0..300).map(|n| format!("{{\"n\": {n}}}")));
    let (found, statistics) = rows(&memory, "INFER SCHEMA FOR t WITH (records = 250)").await;
    let statement = found[0]["statement"].as_str().unwrap();
    assert!(
        statement.starts_with("-- The last 250 records"),
        "{statement}"
    );
    assert_eq!(statistics.records_read, 250);
    let text = format!("{statement} SELECT sum(n) AS total FROM t");
    assert_eq!(
        rows(&memory, &text).await.0,
        [json!({"total": 299 * 300 / 2})]
    );
}

/// Every query of the reference is understood, over its own streams.
#[tokio::test]
async fn the_queries_of_the_reference_are_planned() {
    let reference = include_str!("../../../../docs/SQL.md");
    let memory = Arc::new(Memory::default());
    memory.topic("my-topic", 1);
    for block in reference.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for parsed in flowstone_sql::statement::parse(block).unwrap() {
            if let flowstone_sql::Statement::CreateStream(stream) = parsed.statement {
                memory.declare(&stream.name, &parsed.text);
                let topic = flowstone_sql::Stream::new(&stream).unwrap().topic;
                memory.topic(&topic, 1);
            }
        }
    }
    let queries: Vec<&str> = reference.split("```sql query\n").skip(1).collect();
    assert!(queries.len() > 3, "{} queries", queries.len());
    for query in queries {
        let query = query.split("```").next().unwrap();
        if let Err(failure) = ask(&memory, query).await {
            panic!("{failure}\n{query}");
        }
    }
}
