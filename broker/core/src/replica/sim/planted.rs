//! Every planted bug is caught: at once where a checker looks for it, and without that by what comes of it.
#![cfg(test)]

use super::world::{Options, World};
use crate::replica::rules::Plant;

/// Seeds within which a bug must be caught.
const SEEDS: u64 = 6_000;

const PLANTS: [Plant; 27] = [
    Plant::AckWritten,
    Plant::CountOwnWritten,
    Plant::TellPromiseEarly,
    Plant::AckAfterPromise,
    Plant::TakeLowerEpoch,
    Plant::PromiseLowerEpoch,
    Plant::CommitOldEpoch,
    Plant::ActivateWithoutStart,
    Plant::CommitInactive,
    Plant::NoSeal,
    Plant::SealOneShort,
    Plant::KeepShorterLog,
    Plant::LongestByLsn,
    Plant::NoIncarnation,
    Plant::CountOtherEpoch,
    Plant::CountLearners,
    Plant::HalfIsEnough,
    Plant::CutToCommitted,
    Plant::IgnoreEpochs,
    Plant::CutOwnEpoch,
    Plant::AppendBeforeCut,
    Plant::BelieveCommitted,
    Plant::ResumeEpoch,
    Plant::BelieveOldSync,
    Plant::AdmitEarly,
    Plant::HeardOnArrival,
    Plant::InstallOverLonger,
];

/// Nothing comes of these in so few seeds: a learner that is admitted early costs only time; an
/// acknowledgement of another epoch that could do harm is mostly beyond the leader's log, which is looked
/// at as well; and one after a promise must overtake the new leader by less than a turn of messages.
const UNLIKELY: [Plant; 3] = [
    Plant::AdmitEarly,
    Plant::CountOtherEpoch,
    Plant::AckAfterPromise,
];

/// The first seed that fails with a bug, and how.
fn first_caught(plant: Plant, outcomes_only: bool) -> Option<(u64, String)> {
    let options = Options {
        plant: Some(plant),
        outcomes_only,
        ..Options::default()
    };
    (0..SEEDS).find_map(|seed| Some((seed, World::run(seed, options).failure?)))
}

#[track_caller]
fn all_caught(plants: impl Iterator<Item = Plant>, outcomes_only: bool) {
    let mut missed = Vec::new();
    for plant in plants {
        match first_caught(plant, outcomes_only) {
            Some((seed, what)) => println!("{plant:?}: {} seeds, {what}", seed + 1),
            None => missed.push(plant),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught within {SEEDS} seeds: {missed:?}"
    );
}

#[test]
fn every_planted_bug_is_caught() {
    let last = Plant::InstallOverLonger as usize;
    assert_eq!(
        PLANTS.map(|p| p as usize).to_vec(),
        (0..=last).collect::<Vec<_>>()
    );
    all_caught(PLANTS.into_iter(), false);
}

#[test]
fn what_comes_of_a_planted_bug_is_caught() {
    let likely = PLANTS.into_iter().filter(|p| !UNLIKELY.contains(p));
    all_caught(likely, true);
}
