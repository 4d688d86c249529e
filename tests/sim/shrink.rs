//! From a seed that fails to the least of it that fails in the same way.

use crate::run::{BUSY_MS, Broken, run};
use crate::scenario::{Options, Part};

/// Runs that a search may take.
const RUNS_MAX: usize = 150;

/// The least that was found to fail, and how.
pub(crate) struct Least {
    pub(crate) options: Options,
    pub(crate) failure: Broken,
    pub(crate) runs: usize,
}

/// The property that does not hold: what a failure says before its colon.
fn property(failure: &Broken) -> &str {
    failure.what.split(':').next().unwrap_or_default()
}

/// Switches off one thing after the other, and keeps off what the failure does not need, until nothing
/// more can go.
pub(crate) fn shrink(seed: u64, options: Options, failure: Broken) -> Least {
    let wanted = property(&failure).to_string();
    let mut least = Least {
        options,
        failure,
        runs: 0,
    };
    loop {
        let before = least.options.clone();
        for change in changes() {
            least.attempt(seed, &wanted, &change);
        }
        if least.options == before || least.runs >= RUNS_MAX {
            return least;
        }
    }
}

/// Something less, made of what there is.
type Change = Box<dyn Fn(&mut Options)>;

/// What is tried, coarse things first.
fn changes() -> Vec<Change> {
    let mut all: Vec<Change> = vec![at_most_shards(1), at_most_shards(2)];
    all.extend([25, 50].map(less_time));
    for (part, _) in Part::ALL {
        all.push(switched_off(part));
    }
    all.extend([50, 75, 90].map(less_time));
    all
}

fn at_most_shards(shards: u16) -> Change {
    Box::new(move |o| o.shards = Some(o.shards.map_or(shards, |s| s.min(shards))))
}

fn switched_off(part: Part) -> Change {
    Box::new(move |o| o.off.extend([part]))
}

fn less_time(percent: u64) -> Change {
    Box::new(move |o| o.busy_ms = Some(o.busy_ms.unwrap_or(BUSY_MS) * percent / 100))
}

impl Least {
    fn attempt(&mut self, seed: u64, wanted: &str, change: &Change) {
        let mut options = self.options.clone();
        change(&mut options);
        if options == self.options || self.runs >= RUNS_MAX {
            return;
        }
        self.runs += 1;
        if let Err(failure) = run(seed, options.clone())
            && property(&failure) == wanted
        {
            (self.options, self.failure) = (options, failure);
        }
    }

    /// How to have it again.
    pub(crate) fn command(&self, seed: u64) -> String {
        let mut command = format!("FLOWSTONE_SEED={seed}");
        for (name, value) in self.options.to_env() {
            command += &format!(" {name}={value}");
        }
        command + " cargo test -p flowstone-tests --test sim every_promise"
    }
}

#[test]
fn a_failure_is_told_with_less_and_stays_the_same() {
    use crate::planted::Plant;
    let planted = Options::planted(Plant::DropParcel);
    let failing = (0..40).find_map(|seed| {
        let failure = run(seed, planted.clone()).err()?;
        Some((seed, failure))
    });
    let (seed, failure) = failing.expect("the bug is found");
    let wanted = property(&failure).to_string();
    let least = shrink(seed, planted, failure);
    let options = &least.options;
    assert!(options.off.len() > Part::ALL.len() / 2, "{options:?}");
    assert!(options.shards.is_none_or(|n| n > 1), "it takes two shards");
    let again = run(seed, options.clone()).unwrap_err();
    assert_eq!(property(&again), wanted);
    assert_eq!(again.what, least.failure.what);
}
