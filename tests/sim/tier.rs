//! The driver's work for the tier: a bucket that may not answer, and never forgets.

use crate::host::{Done, Host, Job};
use crate::planted::Plant;
use flowstone_core::Input;
use flowstone_core::output::TierJob;
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_storage::{Disk, Error, layout};
use std::io::{self, IoSlice};

/// How often the bucket does not answer in the middle of a job.
const FAILS_PERCENT: u64 = 15;

impl Host {
    /// Copies to the bucket and takes from it what is not wanted.
    pub(crate) fn copy(&mut self, job: TierJob) -> Done {
        let fails = self.rng.percent(FAILS_PERCENT);
        let room = if fails {
            job.upload.len() / 2
        } else {
            job.upload.len()
        };
        let mut notes = Vec::new();
        for meta in job.upload.iter().take(room) {
            match self.upload(meta) {
                Ok(copy) => notes.push((meta.id(), copy)),
                Err(e) => return failed(&job, e.to_string()),
            }
        }
        if fails {
            return failed(&job, "the bucket does not answer".into());
        }
        let wanted: Vec<_> = notes.iter().map(|(id, _)| id).chain(&job.keep).collect();
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|id| layout::settled_path(&self.dir, *id))
            .collect();
        let dir = layout::settled_dir(&self.dir, job.partition);
        for path in self.bucket.paths() {
            if path.starts_with(&dir) && !wanted.contains(&path) {
                self.bucket.remove(&path).expect("it is there");
            }
        }
        Done::More(Job::Tiered(job, notes))
    }

    fn upload(&self, meta: &SettledMeta) -> io::Result<Tiered> {
        let path = layout::settled_path(&self.dir, meta.id());
        let from = self.disk.open(&path)?;
        let mut bytes = vec![0; from.len()? as usize];
        from.read_at(0, &mut bytes)?;
        if self.plant != Some(Plant::CopyNothing) {
            // An upload that was cut short is done again.
            let _ = self.bucket.remove(&path);
            self.bucket
                .create(&path, 0)?
                .write_at(0, &[IoSlice::new(&bytes)])?;
        }
        Ok(Tiered {
            generation: meta.generation,
            epoch: 1,
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
            local: true,
        })
    }

    /// Notes in the manifest what the bucket has.
    pub(crate) fn note_copies(&mut self, job: &TierJob, notes: Vec<(SegmentId, Tiered)>) -> Done {
        let noted = self.state.commit_tiered(&notes);
        Done::Input(Input::Tiered {
            partition: job.partition,
            start: job.start,
            result: noted.map(|()| notes).map_err(|e| e.to_string()),
        })
    }

    /// Lets local files go.
    pub(crate) fn forget(&self, notes: &[(SegmentId, Tiered)]) -> Result<(), Error> {
        if self.plant != Some(Plant::ForgetUnnoted) {
            self.state.commit_tiered(notes)?;
        }
        for (id, _) in notes {
            // What is not removed now is removed by the next start.
            let _ = self.disk.remove(&layout::settled_path(&self.dir, *id));
        }
        Ok(())
    }
}

fn failed(job: &TierJob, why: String) -> Done {
    Done::Input(Input::Tiered {
        partition: job.partition,
        start: job.start,
        result: Err(why),
    })
}
