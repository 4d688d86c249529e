//! The tier as the shard sees it: what is copied, what goes here for it, and that nothing is lost on
//! the way.

use super::*;
use crate::output::TierJob;
use flowstone_storage::settled::{SegmentId, Source, Tiered};
use flowstone_wire::native::FetchAnswer;
use std::io::IoSlice;

/// A bucket: files by the names that they have on the node.
#[derive(Default)]
pub(super) struct Bucket {
    pub(super) disk: SimDisk,
    /// It does not answer.
    down: bool,
    jobs: usize,
}

impl Rig {
    pub(super) fn bring_up(&mut self, job: TierJob) -> Input {
        self.bucket.jobs += 1;
        let (partition, start) = (job.partition, job.start);
        if self.bucket.down {
            let result = Err("it does not answer".into());
            return Input::Tiered {
                partition,
                start,
                result,
            };
        }
        let mut notes = Vec::new();
        for meta in &job.upload {
            let path = layout::settled_path(&self.dir, meta.id());
            let bytes = self.disk.bytes_of(&path).expect("its file is there");
            // An upload that was cut short is done again.
            let _ = self.bucket.disk.remove(&path);
            let file = self.bucket.disk.create(&path, 0).unwrap();
            file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
            let copy = Tiered {
                generation: meta.generation,
                epoch: 1,
                bytes: bytes.len() as u64,
                crc32: 0,
                local: true,
            };
            notes.push((meta.id(), copy));
        }
        let uploaded = job.upload.iter().map(|m| m.id());
        let stays: Vec<_> = uploaded
            .chain(job.keep)
            .map(|id| layout::settled_path(&self.dir, id))
            .collect();
        let dir = layout::settled_dir(&self.dir, partition);
        for path in self.bucket.disk.paths() {
            if path.starts_with(&dir) && !stays.contains(&path) {
                self.bucket.disk.remove(&path).unwrap();
            }
        }
        self.state.commit_tiered(&notes).unwrap();
        Input::Tiered {
            partition,
            start,
            result: Ok(notes),
        }
    }

    pub(super) fn forget(&mut self, notes: &[(SegmentId, Tiered)]) {
        self.state.commit_tiered(notes).unwrap();
        for (id, copy) in notes {
            assert!(!copy.local);
            let path = layout::settled_path(&self.dir, *id);
            assert!(self.bucket.disk.bytes_of(&path).is_some(), "{id:?} is lost");
            self.disk.remove(&path).unwrap();
        }
    }

    pub(super) fn settled_files(&self) -> usize {
        let root = layout::settled_root(&self.dir);
        let paths = self.disk.paths();
        paths.iter().filter(|p| p.starts_with(&root)).count()
    }

    pub(super) fn configure(&mut self, config: PartitionConfig) {
        self.partitions[0].1 = config.clone();
        self.step(Input::OpenPartition {
            partition: A,
            config,
        });
    }

    /// Records `from..to`, some virtual time after each other.
    fn fill(&mut self, range: std::ops::Range<u64>) {
        for n in range {
            let value = format!("{n} {}", "x".repeat(60));
            self.produce(plain(&value, self.now.unix_ms), Acks::Durable)
                .unwrap();
            self.advance(2_000);
        }
    }
}

pub(super) const TIERED: ShardConfig = ShardConfig {
    hot_bytes: 4096,
    tier_after_ms: Some(50),
    ..CONFIG
};

pub(super) fn local(bytes: u64) -> PartitionConfig {
    PartitionConfig {
        local_retention_bytes: Some(bytes),
        ..PartitionConfig::default()
    }
}

fn numbers(values: &[String]) -> Vec<u64> {
    let number = |v: &String| v.split(' ').next().unwrap().parse().unwrap();
    values.iter().map(number).collect()
}

