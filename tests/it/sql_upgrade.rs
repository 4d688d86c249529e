//! Pipelines of SQL that go on as they are said now, with the state that they had.

use crate::child::{Finished, run, run_ok};
use crate::server::Site;
use crate::sql::wait_for;
use flowstone_client::{Client, Record};

const FIRST: &str = "
CREATE STREAM moves (who VARCHAR, n BIGINT);
CREATE PIPELINE counts AS SELECT who, count(*) AS c FROM moves GROUP BY who EMIT CHANGES;
";

const SECOND: &str = "
CREATE STREAM moves (who VARCHAR, n BIGINT, note VARCHAR);
CREATE PIPELINE counts AS
  SELECT 'second' AS version, upper(who) AS who, count(*) AS c FROM moves WHERE note IS NULL
  GROUP BY who EMIT CHANGES;
";

const OTHER: &str =
    "CREATE PIPELINE counts AS SELECT who, sum(n) AS s FROM moves GROUP BY who EMIT CHANGES;";

fn pipeline(site: &Site, url: &str, (verb, sql): (&str, &str)) -> Finished {
    let file = site.file("pipelines.sql");
    std::fs::write(&file, sql).unwrap();
    run(
        &["pipeline", verb, file.to_str().unwrap(), "--url", url],
        b"",
    )
}

async fn send(client: &Client, line: &str) {
    let producer = client.producer("moves").open().await.unwrap();
    producer.send(Record::new(line)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_kept_where_the_plan_allows() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let missing = pipeline(&site, &url, ("upgrade", FIRST));
    assert_eq!(missing.code, Some(1), "there is nothing to go on from");
    assert_eq!(pipeline(&site, &url, ("deploy", FIRST)).code, Some(0));
    let client = Client::connect(&site.unix_url()).await.unwrap();
    send(&client, r#"{"who": "a"}"#).await;
    send(&client, r#"{"who": "a"}"#).await;
    wait_for(&client, "counts", r#""c":2"#).await;

    let refused = pipeline(&site, &url, ("upgrade", OTHER));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("cannot keep its state"),
        "{}",
        refused.err
    );
    let ran = pipeline(&site, &url, ("upgrade", SECOND));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    send(&client, r#"{"who": "a", "note": "not counted"}"#).await;
    send(&client, r#"{"who": "a"}"#).await;
    wait_for(&client, "counts", r#"{"version":"second","who":"A","c":3}"#).await;

    server.stop();
    let server = site.start();
    let url = server.url();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    send(&client, r#"{"who": "a"}"#).await;
    wait_for(&client, "counts", r#"{"version":"second","who":"A","c":4}"#).await;
    let described = run_ok(&["pipeline", "describe", "counts", "--url", &url], b"");
    assert!(
        described.text().contains("note IS NULL"),
        "{}",
        described.text()
    );
    server.stop();
}
