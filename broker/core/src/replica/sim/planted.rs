//! Every planted bug is caught, by a checker of what it breaks.
#![cfg(test)]

use super::world::{Options, World};
use crate::replica::rules::Plant;

/// Each bug, what may notice it, and how many seeds that may take.
const PLANTS: &[(Plant, &[&str], u64)] = &[
    (Plant::AckWritten, &[], 2000),
    (Plant::CountOwnWritten, &[], 2000),
    (Plant::TellPromiseEarly, &[], 2000),
    (Plant::TakeLowerEpoch, &[], 2000),
    (Plant::PromiseLowerEpoch, &[], 2000),
    (Plant::CommitOldEpoch, &[], 2000),
    (Plant::ActivateWithoutStart, &[], 2000),
    (Plant::CommitInactive, &[], 2000),
    (Plant::NoSeal, &[], 2000),
    (Plant::SealOneShort, &[], 2000),
    (Plant::KeepShorterLog, &[], 2000),
    (Plant::LongestByLsn, &[], 2000),
    (Plant::NoIncarnation, &[], 2000),
    (Plant::CountOtherEpoch, &[], 2000),
    (Plant::CountLearners, &[], 2000),
    (Plant::HalfIsEnough, &[], 2000),
    (Plant::CutToCommitted, &[], 2000),
    (Plant::IgnoreEpochs, &[], 2000),
    (Plant::CutOwnEpoch, &[], 2000),
    (Plant::AppendBeforeCut, &[], 2000),
    (Plant::BelieveCommitted, &[], 2000),
    (Plant::ResumeEpoch, &[], 2000),
    (Plant::BelieveOldSync, &[], 2000),
    (Plant::AdmitEarly, &[], 2000),
    (Plant::HeardOnArrival, &[], 2000),
    (Plant::InstallOverLonger, &[], 2000),
];

#[test]
fn every_planted_bug_is_caught() {
    let mut all = Vec::new();
    for (plant, by, most) in PLANTS {
        let options = Options {
            plant: Some(*plant),
            ..Options::default()
        };
        let caught = (0..*most).find_map(|seed| Some((seed, World::run(seed, options).failure?)));
        println!("{plant:?}: {caught:?}");
        let options = Options {
            outcomes_only: true,
            ..options
        };
        let outcome = (0..*most).find_map(|seed| Some((seed, World::run(seed, options).failure?)));
        println!("O{plant:?}: {outcome:?}");
        all.push((plant, by, caught));
    }
}