#[test]
fn what_goes_here_is_in_the_tier_and_is_read_from_there() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(5000));
    rig.fill(0..300);
    rig.advance(100_000);
    let remote = rig.bucket.disk.paths().len();
    assert!(
        remote > 5 && rig.settled_files() < remote,
        "{remote} copies"
    );
    let all: Vec<u64> = (0..300).collect();
    assert_eq!(numbers(&rig.values(A, Offset(0))), all);
    let mut rig = rig.reopen();
    assert_eq!(numbers(&rig.values(A, Offset(0))), all);
    rig.advance(10_000);
    let mut rig = rig.power_cut();
    assert_eq!(numbers(&rig.values(A, Offset(0))), all);
    rig.fill(300..400);
    let all: Vec<u64> = (0..400).collect();
    assert_eq!(numbers(&rig.values(A, Offset(0))), all);
}

/// Reads wait for their turn, and files go meanwhile.
#[test]
fn a_read_that_comes_too_late_looks_again() {
    let mut rig = Rig::new(TIERED);
    rig.fill(0..300);
    rig.advance(100_000);
    let (id, _) = rig.state.tiered().unwrap()[0];
    let late = |ticket, read: Output| Input::ReadGone {
        read: Box::new(read),
        why: format!("no file for {ticket:?}"),
    };
    let segment = Source { id, remote: None };
    let batches = |ticket| {
        let bounds = FetchAnswer {
            start: Offset(0),
            end: Offset(300),
        };
        let read = Output::ReadSettled {
            ticket,
            segment,
            offset: id.first_offset,
            max_bytes: 1000,
            bounds,
        };
        late(ticket, read)
    };
    let time = |ticket| {
        let timestamp = 0;
        let read = Output::FindSettledTime {
            ticket,
            segment,
            timestamp,
        };
        late(ticket, read)
    };
    let code = |answer: Answer| answer.unwrap_err().code;
    assert_eq!(
        code(rig.get(batches)),
        ErrorCode::Damaged,
        "it should be there"
    );
    assert_eq!(code(rig.get(time)), ErrorCode::Damaged);
    rig.configure(local(1));
    rig.advance(100_000);
    let read = rig.get(batches);
    assert!(
        matches!(&read, Ok(Reply::Fetched(_, slices)) if !slices.is_empty()),
        "{read:?}"
    );
    assert_eq!(rig.get(time), Ok(Reply::Found(Offset(0))));
    rig.step(Input::ClosePartition { partition: A });
    assert_eq!(code(rig.get(batches)), ErrorCode::UnknownPartition);
}

#[test]
fn a_time_is_found_in_the_tier() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(1));
    let began_ms = rig.now.unix_ms;
    rig.fill(0..200);
    rig.advance(100_000);
    let place = Place::Time(began_ms + 20);
    let found = rig.get(|ticket| Input::FindOffset {
        ticket,
        partition: A,
        place,
    });
    assert!(
        matches!(found, Ok(Reply::Found(o)) if o.0 <= 10),
        "{found:?}"
    );
}

#[test]
fn nothing_goes_while_the_tier_does_not_answer() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(1));
    rig.bucket.down = true;
    rig.fill(0..200);
    rig.advance(100_000);
    let kept = rig.settled_files();
    assert!(kept > 5 && rig.bucket.disk.paths().is_empty());
    assert!(rig.reports.iter().any(|r| r.contains("does not answer")));
    let asked = rig.bucket.jobs;
    rig.advance(100_000);
    assert_eq!(rig.bucket.jobs, asked, "it is left alone for some time");
    rig.bucket.down = false;
    rig.advance(6_000_000);
    rig.advance(10_000);
    assert!(rig.settled_files() < kept);
    assert_eq!(rig.values(A, Offset(0)).len(), 200);
}

#[test]
fn small_segments_wait_until_they_are_old() {
    let mut rig = Rig::new(ShardConfig {
        tier_after_ms: Some(10_000),
        ..TIERED
    });
    let small = layout::settled_dir(&rig.dir, B);
    let copies = |rig: &Rig| {
        let paths = rig.bucket.disk.paths();
        paths.iter().filter(|p| p.starts_with(&small)).count()
    };
    for n in 0..200 {
        if n % 40 == 0 {
            let batch = plain("few bytes", rig.now.unix_ms);
            rig.get(|t| send(Some(t), B, batch, Acks::Durable)).unwrap();
        }
        rig.fill(n..n + 1);
    }
    assert!(rig.bucket.jobs > 0, "the large ones are not waited for");
    assert_eq!(copies(&rig), 0);
    rig.advance(11_000_000);
    rig.advance(10_000);
    assert!(copies(&rig) > 2);
}

