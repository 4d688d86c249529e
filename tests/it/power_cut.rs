//! The power of a real file system is cut under the real binary: nothing acknowledged is lost, nothing
//! comes twice, and no reader has seen what is not there.

use crate::dice::Dice;
use crate::launch::Launched;
use crate::loop_disk::{Kind, LoopDisk, skipped};
use crate::power_book::{Book, Expected, PIPELINES};
use crate::power_load::{BULK, Load, Notes, PARTITIONS, READINGS};
use crate::server::{Site, within};
use flowstone_client::{Acks, Client, Place, Record, TopicSettings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

const DISK_BYTES: u64 = 2 << 30;
/// So many cuts on one image; then its whole log is read and the next one begins.
const CUTS_PER_DISK: u64 = 10;
pub(crate) const SHARDS: &str =
    "[node]\nworkers = 2\nshards = 3\n[settle]\nrate_bytes_per_s = 1073741824\n";
/// What is sealed is settled at once: cuts hit that as well.
pub(crate) const LOG: &str = "hot_bytes = 1";

/// How often the power is cut on each file system: `FLOWSTONE_CUTS`, or `default`.
fn cuts(default: u64) -> u64 {
    std::env::var("FLOWSTONE_CUTS").map_or(default, |s| s.parse().unwrap())
}

/// When the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Some milliseconds after it is ready.
    Load(u64),
    /// As soon as a segment is renamed into place.
    Roll,
    /// Some milliseconds after the process has started.
    Recovery(u64),
}

impl Moment {
    fn roll_the(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::Recovery(dice.below(200)),
            2 | 3 => Self::Roll,
            4 => Self::Load(50 + dice.below(2_950)),
            _ => Self::Load(50 + dice.below(950)),
        }
    }
}

/// What was done, for the line at the end.
#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    kills_first: u64,
    in_recovery: u64,
    at_rolls: u64,
    shortened: u64,
    acked: u64,
    outputs: (usize, usize),
    slowest_start: Duration,
}

pub(crate) async fn prepare(site: &Site) {
    let broker = Launched::start(site);
    let client = broker.client().await;
    let settings = TopicSettings::default();
    client
        .create_topic(READINGS, PARTITIONS, settings.clone())
        .await
        .unwrap();
    let short = TopicSettings {
        retention_bytes: Some(32 << 20),
        ..settings
    };
    let topic = client.create_topic(BULK, PARTITIONS, short).await.unwrap();
    let mut shards: Vec<_> = topic.partitions.iter().map(|p| p.shard).collect();
    shards.dedup();
    assert_eq!(shards.len(), 3, "every partition has a shard of its own");
    broker.stop();
    // The source of the pipelines exists by now, with its partitions.
    site.set(LOG, &format!("{SHARDS}{PIPELINES}"));
}

/// One producer for each partition of the readings: their event times are in order.
pub(crate) async fn spawn_load(
    client: &Client,
    dice: &mut Dice,
    notes: &Arc<Mutex<Notes>>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut producers = JoinSet::new();
    let all: Vec<u32> = (0..PARTITIONS).collect();
    let readings = all.iter().map(|p| (READINGS, vec![*p], 400));
    let bulk = std::iter::repeat_n((BULK, all.clone(), 48), 3);
    for ((topic, partitions, window), producer) in readings.chain(bulk).zip(0..) {
        let load = Load {
            topic,
            producer,
            partitions,
            acks: Acks::Durable,
            window,
            dice: Dice::new(dice.next()),
            notes: notes.clone(),
        };
        let producer = load.open(client).await;
        producers.spawn(load.run(producer, stop.clone()));
    }
    producers
}

/// Waits for a segment to be renamed into place; not for long, the load may be slow.
pub(crate) fn wait_for_roll(data: &Path) -> bool {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    for shard in std::fs::read_dir(data.join("shards")).unwrap() {
        let log = shard.unwrap().path().join("log");
        inotify::add_watch(&watch, &log, inotify::WatchFlags::MOVED_TO).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap();
        if poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&left)).unwrap() == 0 {
            return false;
        }
        let mut bytes = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut bytes);
        let event = reader.next().unwrap();
        // The spare is renamed as well, when it is finished.
        if event
            .file_name()
            .is_some_and(|n| n.to_bytes().ends_with(b".log"))
        {
            return true;
        }
    }
}

