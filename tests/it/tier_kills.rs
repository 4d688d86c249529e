//! A broker that is killed at every step of its work for the tier loses nothing and removes nothing too
//! early: the bucket stops everything at the n-th request, and then the process is killed.
//!
//! `FLOWSTONE_TIER_KILLS` says how often.

use crate::confined::size_of;
use crate::dice::Dice;
use crate::server::{Server, Site, within};
use crate::tier_faults::{Mode, Stop};
use crate::tier_server::Manners;
use crate::tier_site::{
    Bucket, bucket_is_whole, local_segments, nothing_is_gone, produce, reads_whole, until,
    until_copied, until_remote,
};
use flowstone_client::{Client, TopicSettings};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

const PARTITIONS: u32 = 6;
/// Records of one segment of the log and some of the next.
const SEGMENT: u64 = 1_080;
/// A restart with its work for the tier makes fewer requests.
const REQUESTS: u64 = 40;
/// A bucket that is not asked for anything for so long has all there is.
const IDLE: Duration = Duration::from_secs(5);
/// What is read as a whole takes time, and ever more of it: once in so many kills, and so often at most.
const READ_EVERY: u64 = 6;
const READS_MAX: u64 = 12;

/// So many kills have met everything that there is to be met.
const OFTEN: u64 = 40;

/// A broker that is killed again and again.
struct Victim<'a> {
    bucket: &'a Bucket,
    site: Site,
    dice: Dice,
    /// Records of each partition that were acknowledged.
    counts: Vec<u64>,
    /// How often a request was stopped where, by what it asked for.
    stopped: BTreeMap<String, u64>,
    /// The most segments that were in the tier only.
    remote: usize,
    /// Everything is read once in so many kills.
    read_every: u64,
}

impl Victim<'_> {
    /// Fills about a segment of the log, more of it in the first partition.
    async fn fill(&mut self, client: &Client) {
        let producer = client.producer("t").open().await.unwrap();
        let small = SEGMENT / 2 / (u64::from(PARTITIONS) - 1);
        for partition in 0..PARTITIONS {
            let more = if partition == 0 { SEGMENT / 2 } else { small };
            let count = &mut self.counts[partition as usize];
            produce(&producer, partition, *count..*count + more).await;
            *count += more;
        }
    }

    /// Lets a broker work until the bucket stops, and kills it.
    async fn kill(&mut self, round: u64) {
        let stop = [Stop::Before, Stop::Midway, Stop::Behind][self.dice.below(3) as usize];
        // A start makes some forty requests before it has a job.
        let at = match self.dice.below(6) {
            0 => self.dice.below(60),
            // Whole jobs, and what follows them: local files go.
            1 => 44 + self.dice.below(10 * REQUESTS),
            _ => 44 + self.dice.below(REQUESTS),
        };
        self.bucket.faults.set(Mode::StopsAt(at, stop));
        self.bucket.faults.take_log();
        let server = self.start().await;
        let client = server.client().await;
        if round.is_multiple_of(3) {
            self.fill(&client).await;
        }
        let stopped = async {
            // There may be less to do than it takes to come to that request.
            while timeout(IDLE, self.bucket.faults.stopped()).await.is_err() {
                self.fill(&client).await;
            }
        };
        within("the request to stop at", stopped).await;
        let last = self.bucket.faults.take_log().into_iter().nth(at as usize);
        let last = last.unwrap();
        let kind = last.split('?').next().unwrap().split('/').nth(5);
        let verb = last.split(' ').next().unwrap();
        let kind = format!("{verb} {} {stop:?}", kind.unwrap_or("root"));
        *self.stopped.entry(kind).or_default() += 1;
        drop(client);
        server.kill();
        self.bucket.faults.set(Mode::Good);
        let remote = nothing_is_gone(self.site.data(), self.bucket).await;
        self.remote = self.remote.max(remote);
        if round % self.read_every == self.read_every - 1 {
            let server = self.start().await;
            reads_whole(&server.client().await, "t", &self.counts).await;
            server.kill();
            nothing_is_gone(self.site.data(), self.bucket).await;
        }
    }

    /// A start waits for the bucket: not on a thread that others need.
    async fn start(&self) -> Server {
        tokio::task::block_in_place(|| self.site.start())
    }
}

async fn killed_everywhere(bucket: &Bucket, kills: u64, seed: u64) {
    let site = bucket.site();
    let mut victim = Victim {
        bucket,
        site,
        dice: Dice::new(seed),
        counts: vec![0; PARTITIONS as usize],
        stopped: BTreeMap::new(),
        remote: 0,
        read_every: READ_EVERY.max(kills / READS_MAX),
    };
    let server = victim.start().await;
    let client = server.client().await;
    let settings = TopicSettings {
        local_retention_bytes: Some(0),
        ..TopicSettings::default()
    };
    client
        .create_topic("t", PARTITIONS, settings)
        .await
        .unwrap();
    victim.fill(&client).await;
    drop(client);
    server.kill();
    for round in 0..kills {
        victim.kill(round).await;
    }
    let server = victim.start().await;
    let client = server.client().await;
    victim.fill(&client).await;
    until_copied(&client, "t", PARTITIONS).await;
    until_remote(&client).await;
    until("the files go", async || {
        local_segments(victim.site.data()).is_empty()
    })
    .await;
    reads_whole(&client, "t", &victim.counts).await;
    drop(client);
    server.stop();
    nothing_is_gone(victim.site.data(), bucket).await;
    let orphans = bucket_is_whole(&victim.site, bucket).await;
    assert!(
        kills < OFTEN || victim.remote > 0,
        "no local file was gone at any of the kills"
    );
    eprintln!(
        "{kills} kills, {orphans} orphans, at most {} segments were in the tier only; stopped at: {:?}",
        victim.remote, victim.stopped
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_at_every_step() {
    let bucket = Bucket::start(Manners::Honest).await;
    killed_everywhere(&bucket, size_of("FLOWSTONE_TIER_KILLS", 10), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_at_some_steps_with_moto() {
    let Some(bucket) = Bucket::of_moto().await else {
        eprintln!("SKIPPED: moto_server is not here, no second kind of bucket was tried");
        return;
    };
    killed_everywhere(&bucket, 3, 2).await;
}