/// A producer that counts in microseconds is tens of thousands of years ahead.
#[test]
fn times_in_the_future_keep_nothing_from_the_tier() {
    let mut rig = Rig::new(ShardConfig {
        tier_after_ms: Some(10_000),
        ..TIERED
    });
    let future_ms = rig.now.unix_ms * 1000;
    let batch = plain("few bytes", future_ms);
    rig.get(|t| send(Some(t), B, batch, Acks::Durable)).unwrap();
    rig.fill(0..200);
    let small = layout::settled_dir(&rig.dir, B);
    let copies = |rig: &Rig| {
        let paths = rig.bucket.disk.paths();
        paths.iter().filter(|p| p.starts_with(&small)).count()
    };
    assert_eq!(copies(&rig), 0, "it may be put together with others");
    rig.advance(11_000_000);
    rig.advance(10_000);
    assert_eq!(copies(&rig), 1);
}

#[test]
fn what_goes_on_failing_is_told_now_and_then() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(1));
    rig.bucket.down = true;
    rig.fill(0..200);
    let told = |rig: &Rig| {
        let reports = rig.reports.iter();
        reports.filter(|r| r.contains("does not answer")).count()
    };
    for _ in 0..40 {
        rig.advance(5_100_000);
    }
    assert!(rig.bucket.jobs > 20, "it is tried again and again");
    assert_eq!(told(&rig), 1);
    for _ in 0..100 {
        rig.advance(5_100_000);
    }
    assert_eq!(told(&rig), 2);
    rig.bucket.down = false;
    rig.advance(5_100_000);
    rig.advance(10_000);
    rig.bucket.down = true;
    rig.fill(200..400);
    assert_eq!(told(&rig), 3, "it was well meanwhile");
}

/// One upload of many jobs at a time is answered, and each answer gives out the next one.
#[test]
fn jobs_of_a_partition_follow_one_another() {
    let mut rig = Rig::new(TIERED);
    rig.bucket.down = true;
    rig.fill(0..2000);
    let files = rig.settled_files();
    assert!(files > 20, "{files} are more than one job");
    rig.bucket.down = false;
    rig.advance(6_000_000);
    assert!(
        rig.bucket.disk.paths().len() >= files,
        "no tick is waited for"
    );
}

#[test]
fn what_expires_goes_from_the_tier_first() {
    let mut rig = Rig::new(TIERED);
    rig.configure(PartitionConfig {
        retention_bytes: Some(12_000),
        ..local(3000)
    });
    rig.fill(0..400);
    rig.advance(100_000);
    let copies = rig.bucket.disk.paths().len();
    rig.fill(400..1200);
    for _ in 0..20 {
        rig.advance(20_000);
    }
    let after = rig.bucket.disk.paths().len();
    assert!(
        after <= copies + 4,
        "it does not grow for ever: {copies}, {after}"
    );
    let place = Place::Start;
    let start = rig.get(|ticket| Input::FindOffset {
        ticket,
        partition: A,
        place,
    });
    let Ok(Reply::Found(start)) = start else {
        panic!("{start:?}")
    };
    assert!(start.0 > 500, "{start}");
    let kept: Vec<u64> = (start.0..1200).collect();
    assert_eq!(numbers(&rig.values(A, start)), kept);
    let tiered = rig.state.tiered().unwrap();
    assert!(
        tiered.iter().all(|(id, _)| rig
            .bucket
            .disk
            .bytes_of(&layout::settled_path(&rig.dir, *id))
            .is_some()),
        "no note of what is gone"
    );
}

#[test]
fn of_a_deleted_partition_nothing_is_noted_any_more() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(1));
    rig.fill(0..200);
    rig.advance(100_000);
    assert_ne!(rig.state.tiered().unwrap(), []);
    rig.step(Input::ClosePartition { partition: A });
    assert_eq!(rig.state.tiered().unwrap(), []);
}
