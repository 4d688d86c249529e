//! Pipelines of SQL in the real broker: deployed, paused, killed, started again, deleted.

use crate::child::{run, run_ok};
use crate::dice::{Dice, kills};
use crate::http::Http;
use crate::reading::{Row, read_all};
use crate::server::{Server, Site, within};
use flowstone_client::{Client, Record};
use serde_json::{Value, json};

/// The first event time: long ago, so that no clock of this machine comes near it.
const START_MS: i64 = 1_600_000_000_000;
pub(crate) const SINKS: [&str; 4] = ["attempts", "attempts.dlq", "attempts.late", "busy"];

pub(crate) const SQL: &str = "
CREATE STREAM logins (ts TIMESTAMP, ip VARCHAR, ok BOOLEAN, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH (topic = 'logins');
CREATE STREAM counted (ip VARCHAR, attempts BIGINT, failed BIGINT) WITH (topic = 'attempts');

CREATE PIPELINE attempts WITH (idle_ms = 3600000) AS
  SELECT ip, window_start, window_end, count(*) AS attempts, count(*) FILTER (WHERE NOT ok) AS failed
  FROM TUMBLE(logins, ts, INTERVAL '10' SECOND) GROUP BY ip, window_start, window_end
  EMIT ON WINDOW CLOSE;
-- Reads what the first one writes.
CREATE PIPELINE busy AS SELECT ip, sum(attempts) AS total FROM counted GROUP BY ip EMIT CHANGES;
";

pub(crate) fn inputs() -> Vec<String> {
    let mut dice = Dice::new(9);
    let mut all = Vec::new();
    for n in 0..6_000_i64 {
        let behind = if dice.once_in(89) {
            20_000
        } else {
            dice.below(900) as i64
        };
        let ts = START_MS + n * 20 - behind;
        let line = match dice.once_in(211) {
            true => "{broken".to_string(),
            false => {
                json!({"ts": ts, "ip": format!("10.0.0.{}", dice.below(9)), "ok": dice.once_in(2)})
                    .to_string()
            }
        };
        all.push(line);
    }
    all.push(json!({"ts": START_MS + 1_000_000, "ip": "end", "ok": true}).to_string());
    all.push(json!({"ts": START_MS + 2_000_000, "ip": "end", "ok": true}).to_string());
    all
}

pub(crate) fn deploy(site: &Site, url: &str, sql: &str) {
    let file = site.file("pipelines.sql");
    std::fs::write(&file, sql).unwrap();
    run_ok(
        &["pipeline", "deploy", file.to_str().unwrap(), "--url", url],
        b"",
    );
}

pub(crate) async fn wait_for(client: &Client, topic: &str, what: &str) {
    let mut consumer = client.consumer(topic).open().await.unwrap();
    let found = async {
        loop {
            let records = consumer.next_batch().await.unwrap();
            let is_it = |v: &[u8]| String::from_utf8_lossy(v).contains(what);
            if (&records).into_iter().any(|r| r.value.is_some_and(is_it)) {
                return;
            }
        }
    };
    within(what, found).await;
}

/// Sends records to `logins` while the broker is killed so many times.
pub(crate) async fn send_all(
    site: &Site,
    client: &Client,
    mut server: Server,
    records: Vec<Record<'static>>,
    kills: u64,
) -> Server {
    let builder = client.producer("logins").retry_for_ms(120_000);
    let producer = builder.open().await.unwrap();
    let every = (records.len() as u64)
        .checked_div(kills)
        .unwrap_or(u64::MAX);
    let mut waiting = Vec::new();
    for (n, record) in (1u64..).zip(records) {
        waiting.push(producer.enqueue(record).await.unwrap());
        if n % every == 0 {
            server.kill();
            server = site.start();
        }
        if waiting.len() > 300 {
            for ticket in waiting.drain(..200) {
                within("an acknowledgement", ticket.wait()).await.unwrap();
            }
        }
    }
    within("the last acknowledgements", producer.close())
        .await
        .unwrap();
    server
}

async fn outcome(kills: u64) -> Vec<Vec<Row>> {
    let site = Site::new("", "");
    let server = site.start();
    deploy(&site, &server.url(), SQL);
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let records = inputs().into_iter().map(Record::new).collect();
    let server = send_all(&site, &client, server, records, kills).await;
    wait_for(&client, "busy", r#""ip":"end""#).await;
    let mut outcome = Vec::new();
    for sink in SINKS {
        outcome.push(read_all(&client, sink).await.remove(0));
    }
    server.stop();
    let server = site.start();
    for (sink, rows) in SINKS.iter().zip(&outcome) {
        assert!(
            read_all(&client, sink).await.remove(0) == *rows,
            "{sink} changed with a restart"
        );
    }
    server.stop();
    outcome
}

pub(crate) fn values(rows: &[Row]) -> Vec<String> {
    let text = |v: &Vec<u8>| String::from_utf8_lossy(v).into_owned();
    rows.iter()
        .map(|r| r.value.as_ref().map(text).unwrap_or_default())
        .collect()
}

/// The last value of each key: how often a result changed depends on how the input was cut.
fn last_by_key(rows: &[Row]) -> std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    rows.iter()
        .map(|r| (r.key.clone().unwrap_or_default(), r.value.clone()))
        .collect()
}

/// What one node gives that is never killed.
pub(crate) async fn unbroken() -> Vec<Vec<Row>> {
    outcome(0).await
}

/// Asserts that both gave the same, and enough of it.
pub(crate) fn same(unbroken: &[Vec<Row>], broken: &[Vec<Row>]) {
    for (at, sink) in SINKS.iter().enumerate().take(3) {
        assert!(
            unbroken[at].len() > 10,
            "{sink} has {} records: little was compared",
            unbroken[at].len()
        );
        assert_eq!(values(&broken[at]), values(&unbroken[at]), "{sink}");
    }
    assert_eq!(last_by_key(&broken[3]), last_by_key(&unbroken[3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_sql_under_kill_9_equal_an_unbroken_run() {
    let unbroken = unbroken().await;
    same(&unbroken, &outcome(kills(12)).await);
    let rows = values(&unbroken[0]);
    let sum: i64 = rows
        .iter()
        .map(|r| {
            serde_json::from_str::<Value>(r).unwrap()["attempts"]
                .as_i64()
                .unwrap()
        })
        .sum();
    let counted = sum + unbroken[1].len() as i64 + unbroken[2].len() as i64;
    assert_eq!(
        counted,
        inputs().len() as i64 - 1,
        "all but the last one, whose window is open"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_are_deployed_paused_resumed_and_deleted() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let sql = "CREATE STREAM words (word VARCHAR) WITH (format = 'raw');
               CREATE PIPELINE loud AS SELECT upper(word) AS word FROM words;";
    deploy(&site, &url, sql);
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let producer = client.producer("words").open().await.unwrap();
    producer.send(Record::new("one")).await.unwrap();
    wait_for(&client, "loud", "ONE").await;

    let listed = run_ok(&["pipeline", "list", "--json", "--url", &url], b"").json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["state"]),
        (&json!("loud"), &json!("running"))
    );
    let described = run_ok(&["pipeline", "describe", "loud", "--url", &url], b"");
    assert!(
        described.text().contains("project: upper(word"),
        "{}",
        described.text()
    );
    let shown = run_ok(
        &["pipeline", "describe", "loud", "--json", "--url", &url],
        b"",
    )
    .json();
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["numbers"]["processed"], 1);

    run_ok(&["pipeline", "pause", "loud", "--url", &url], b"");
    producer.send(Record::new("two")).await.unwrap();
    server.stop();
    let server = site.start();
    let url = server.url();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    assert_eq!(
        read_all(&client, "loud").await[0].len(),
        1,
        "it rests, also after a restart"
    );
    run_ok(&["pipeline", "resume", "loud", "--url", &url], b"");
    wait_for(&client, "loud", "TWO").await;
    assert_eq!(read_all(&client, "loud").await[0].len(), 2);

    // The stream is still known, so a pipeline can be deployed over it by itself.
    deploy(
        &site,
        &url,
        "CREATE PIPELINE long AS SELECT word FROM words WHERE length(word) > 3",
    );
    run_ok(&["pipeline", "delete", "loud", "--url", &url], b"");
    let listed = run_ok(&["pipeline", "list", "--json", "--url", &url], b"").json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(
        run(&["pipeline", "describe", "loud", "--url", &url], b"").code,
        Some(1)
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_refused_with_its_place_and_changes_nothing() {
    let site = Site::new("", "");
    let server = site.start();
    let bad = "CREATE STREAM t (k VARCHAR);\nCREATE PIPELINE p AS\n  SELECT missing FROM t;";
    let http = Http(server.http());
    let path = "/api/v1/pipelines";
    let answer = http.json("POST", path, &json!({ "sql": bad })).await;
    answer.is_problem(400, "invalid-request");
    assert!(
        answer.text().contains("line 3, column 10"),
        "{}",
        answer.text()
    );
    let body = json!({ "sql": "CREATE STREAM t (k VARCHAR); CREATE PIPELINE p AS SELECT k FROM t;", "dry_run": true });
    let answer = http.json("POST", path, &body).await.expect(200);
    assert_eq!(answer.json()[0]["state"], "planned");
    let listed = run_ok(&["pipeline", "list", "--json", "--url", &server.url()], b"").json();
    assert_eq!(listed, json!([]));
    let topics = run_ok(&["topic", "list", "--json", "--url", &server.url()], b"").json();
    assert_eq!(topics, json!([]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_reference_are_deployed_together_and_run_after_a_restart() {
    let reference = include_str!("../../docs/SQL.md");
    let blocks = reference.split("```sql\n").skip(1);
    let sql: String = blocks.map(|b| b.split("```").next().unwrap()).collect();
    let site = Site::new("", "");
    let server = site.start();
    deploy(&site, &server.url(), &sql);
    server.stop();
    let server = site.start();
    let listed = run_ok(&["pipeline", "list", "--json", "--url", &server.url()], b"").json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), sql.matches("CREATE PIPELINE").count());
    assert!(listed.iter().all(|p| p["state"] == "running"), "{listed:?}");
    server.stop();
}

/// A pipeline that is deployed over topics that are full reads the table to its end first; then it
/// meets what is written as it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_join_meets_the_latest_row_also_after_kill_9() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    for args in [
        &["topic", "create", "logins", "--partitions", "2"][..],
        &[
            "topic",
            "create",
            "users",
            "--partitions",
            "2",
            "--placement",
            "logins",
            "--compact",
        ],
    ] {
        run_ok(&[args, &["--url", &url][..]].concat(), b"");
    }
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let logins = client.producer("logins").open().await.unwrap();
    let users = client.producer("users").open().await.unwrap();
    let login = |n: i64| {
        let value = json!({"ts": START_MS + n, "n": n}).to_string();
        Record::new(value).key(format!("u{}", n % 7))
    };
    for n in 0..70 {
        logins.send(login(n)).await.unwrap();
    }
    for round in 0..3 {
        for user in 0..6 {
            let value = json!({"name": format!("name {user}.{round}")}).to_string();
            let record = Record::new(value).key(format!("u{user}"));
            users.send(record).await.unwrap();
        }
    }
    deploy(
        &site,
        &url,
        "CREATE STREAM logins (ts TIMESTAMP, who VARCHAR FROM KEY, n BIGINT, WATERMARK FOR ts AS ts);
         CREATE TABLE users (id VARCHAR PRIMARY KEY, name VARCHAR);
         CREATE PIPELINE known AS SELECT n, who, name FROM logins LEFT JOIN users ON who = id;",
    );
    logins.send(login(70)).await.unwrap();
    wait_for(&client, "known", r#""n":70"#).await;
    server.kill();
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let logins = client.producer("logins").open().await.unwrap();
    let users = client.producer("users").open().await.unwrap();
    users.send(Record::tombstone("u1")).await.unwrap();
    for n in 71..78 {
        logins.send(login(n)).await.unwrap();
    }
    for n in 71..78 {
        wait_for(&client, "known", &format!(r#""n":{n},"#)).await;
    }
    let mut found: Vec<(i64, Option<String>)> = Vec::new();
    for rows in read_all(&client, "known").await {
        for value in values(&rows) {
            let row: Value = serde_json::from_str(&value).unwrap();
            let name = row["name"].as_str().map(Into::into);
            found.push((row["n"].as_i64().unwrap(), name));
        }
    }
    found.sort();
    let name = |n: i64| match n % 7 {
        6 => None,
        1 if n > 70 => None,
        user => Some(format!("name {user}.2")),
    };
    assert_eq!(found, (0..78).map(|n| (n, name(n))).collect::<Vec<_>>());
    server.stop();
}
