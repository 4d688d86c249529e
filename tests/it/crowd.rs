//! Crowds that have not said who they are: a broker is not kept from its work, and nothing grows.

use crate::confined::{Confined, Limits, pass, size_of};
use crate::crowd_peers::{bomb, callers, endless_body, gather, strangers, were_let_go};
use crate::raw::{Raw, Reaction, frame_of};
use crate::server::{Site, within};
use flowstone_client::{Acks, Client, PartitionId, Record, TopicSettings};
use flowstone_wire::limits::{BATCH_BYTES_MAX, HTTP_BODY_BYTES_MAX};
use flowstone_wire::native::{Hello, Produce};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Memory of the broker, whatever its peers do.
const MEMORY_BYTES_MAX: u64 = 400 << 20;
/// The doors let go within 10 s whom they do not know; the rest is for a busy machine.
const LET_GO: Duration = Duration::from_secs(16);
/// Whoever is served waits no longer, whatever the others do.
const SERVED: Duration = Duration::from_secs(5);
/// Peers with large requests: together they would fill more than the memory twice.
const LARGE_PEERS: usize = 100;
/// Connections that the HTTP door takes at once.
const HTTP_PLACES: usize = 1024;
/// File descriptors of a broker that has few.
const FEW_FILES: u64 = 256;

/// As many file descriptors for this process as it may have.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // What there was is still there.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What somebody found who was served all the time.
struct Healthy {
    served: u64,
    longest: Duration,
}

async fn client_with_topics(broker: &Confined) -> Client {
    let client = broker.client().await;
    for topic in ["healthy", "target"] {
        let settings = TopicSettings::default();
        client.create_topic(topic, 1, settings).await.unwrap();
    }
    client
}

