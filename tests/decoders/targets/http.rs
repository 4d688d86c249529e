//! The HTTP door of a running broker: any path, query and body is answered, by a success or by a
//! problem document.

use flowstone::{Broker, Config};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A broker with a topic, and one connection to it.
struct Door {
    stream: BufReader<TcpStream>,
    broker: Broker,
    _dir: TempDir,
}

static DOOR: OnceLock<Mutex<Option<Door>>> = OnceLock::new();

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const KINDS: [&str; 3] = ["application/json", "application/x-ndjson", "text/plain"];

fn lock() -> MutexGuard<'static, Option<Door>> {
    let door = DOOR.get_or_init(Mutex::default);
    // A property that did not hold is reported once, by whoever found it.
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Door {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let mut config = Config::default();
    config.node.data = dir.path().join("data");
    config.node.native = String::new();
    config.node.http = "127.0.0.1:0".into();
    (config.node.workers, config.node.shards) = (1, 1);
    config.log.segment_bytes = 64 << 20;
    config.log.min_free_bytes = 1 << 20;
    let broker = Broker::start(config).expect("a broker starts");
    let stream = connect(&broker);
    let mut door = Door {
        stream,
        broker,
        _dir: dir,
    };
    door.make();
    door
}

fn connect(broker: &Broker) -> BufReader<TcpStream> {
    let address = broker.http_address().expect("it has the door");
    let stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("it is a time");
    stream.set_nodelay(true).expect("it is a socket");
    BufReader::new(stream)
}

/// Stops the broker and removes its data.
pub(crate) fn stop() {
    if let Some(door) = lock().take() {
        assert!(
            door.broker.stop(Duration::from_secs(30)),
            "it stops in order"
        );
    }
}

/// The first byte says method, content type and whether there is an idempotency key; then the path
/// and query up to a line feed; the rest is the body.
pub(super) fn http(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let (path, body) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let waits = path.windows(8).any(|w| w == b"wait_ms=");
    if waits || path.first() != Some(&b'/') || path.len() > 4096 {
        return;
    }
    let method = METHODS[usize::from(first & 3)];
    let kind = KINDS[usize::from(first >> 2 & 3) % KINDS.len()];
    let key = match first & 0x10 {
        0 => String::new(),
        _ => format!("idempotency-key: {:08x}\r\n", crc32fast::hash(rest)),
    };
    let mut door = lock();
    let door = door.get_or_insert_with(start);
    let (status, head, answer) = door.ask(method, path, kind, &key, body);
    let shown = String::from_utf8_lossy(&answer);
    assert!(
        status < 500,
        "{method} {}: {status} {shown}",
        path.escape_ascii()
    );
    if status >= 400 && head.contains("application/problem+json") {
        let problem: serde_json::Value = serde_json::from_slice(&answer).expect("it is JSON");
        assert_eq!(problem["status"], status);
        assert!(problem["type"].is_string() && problem["detail"].is_string());
    } else {
        // A path that is no path at all does not come as far as the door.
        assert!(
            status < 300 || status == 400 || status == 414 || status == 431,
            "{status} {head}"
        );
    }
    if path == b"/api/v1/events/t" && method == "POST" && kind == KINDS[0] {
        assert!(
            matches!(status, 200 | 201),
            "any body is an event: {status} {shown}"
        );
    }
    if status == 201 && path.starts_with(b"/api/v1/topics") {
        door.forget(&answer);
    } else if (method, status) == ("DELETE", 204) {
        door.make();
    }
}

impl Door {
    fn ask(
        &mut self,
        method: &str,
        path: &[u8],
        kind: &str,
        more: &str,
        body: &[u8],
    ) -> (u16, String, Vec<u8>) {
        let mut request = format!("{method} ").into_bytes();
        for &byte in path {
            match byte {
                b'!'..=b'~' if !b"\"#<>\\^`{|}".contains(&byte) => request.push(byte),
                _ => request.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            }
        }
        let size = body.len();
        let rest = format!(
            " HTTP/1.1\r\nhost: t\r\ncontent-type: {kind}\r\n{more}content-length: {size}\r\n\r\n"
        );
        request.extend_from_slice(rest.as_bytes());
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).expect("it reads");
        let (status, head, answer) = self.answer();
        if head.contains("connection: close") {
            self.stream = connect(&self.broker);
        }
        (status, head, answer)
    }

    fn answer(&mut self) -> (u16, String, Vec<u8>) {
        let (mut head, mut size) = (String::new(), 0);
        loop {
            let start = head.len();
            self.stream.read_line(&mut head).expect("it answers");
            let line = head[start..].trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                size = value.trim().parse().expect("it is a number");
            }
        }
        let status = head.get(9..12).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer but '{head}'"));
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body).expect("it answers");
        (status, head.to_ascii_lowercase(), body)
    }

    /// Makes the topic that the others are about.
    fn make(&mut self) {
        let body = br#"{"name":"t"}"#;
        let made = self.ask("POST", b"/api/v1/topics", KINDS[0], "", body);
        assert_eq!(made.0, 201, "{}", made.1);
    }

    /// Deletes a topic that was made, so that there is always room for another.
    fn forget(&mut self, made: &[u8]) {
        let topic: serde_json::Value = serde_json::from_slice(made).expect("it is JSON");
        let name = topic["name"].as_str().expect("it has a name");
        let path = format!("/api/v1/topics/{name}");
        let gone = self.ask("DELETE", path.as_bytes(), KINDS[0], "", b"");
        assert_eq!(gone.0, 204, "{name}");
    }
}
