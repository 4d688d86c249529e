//! The connection layer against a scripted peer on a real socket.

use super::pool::Pool;
use crate::{Client, Error, Route, ShardId};
use flowstone_wire::Failure;
use flowstone_wire::frame::{self, ANSWER, PREFIX_BYTES, Prefix};
use flowstone_wire::native::{self, Hello, HelloAnswer, ListGroups, ListShards, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn read_request(stream: &mut TcpStream) -> (Prefix, Vec<u8>) {
    let mut front = [0; PREFIX_BYTES];
    stream.read_exact(&mut front).await.unwrap();
    let prefix = Prefix::decode(&front).unwrap().unwrap();
    let mut rest = vec![0; prefix.frame_bytes() - PREFIX_BYTES];
    stream.read_exact(&mut rest).await.unwrap();
    (prefix, rest)
}

fn groups(prefix: Prefix, names: &[&str]) -> Vec<u8> {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    let header = native::encode(&Ok::<Vec<String>, Failure>(names)).unwrap();
    let mut out = Vec::new();
    frame::put_front(
        &mut out,
        prefix.api | ANSWER,
        prefix.correlation,
        &header,
        0,
    );
    out
}

/// Accepts a connection and answers its hello; returns the worker that was asked for.
async fn accept(listener: &TcpListener, workers: u16) -> (TcpStream, Option<u16>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (prefix, header) = read_request(&mut stream).await;
    assert_eq!(prefix.api, Hello::API);
    let hello: Hello = native::decode(&header).unwrap();
    let answer = HelloAnswer {
        broker: "test".to_owned(),
        workers,
        shards: 8,
    };
    let header = native::encode(&Ok::<_, Failure>(answer)).unwrap();
    let mut out = Vec::new();
    frame::put_front(
        &mut out,
        prefix.api | ANSWER,
        prefix.correlation,
        &header,
        0,
    );
    stream.write_all(&out).await.unwrap();
    (stream, hello.worker)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A client of one broker, which is asked nothing but what the test asks.
async fn connect(url: &str) -> Client {
    let pool = Pool::connect(url.parse().unwrap()).await.unwrap();
    Client::over(std::sync::Arc::new(pool))
}

#[tokio::test]
async fn answers_find_their_callers_in_any_order_and_byte_by_byte() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(&listener, 1).await;
        let first = read_request(&mut stream).await.0;
        let second = read_request(&mut stream).await.0;
        let mut bytes = groups(second, &["second"]);
        bytes.extend(groups(first, &["first"]));
        for byte in bytes {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
    });
    let client = connect(&url).await;
    let (first, second) = tokio::join!(client.groups(), client.groups());
    assert_eq!(first.unwrap(), ["first"]);
    assert_eq!(second.unwrap(), ["second"]);
    server.await.unwrap();
}

#[tokio::test]
async fn a_broken_connection_fails_what_was_sent_and_the_next_request_opens_another() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(&listener, 1).await;
        read_request(&mut stream).await;
        read_request(&mut stream).await;
        drop(stream);
        let (mut stream, _) = accept(&listener, 1).await;
        let asked = read_request(&mut stream).await.0;
        stream.write_all(&groups(asked, &["back"])).await.unwrap();
        stream
    });
    let client = connect(&url).await;
    let (first, second) = tokio::join!(client.groups(), client.shards());
    assert!(matches!(first, Err(Error::Disconnected(_))), "{first:?}");
    assert!(matches!(second, Err(Error::Disconnected(_))), "{second:?}");
    assert_eq!(client.groups().await.unwrap(), ["back"]);
    server.await.unwrap();
}

#[tokio::test]
async fn lies_break_the_connection_and_nothing_else() {
    let too_large = |_: Prefix| u32::MAX.to_le_bytes().to_vec();
    let unasked = |p: Prefix| {
        groups(
            Prefix {
                correlation: p.correlation + 7,
                ..p
            },
            &[],
        )
    };
    let other_kind = |p: Prefix| {
        groups(
            Prefix {
                api: ListShards::API,
                ..p
            },
            &[],
        )
    };
    let no_answer = |p: Prefix| groups(Prefix { api: 0, ..p }, &[])[..6].repeat(4);
    let lies: [fn(Prefix) -> Vec<u8>; 4] = [too_large, unasked, other_kind, no_answer];
    for lie in lies {
        let (listener, url) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = accept(&listener, 1).await;
            let asked = read_request(&mut stream).await.0;
            stream.write_all(&lie(asked)).await.unwrap();
            // The client closes it.
            let mut rest = Vec::new();
            let _reset_or_closed = stream.read_to_end(&mut rest).await;
            assert_eq!(rest, []);
        });
        let client = connect(&url).await;
        let error = client.groups().await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{error}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_an_error() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(&listener, 1).await;
        let asked = read_request(&mut stream).await.0;
        let mut out = Vec::new();
        frame::put_front(
            &mut out,
            asked.api | ANSWER,
            asked.correlation,
            &[0xff; 9],
            0,
        );
        stream.write_all(&out).await.unwrap();
        stream
    });
    let client = connect(&url).await;
    let error = client.groups().await.unwrap_err();
    assert_eq!(error.code(), Some(crate::ErrorCode::Internal));
    server.await.unwrap();
}

#[tokio::test]
async fn each_worker_has_a_connection_of_its_own() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (first, worker) = accept(&listener, 3).await;
        assert_eq!(worker, None);
        let (mut second, worker) = accept(&listener, 3).await;
        assert_eq!(worker, Some(2));
        for name in ["a", "b"] {
            let asked = read_request(&mut second).await.0;
            second.write_all(&groups(asked, &[name])).await.unwrap();
        }
        (first, second)
    });
    let client = connect(&url).await;
    for (shard, name) in [(5, "a"), (2, "b")] {
        let route = Route::Shard(ShardId(shard));
        let call = client.call(route, &ListGroups {}, Default::default());
        assert_eq!(call.await.unwrap().0, [name]);
    }
    server.await.unwrap();
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(&listener, 1).await;
        stream.read(&mut [0]).await.unwrap()
    });
    let client = connect(&url).await;
    drop(client);
    assert_eq!(server.await.unwrap(), 0);
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once() {
    let (listener, url) = listen().await;
    drop(listener);
    let error = Client::connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error}");
    let unix = Pool::connect("unix:///nowhere/x".parse().unwrap()).await;
    assert!(unix.is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let path = std::env::temp_dir().join(format!("flowstone-client-{}.sock", std::process::id()));
    let _left_over = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut front = [0; PREFIX_BYTES];
        stream.read_exact(&mut front).await.unwrap();
        front
    });
    let connecting = Client::connect(&format!("unix://{}", path.display())).await;
    assert!(connecting.is_err(), "it hung up before it answered");
    let front = server.await.unwrap();
    assert_eq!(Prefix::decode(&front).unwrap().unwrap().api, Hello::API);
    std::fs::remove_file(&path).unwrap();
}
