//! Peers that mean no good: they say nothing, little, slowly, too much or something else.

use crate::raw::hello;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A peer that was not let go by then never will be.
const GIVE_UP: Duration = Duration::from_secs(55);
/// So many connect at the same time.
const AT_ONCE: usize = 32;
/// What dribbles sends a piece this often: sooner than any pause that ends a connection.
const DRIBBLE: Duration = Duration::from_secs(2);

/// What a peer does once it is connected. It never ends its part by itself.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Said at once.
    first: Vec<u8>,
    /// Said again and again.
    then: Vec<u8>,
    every: Duration,
    /// Whether it says afterwards that it will say no more.
    half_open: bool,
}

fn part(name: &'static str, first: &[u8]) -> Part {
    Part {
        name,
        first: first.to_vec(),
        then: Vec::new(),
        every: DRIBBLE,
        half_open: false,
    }
}

fn dribble(name: &'static str, first: &[u8], then: &[u8]) -> Part {
    let then = then.to_vec();
    Part {
        then,
        ..part(name, first)
    }
}

/// Those who come to the native door and never greet.
pub(crate) fn strangers() -> Vec<Part> {
    let greeting = hello();
    let mut lie = greeting[..16].to_vec();
    lie[..4].copy_from_slice(&(12u32 << 20).to_le_bytes());
    lie.extend_from_slice(&1000u32.to_le_bytes());
    let long = [&lie[..], &[0; 64 << 10]].concat();
    vec![
        part("silence", b""),
        part("half a greeting", &greeting[..greeting.len() / 2]),
        part("a lying length", &lie),
        Part {
            half_open: true,
            ..part("half a greeting and no more", &greeting[..7])
        },
        dribble("a greeting that never ends", &long, &[0; 16]),
        dribble("a length, slowly", &greeting[..3], b""),
    ]
}

/// Those who come to the HTTP door and never end their request.
pub(crate) fn callers() -> Vec<Part> {
    let start = b"GET /healthz HTTP/1.1\r\nhost: here\r\n";
    let mut flood = start.to_vec();
    for n in 0..2_000 {
        write!(flood, "x-{n}: {}\r\n", "y".repeat(100)).unwrap();
    }
    vec![
        part("silence", b""),
        part("half a line", b"GET /heal"),
        part("half a head", start),
        dribble("a head that never ends", start, b"x-more: y\r\n"),
        part("a flood of headers", &flood),
        Part {
            half_open: true,
            ..part("half a head and no more", start)
        },
        part("another protocol", &hello()),
    ]
}

/// The start of a POST whose body is as long as it may be and lacks its end.
pub(crate) fn endless_body(body_bytes: usize) -> Part {
    let head = format!(
        "POST /api/v1/events/target HTTP/1.1\r\nhost: here\r\ncontent-length: {body_bytes}\r\n\r\n"
    );
    let most = [head.as_bytes(), &vec![b'x'; body_bytes - 100]].concat();
    dribble("a body that never ends", &most, b"x")
}

/// A request whose compressed body says that it is much more: 1000 to one.
pub(crate) fn bomb() -> Part {
    let mut packed = Vec::new();
    flowstone_wire::compress::compress(
        flowstone_client::Codec::Gzip,
        &vec![0; 32 << 20],
        &mut packed,
    );
    let head = format!(
        "POST /api/v1/events/target HTTP/1.1\r\nhost: here\r\ncontent-encoding: gzip\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    part("a bomb", &[head.as_bytes(), &packed].concat())
}

/// What became of a peer.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) name: &'static str,
    /// How long after it was connected it was let go; `None` if it was not.
    pub(crate) after: Option<Duration>,
}

async fn play(part: Part, address: SocketAddr, turns: Arc<Semaphore>) -> Fate {
    let name = part.name;
    // One that the kernel has no room for believes that it is connected, and waits for nothing.
    let turn = turns.acquire().await.unwrap();
    let stream = timeout(GIVE_UP, TcpStream::connect(address)).await;
    drop(turn);
    let since = Instant::now();
    let Ok(Ok(stream)) = stream else {
        let after = Some(Duration::ZERO);
        return Fate { name, after };
    };
    let (mut read, mut write) = stream.into_split();
    let saying = tokio::spawn(async move {
        // Whoever is let go notices it when it reads.
        let _ = write.write_all(&part.first).await;
        if part.half_open {
            let _ = write.shutdown().await;
        }
        let mut clock = tokio::time::interval(part.every);
        loop {
            clock.tick().await;
            let _ = write.write_all(&part.then).await;
        }
    });
    let mut chunk = vec![0; 512];
    let listening = async { while let Ok(1..) = read.read(&mut chunk).await {} };
    let ended = timeout(GIVE_UP, listening).await;
    saying.abort();
    Fate {
        name,
        after: ended.is_ok().then(|| since.elapsed()),
    }
}

/// Lets so many peers play these parts in turn. Dropping it takes them away.
pub(crate) fn gather(parts: &[Part], count: usize, address: SocketAddr) -> JoinSet<Fate> {
    let parts = parts.iter().cycle().take(count);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let played = parts.map(|part| play(part.clone(), address, turns.clone()));
    played.collect()
}

/// Holds that every peer was let go in time; says how long each kind was there.
#[track_caller]
pub(crate) fn were_let_go(fates: &[Fate], at_most: Duration) {
    let mut kinds = std::collections::BTreeMap::new();
    for fate in fates {
        let (count, longest, late) = kinds.entry(fate.name).or_insert((0, Duration::ZERO, 0));
        *count += 1;
        *longest = (*longest).max(fate.after.unwrap_or(GIVE_UP));
        *late += usize::from(fate.after.is_none_or(|after| after > at_most));
    }
    for (name, (count, longest, _)) in &kinds {
        eprintln!(
            "  {count} x {name}: gone after at most {:.1} s",
            longest.as_secs_f64()
        );
    }
    let late: Vec<_> = kinds.iter().filter(|(_, (.., late))| *late > 0).collect();
    assert!(late.is_empty(), "not let go within {at_most:?}: {late:?}");
}
