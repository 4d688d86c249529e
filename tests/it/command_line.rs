//! The command line as scripts rely on it: output, exit codes, groups, orderly stops.

use crate::child::{run, run_ok};
use crate::server::Site;
use serde_json::{Value, json};

#[test]
fn topics_are_made_listed_described_and_deleted() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let topic = |args: &[&str]| {
        let all = [&["topic"], args, &["--json", "--url", &url]].concat();
        run_ok(&all, b"").json()
    };
    let made = topic(&[
        "create",
        "orders",
        "--partitions",
        "2",
        "--retention-ms",
        "1000000",
    ]);
    assert_eq!(
        (&made["name"], &made["partitions"]),
        (&json!("orders"), &json!(2))
    );
    topic(&["create", "gone"]);
    let list = topic(&["list"]);
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let status = topic(&["describe", "orders"]);
    assert_eq!(
        status["partition_status"].as_array().unwrap().len(),
        2,
        "{status}"
    );
    assert_eq!(status["retention_ms"], 1_000_000);
    assert_eq!(topic(&["delete", "gone"]), json!({ "deleted": "gone" }));
    let human = run_ok(&["topic", "list", "--url", &url], b"");
    assert!(human.text().contains("orders") && !human.text().contains("gone"));
    server.stop();
    let server = site.start();
    let list = run_ok(&["topic", "list", "--json", "--url", &server.url()], b"").json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    server.stop();
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let code = |args: &[&str]| {
        let finished = run(args, b"x\n");
        let quiet = finished.code != Some(0) && finished.err.is_empty();
        assert!(!quiet, "{args:?} fails and says nothing");
        finished.code
    };
    for command in [&["consume", "nobody"][..], &["produce", "nobody"]] {
        assert_eq!(
            code(&[command, &["--url", &url]].concat()),
            Some(4),
            "{command:?}"
        );
    }
    for action in ["describe", "delete"] {
        assert_eq!(
            code(&["topic", action, "nobody", "--url", &url]),
            Some(4),
            "{action}"
        );
    }
    assert_eq!(code(&["topic", "create", "t", "--url", &url]), Some(0));
    assert_eq!(
        code(&["topic", "create", "t", "--url", &url]),
        Some(1),
        "it is there"
    );
    assert_eq!(
        code(&["topic", "create", "../t", "--url", &url]),
        Some(1),
        "no name"
    );
    assert_eq!(code(&["nonsense"]), Some(2));
    assert_eq!(code(&["consume"]), Some(2));
    assert_eq!(
        code(&["consume", "t", "--format", "%x", "--url", &url]),
        Some(2)
    );
    assert_eq!(
        code(&["consume", "t", "--from", "yesterday", "--url", &url]),
        Some(2)
    );
    assert_eq!(
        code(&["topic", "list", "--url", "http://127.0.0.1:1"]),
        Some(3)
    );
    server.kill();
    assert_eq!(
        code(&["topic", "list", "--url", &url]),
        Some(3),
        "nobody is there"
    );
    assert_eq!(code(&["produce", "t", "--url", &url]), Some(3));
    assert_eq!(
        code(&["consume", "t", "--url", "unix:///nowhere/at/all"]),
        Some(3)
    );
}

