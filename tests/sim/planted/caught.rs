//! Every planted bug is caught, by a checker of what it breaks.

use super::Plant;
use crate::run::run;
use crate::scenario::Options;

/// Seeds until the bug is found; it must not take more than `most`.
fn is_caught(plant: Plant, by: &[&str], most: u64) {
    let mut missed = Vec::new();
    for seed in 0..most {
        let Err(failure) = run(seed, Options::planted(plant)) else {
            continue;
        };
        if by.iter().any(|b| failure.what.starts_with(b)) {
            return;
        }
        missed.push(failure.what);
    }
    panic!("{plant:?} is not caught by {by:?} within {most} seeds, only by {missed:#?}");
}

#[test]
fn a_sync_that_is_not_done_is_caught() {
    is_caught(
        Plant::SyncWithoutSyncing,
        &["durability", "visibility", "recovery"],
        20,
    );
}

#[test]
fn a_sync_that_is_done_again_is_caught() {
    is_caught(
        Plant::SyncAgainAfterError,
        &["durability", "visibility", "recovery"],
        60,
    );
}

#[test]
fn names_that_are_not_durable_are_caught() {
    is_caught(
        Plant::NoDirectorySync,
        &["durability", "visibility", "recovery"],
        40,
    );
}

#[test]
fn settled_segments_that_are_not_durable_are_caught() {
    is_caught(
        Plant::NoSyncPoint,
        &["durability", "visibility", "recovery", "offsets"],
        60,
    );
}

#[test]
fn state_that_is_not_stored_is_caught() {
    is_caught(
        Plant::MaterializeNothing,
        &["recovery", "idempotence", "groups", "offsets"],
        40,
    );
}

#[test]
fn a_manifest_without_what_was_settled_is_caught() {
    is_caught(
        Plant::SkipManifest,
        &["durability", "visibility", "offsets"],
        40,
    );
}

#[test]
fn copies_that_were_not_made_are_caught() {
    is_caught(Plant::CopyNothing, &["durability", "visibility"], 60);
}

#[test]
fn local_files_that_go_unnoted_are_caught() {
    is_caught(
        Plant::ForgetUnnoted,
        &["durability", "visibility", "recovery"],
        60,
    );
}

#[test]
fn files_that_go_too_early_are_caught() {
    is_caught(
        Plant::RemoveTooEarly,
        &["recovery", "groups", "idempotence"],
        40,
    );
}

#[test]
fn a_lost_read_for_a_task_is_caught() {
    is_caught(Plant::LoseTaskRead, &["exactly once", "liveness"], 60);
}

#[test]
fn readers_that_see_too_much_are_caught() {
    is_caught(Plant::WrongVisibility, &["visibility"], 60);
}

#[test]
fn forgotten_tasks_are_caught() {
    is_caught(Plant::ForgetTasks, &["exactly once"], 40);
}

#[test]
fn forgotten_producers_are_caught() {
    is_caught(Plant::ForgetProducers, &["idempotence", "order"], 40);
}

#[test]
fn a_lost_answer_is_caught() {
    is_caught(
        Plant::LoseAnswer,
        &["liveness", "idempotence", "offsets"],
        10,
    );
}

#[test]
fn a_dropped_parcel_is_caught() {
    is_caught(Plant::DropParcel, &["exactly once"], 40);
}

#[test]
fn a_parcel_that_is_not_durable_where_it_went_is_caught() {
    is_caught(Plant::AnswerTooEarly, &["exactly once"], 60);
}

#[test]
fn a_full_mailbox_that_counts_as_a_deleted_topic_is_caught() {
    is_caught(Plant::FullIsUnknown, &["exactly once"], 40);
}

#[test]
fn lost_answers_to_parcels_are_caught() {
    is_caught(Plant::LoseCarried, &["exactly once"], 200);
}

#[test]
fn parcels_without_numbers_are_caught() {
    is_caught(Plant::DeliverUnnumbered, &["exactly once"], 40);
}

#[test]
fn forgotten_arrivals_are_caught() {
    is_caught(
        Plant::ForgetArrivals,
        &["exactly once", "idempotence", "order"],
        40,
    );
}

#[test]
fn forgotten_outputs_for_other_shards_are_caught() {
    for plant in [
        Plant::ForgetOutbound,
        Plant::ForgetParcels,
        Plant::ForgetLanes,
    ] {
        is_caught(plant, &["exactly once"], 60);
    }
}