/// One process and the end of its power.
async fn one_cut(
    site: &Site,
    disk: &mut LoopDisk,
    dice: &mut Dice,
    (book, notes): (&mut Book, &Mutex<Notes>),
    tally: &mut Tally,
) {
    let mut broker = Launched::spawn(site);
    let moment = Moment::roll_the(dice);
    match moment {
        Moment::Recovery(ms) => {
            tally.in_recovery += 1;
            broker.lives_for(Duration::from_millis(ms));
        }
        Moment::Roll | Moment::Load(_) => {
            tally.slowest_start = tally.slowest_start.max(broker.ready());
            check_what_is_there(&broker, book, notes).await;
        }
    }
    match moment {
        Moment::Load(ms) => broker.lives_for(Duration::from_millis(ms)),
        Moment::Roll => tally.at_rolls += u64::from(wait_for_roll(site.data())),
        Moment::Recovery(_) => {}
    }
    // Nobody gives an acknowledgement without power. Here the kernel would: on ext4 and on XFS a sync
    // that the ioctl overtakes may say that it has succeeded.
    if dice.once_in(2) {
        tally.kills_first += 1;
        broker.kill();
        disk.cut_power();
    } else {
        broker.freeze();
        disk.cut_power();
        broker.kill();
    }
    disk.power_up();
    tally.cuts += 1;
}

/// The acknowledgements up to now were given before what is read now.
async fn check_what_is_there(broker: &Launched, book: &mut Book, notes: &Mutex<Notes>) {
    book.take(std::mem::take(&mut notes.lock().unwrap().acked));
    book.look(&broker.client().await).await;
}

/// Cuts on one image, then the whole of its log.
async fn one_disk(mut disk: LoopDisk, dice: &mut Dice, cuts: u64, tally: &mut Tally) {
    let site = Site::with_data(LOG, SHARDS, &disk.path().join("data"));
    prepare(&site).await;
    let (stop, stopped) = watch::channel(false);
    let notes = Arc::new(Mutex::new(Notes::default()));
    let mut book = Book::default();
    let broker = Launched::start(&site);
    let producers = spawn_load(&broker.client().await, dice, &notes, &stopped).await;
    broker.kill();
    for _ in 0..cuts {
        one_cut(&site, &mut disk, dice, (&mut book, &notes), tally).await;
    }
    let mut broker = Launched::spawn(&site);
    tally.slowest_start = tally.slowest_start.max(broker.ready());
    check_what_is_there(&broker, &mut book, &notes).await;
    stop.send_replace(true);
    within("the last acknowledgements", producers.join_all()).await;
    let client = broker.client().await;
    let expected = Expected::of_inputs(&client).await;
    expected.arrived(&client).await;
    tally.shortened += u64::from(Book::is_shortened(&client).await);
    drop(client);
    broker.stop();

    // Everything once more from the start, and nothing more comes out of a restart.
    let broker = Launched::start(&site);
    book.look_again();
    check_what_is_there(&broker, &mut book, &notes).await;
    book.is_complete(&notes.lock().unwrap());
    expected.check(&broker.client().await).await;
    broker.stop();
    let (records, windows) = expected.counts();
    tally.outputs = (tally.outputs.0 + records, tally.outputs.1 + windows);
    tally.acked += book.acked;
}

async fn cut_again_and_again(kind: Kind, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut tally = Tally::default();
    let mut left = cuts(10);
    while left > 0 {
        let disk = match LoopDisk::with_power(kind, DISK_BYTES) {
            Ok(disk) => disk,
            Err(why) => return skipped(&format!("the power cut on {kind:?}"), &why),
        };
        let now = left.min(CUTS_PER_DISK);
        one_disk(disk, &mut dice, now, &mut tally).await;
        left -= now;
    }
    eprintln!("{kind:?}: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_on_ext4() {
    cut_again_and_again(Kind::Ext4, 21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_on_xfs() {
    cut_again_and_again(Kind::Xfs, 22).await;
}

/// Without this the tests above would prove nothing: the cut does take away what was not synced.
async fn what_was_only_written_is_lost(kind: Kind) {
    let mut disk = match LoopDisk::with_power(kind, DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return skipped(&format!("the power cut on {kind:?}"), &why),
    };
    let site = Site::with_data("flush_ms = 600000", "", &disk.path().join("data"));
    let broker = Launched::start(&site);
    let client = broker.client().await;
    client
        .create_topic("t", 1, TopicSettings::default())
        .await
        .unwrap();
    for (acks, value) in [(Acks::Durable, "kept"), (Acks::Written, "lost")] {
        let producer = client.producer("t").acks(acks).open().await.unwrap();
        let receipt = within("an answer", producer.send(Record::new(value))).await;
        assert_eq!(receipt.unwrap().offset.0, u64::from(value == "lost"));
    }
    disk.cut_power();
    broker.kill();
    disk.power_up();
    let broker = Launched::start(&site);
    let client = broker.client().await;
    let end = client.offset_of("t", 0, Place::End).await.unwrap();
    assert_eq!(end.0, 1, "the one that is durable is there, and no other");
    drop(client);
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_away_what_was_only_written() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        what_was_only_written_is_lost(kind).await;
    }
}