/// Sends one durable record after the other, and asks the HTTP door for its health in between.
async fn healthy(
    client: &Client,
    http: Option<crate::http::Http>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<Healthy> {
    let producer = client
        .producer("healthy")
        .linger_ms(0)
        .open()
        .await
        .unwrap();
    tokio::spawn(async move {
        let (mut served, mut longest) = (0, Duration::ZERO);
        while !*stop.borrow() {
            let since = Instant::now();
            let receipt = within("an ack", producer.send(Record::new("fine"))).await;
            assert_eq!(receipt.unwrap().offset.0, served);
            longest = longest.max(since.elapsed());
            served += 1;
            if let Some(http) = http.filter(|_| served.is_multiple_of(64)) {
                let since = Instant::now();
                assert_eq!(http.get("/healthz").await.text(), "ok\n");
                longest = longest.max(since.elapsed());
            }
        }
        Healthy { served, longest }
    })
}

async fn was_served(healthy: JoinHandle<Healthy>) {
    let healthy = within("the healthy client", healthy).await.unwrap();
    eprintln!(
        "  the healthy client: {} records, the longest wait {:.0} ms",
        healthy.served,
        healthy.longest.as_secs_f64() * 1e3
    );
    assert!(healthy.served > 0, "it was shut out");
    assert!(healthy.longest < SERVED, "{:?}", healthy.longest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_never_ask_for_anything_are_let_go() {
    let wanted = size_of("FLOWSTONE_CROWD", 5_000);
    let crowd = wanted.min(raise_file_limit().saturating_sub(1_000)) as usize;
    if crowd < wanted as usize {
        eprintln!("  only {crowd} peers: this process may open no more files");
    }
    let site = Site::new("", "");
    let mut broker = Confined::start(&site, Limits::default());
    let client = client_with_topics(&broker).await;
    let memory = broker.watch_memory();
    let (stop, stopped) = watch::channel(false);
    let others = healthy(&client, Some(broker.http()), stopped).await;
    // The HTTP door has a thousand places, and the healthy client wants one of them.
    let at_http = (crowd / 5).min(1_000);
    let native = gather(&strangers(), crowd - at_http, broker.native());
    let mut parts = callers();
    parts.push(bomb());
    let http = gather(&parts, at_http, broker.http().0);
    let native = within("the native door", native.join_all()).await;
    let http = within("the HTTP door", http.join_all()).await;
    stop.send_replace(true);
    was_served(others).await;
    broker.lives();
    eprintln!("  {} MiB of memory at most", memory.most() >> 20);
    memory.stayed_below(MEMORY_BYTES_MAX);
    were_let_go(&native, LET_GO);
    were_let_go(&http, LET_GO);
    // There is room for others again.
    let late = within("a new client", broker.client()).await;
    within("an answer", late.describe("target")).await.unwrap();
}

/// A produce request that lacks its end.
fn endless_frame() -> Vec<u8> {
    let request = Produce {
        partition: PartitionId(1),
        acks: Acks::Written,
    };
    let mut frame = frame_of(&request, 1, &vec![0; BATCH_BYTES_MAX]);
    frame.truncate(frame.len() - 100);
    frame
}

/// Says as much as the peer takes while it takes anything.
async fn say_what_is_taken(raw: &mut Raw, bytes: &[u8]) {
    for piece in bytes.chunks(256 << 10) {
        if tokio::time::timeout(Duration::from_secs(1), raw.say(piece))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn frames_that_never_end(greeted: bool) {
    let site = Site::new("", "");
    let mut broker = Confined::start(&site, Limits::default());
    let client = client_with_topics(&broker).await;
    let memory = broker.watch_memory();
    let (stop, stopped) = watch::channel(false);
    let others = healthy(&client, Some(broker.http()), stopped).await;
    let frame = std::sync::Arc::new(endless_frame());
    let mut peers = tokio::task::JoinSet::new();
    for _ in 0..LARGE_PEERS {
        let (frame, address) = (frame.clone(), broker.native());
        peers.spawn(async move {
            let mut raw = match greeted {
                true => Raw::greeted(address).await,
                false => Raw::silent(address).await,
            };
            say_what_is_taken(&mut raw, &frame).await;
            raw
        });
    }
    let peers = within("what they say", peers.join_all()).await;
    eprintln!("  {} MiB of memory at most", memory.most() >> 20);
    memory.stayed_below(MEMORY_BYTES_MAX);
    for mut raw in peers {
        assert_eq!(raw.reaction::<Hello>().await, Reaction::Closed);
    }
    stop.send_replace(true);
    was_served(others).await;
    broker.lives();
    let producer = client.producer("target").open().await.unwrap();
    let large = Record::new(vec![7; 4_000_000]);
    within("a large record", producer.send(large))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_of_strangers_have_a_bound() {
    frames_that_never_end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_that_never_end_have_a_bound() {
    frames_that_never_end(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_that_never_end_have_a_bound() {
    let site = Site::new("", "");
    let mut broker = Confined::start(&site, Limits::default());
    let client = client_with_topics(&broker).await;
    let memory = broker.watch_memory();
    let (stop, stopped) = watch::channel(false);
    let others = healthy(&client, Some(broker.http()), stopped).await;
    let part = endless_body(HTTP_BODY_BYTES_MAX);
    let peers = gather(&[part], LARGE_PEERS, broker.http().0);
    let fates = within("the end of all bodies", peers.join_all()).await;
    eprintln!("  {} MiB of memory at most", memory.most() >> 20);
    stop.send_replace(true);
    was_served(others).await;
    broker.lives();
    memory.stayed_below(MEMORY_BYTES_MAX);
    were_let_go(&fates, Duration::from_secs(50));
}

/// Whoever comes when the HTTP door has no place left is told so, and is not left waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_http_door_says_so() {
    let room = raise_file_limit();
    assert!(room > 4_000, "this process may open {room} files");
    let site = Site::new("", "");
    let broker = Confined::start(&site, Limits::default());
    let before = broker.open_files();
    let silent = gather(&callers()[..1], 1_100, broker.http().0);
    within("a full house", async {
        while broker.open_files() < before + HTTP_PLACES {
            pass(Duration::from_millis(5)).await;
        }
    })
    .await;
    for _ in 0..20 {
        let get = tokio::time::timeout(SERVED, broker.http().get("/healthz")).await;
        let answer = get.expect("an answer, or a refusal");
        match answer.status {
            200 => {}
            status => answer.is_problem(status, "busy"),
        }
    }
    drop(silent);
}

/// Connections beyond what the process may open wait; what it does goes on, and it does not spin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_descriptors_that_run_out_stop_nothing() {
    raise_file_limit();
    let site = Site::new("", "");
    let files = Some(FEW_FILES);
    let limits = Limits {
        files,
        ..Limits::default()
    };
    let mut broker = Confined::start(&site, limits);
    let client = client_with_topics(&broker).await;
    let producer = client.producer("target").open().await.unwrap();
    let files_before = broker.open_files();
    let crowd = gather(&strangers()[..1], 300, broker.native());
    let http = gather(&callers()[..1], 300, broker.http().0);
    within("a crowd", async {
        while broker.open_files() < files_before + 100 {
            pass(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (since, used) = (Instant::now(), broker.cpu_time());
    pass(Duration::from_secs(2)).await;
    let (time, used) = (since.elapsed(), broker.cpu_time() - used);
    let open = broker.open_files();
    eprintln!("  {open} of {FEW_FILES} descriptors: {used:?} of processor time in {time:?}");
    assert!(used < time / 2, "it spins: {used:?} in {time:?}");
    // More than two segments: each of them is a file.
    for n in 0..160 {
        let record = Record::new(vec![n; 1 << 20]);
        within("an ack", producer.send(record)).await.unwrap();
    }
    broker.lives();
    drop((crowd, http));
    let late = within("a new client", async {
        loop {
            let url = format!("tcp://{}", broker.native());
            if let Ok(client) = Client::connect(&url).await {
                break client;
            }
        }
    });
    let late = late.await;
    let status = within("an answer", late.describe("target")).await.unwrap();
    assert_eq!(status.partitions[0].end.0, 160);
    let refused = broker
        .log()
        .lines()
        .filter(|l| l.contains("was not accepted"))
        .count();
    eprintln!("  {refused} lines of the log about it");
    assert!(refused < 1_000, "the log is flooded: {refused} lines");
}