#[test]
fn settings_that_cannot_be_used_are_told() {
    let site = Site::new("", "");
    let config = site.file("bad.toml");
    let data = site.data().to_str().unwrap();
    let serve = |text: &str, code: i32, says: &str| {
        std::fs::write(&config, text).unwrap();
        let args = [
            "serve",
            "--config",
            config.to_str().unwrap(),
            "--data",
            data,
        ];
        let finished = run(&args, b"");
        assert_eq!(finished.code, Some(code), "{text}: {}", finished.err);
        assert!(finished.err.contains(says), "{text}: {}", finished.err);
    };
    serve("[log]\nunknown = 1", 2, "unknown");
    serve("[log]\nsegment_bytes = 5", 1, "log.segment_bytes is 5");
    serve("[node]\nnative = \"0.0.0.0:0\"", 1, "loopback");
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    run_ok(&["topic", "create", "t", "--url", &url], b"");
    run_ok(&["produce", "t", "--url", &url], b"1\n2\n3\n4\n5\n");
    let consume = |url: &str, max: &str| {
        let args = ["consume", "t", "--group", "g", "--max", max, "--url", url];
        run_ok(&args, b"").text().to_string()
    };
    assert_eq!(consume(&url, "2"), "1\n2\n");
    assert_eq!(consume(&url, "1"), "3\n");
    server.kill();
    let server = site.start();
    assert_eq!(consume(&server.url(), "10"), "4\n5\n");
    assert_eq!(consume(&server.url(), "10"), "");
    let other = run_ok(
        &["consume", "t", "--group", "h", "--url", &server.url()],
        b"",
    );
    assert_eq!(other.text(), "1\n2\n3\n4\n5\n");
    server.stop();
}

#[test]
fn records_are_printed_as_asked_for() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    run_ok(&["topic", "create", "t", "-p", "2", "--url", &url], b"");
    let input = b"{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n";
    let args = [
        "produce",
        "t",
        "-",
        "--key-field",
        "id",
        "--partition",
        "1",
        "--url",
        &url,
    ];
    run_ok(&args, input);
    let consume = |more: &[&str]| {
        let args = [&["consume", "t", "--url", &url], more].concat();
        run_ok(&args, b"").text().to_string()
    };
    assert_eq!(consume(&["--format", "%p/%o %k\\n"]), "1/0 a\n1/1 b\n");
    assert_eq!(
        consume(&["--from", "1", "--partition", "1"]),
        "{\"id\":\"b\",\"n\":2}\n"
    );
    assert_eq!(consume(&["--from", "end"]), "");
    let text = consume(&["--json"]);
    let rows: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        (&rows[1]["key"], &rows[1]["offset"]),
        (&json!("b"), &json!(1))
    );
    let no_key = run(
        &["produce", "t", "--key-field", "id", "--url", &url],
        b"{\"n\":3}\n",
    );
    assert_eq!(no_key.code, Some(1));
    assert!(no_key.err.contains("line 1"), "{}", no_key.err);
    server.stop();
}

#[test]
fn an_orderly_stop_is_seen_on_the_disk() {
    let site = Site::new("", "");
    let data = site.data().to_str().unwrap();
    let server = site.start();
    run_ok(&["topic", "create", "t", "--url", &server.url()], b"");
    run_ok(&["produce", "t", "--url", &server.url()], b"1\n2\n");
    server.kill();
    let killed = run_ok(&["inspect", data, "--json"], b"").json();
    assert_eq!(killed["shards"][0]["stopped_in_order"], false, "{killed}");
    let server = site.start();
    run_ok(&["produce", "t", "--url", &server.url()], b"3\n");
    server.stop();
    let stopped = run_ok(&["inspect", data, "--deep", "--json"], b"").json();
    assert_eq!(stopped["shards"][0]["stopped_in_order"], true, "{stopped}");
    assert_eq!(stopped["shards"][0]["damage"], json!([]), "{stopped}");
    let human = run_ok(&["inspect", data], b"");
    assert!(
        human.text().contains("stopped in order"),
        "{}",
        human.text()
    );
    let nothing = run(&["inspect", "/nowhere/at/all"], b"");
    assert_eq!(nothing.code, Some(1));
}

/// Whoever starts it may stop it at once: `ready` promises that SIGTERM is listened to.
#[test]
fn a_stop_right_behind_ready_is_orderly() {
    let site = Site::new("", "");
    for _ in 0..10 {
        site.start().stop();
    }
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run_ok(&["completion", shell], b"")
                .text()
                .contains("flowstone")
        );
    }
}
