//! A small HTTP/1.1 client: one request per connection, so that nothing is hidden by reuse.

use crate::server::within;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Holds the answer against a problem document of this status and name.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, name: &str) {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:flowstone:problem:{name}"),
            "{problem}"
        );
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].is_string(), "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(!detail.is_empty(), "{problem}");
    }

    /// Holds the answer against a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

/// The HTTP door of a broker.
#[derive(Clone, Copy)]
pub(crate) struct Http(pub(crate) SocketAddr);

impl Http {
    pub(crate) async fn get(self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn delete(self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"").await
    }

    pub(crate) async fn post(self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[], body).await
    }

    /// Sends a JSON body.
    pub(crate) async fn json(self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.send(method, path, &kind, body.to_string().as_bytes())
            .await
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(
        self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.0,
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let bytes = [head.as_bytes(), body].concat();
        within("an HTTP answer", exchange(self.0, bytes)).await
    }
}

async fn exchange(address: SocketAddr, request: Vec<u8>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    // A body that is refused is not read to its end: the answer comes while this still writes.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&request).await;
        write
    });
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match read.read(&mut chunk).await {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            // The peer closed with bytes of ours unread.
            Err(_) if is_whole(&bytes) => break,
            Err(e) => panic!("{e} behind {} bytes", bytes.len()),
        }
    }
    writing.abort();
    parse(&bytes)
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n")
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = head_end(bytes) else {
        return false;
    };
    let answer = parse_head(&bytes[..end]);
    let length = answer.header("content-length").and_then(|l| l.parse().ok());
    length.is_some_and(|length: usize| bytes.len() >= end + 4 + length)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = head_end(bytes)
        .unwrap_or_else(|| panic!("no HTTP answer: {}", String::from_utf8_lossy(bytes)));
    let mut answer = parse_head(&bytes[..end]);
    answer.body = bytes[end + 4..].to_vec();
    assert_eq!(
        answer.header("transfer-encoding"),
        None,
        "not in this client"
    );
    if let Some(length) = answer.header("content-length") {
        assert_eq!(length, answer.body.len().to_string(), "cut off");
    }
    answer
}

fn parse_head(head: &[u8]) -> Answer {
    let mut lines = std::str::from_utf8(head).unwrap().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_string()))
    });
    Answer {
        status: status.parse().unwrap(),
        headers: headers.collect(),
        body: Vec::new(),
    }
}
