//! The examples do what they say, as their readers run them.

use crate::child;
use crate::server::Site;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Builds an example, where that is still to be done, and starts it.
fn start(name: &str, url: &str) -> Child {
    let built = child::cargo_build(&["--example", name]);
    Command::new(built.join("examples").join(name))
        .env("FLOWSTONE_URL", url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The first lines that it prints, all of them if it ends.
fn lines(child: &mut Child, at_most: usize) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    out.lines().take(at_most).map(|l| l.unwrap()).collect()
}

fn all_lines(mut child: Child) -> Vec<String> {
    let all = lines(&mut child, usize::MAX);
    assert!(child.wait().unwrap().success());
    all
}

#[test]
fn the_examples_of_the_client_make_send_and_read() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let topics = all_lines(start("admin", &url));
    assert_eq!(topics.len(), 3, "a line for each partition: {topics:?}");
    let sent = all_lines(start("produce", &url));
    assert_eq!(sent.len(), 10, "{sent:?}");
    let mut reader = start("consume", &url);
    let read = lines(&mut reader, 10);
    reader.kill().unwrap();
    reader.wait().unwrap();
    for number in 0..10 {
        let value = format!(": order {number}");
        assert!(
            read.iter().any(|l| l.ends_with(&value)),
            "{value} in {read:?}"
        );
    }
    server.stop();
}

#[test]
fn the_embedded_example_prints_its_latencies() {
    let printed = all_lines(start("embedded", ""));
    assert_eq!(printed.len(), 3);
    for (line, name) in printed.iter().zip(["p50", "p99", "p99.9"]) {
        let rest = line.strip_prefix(&format!("append to task {name}: "));
        let us: f64 = rest.unwrap().strip_suffix(" us").unwrap().parse().unwrap();
        assert!(us > 0.0, "{line}");
    }
}
