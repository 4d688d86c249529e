//! Departures against logs that are compared entry by entry.

use super::*;
use proptest::prelude::*;

fn table(starts: &[(u32, u64)]) -> EpochTable {
    let mut table = EpochTable::default();
    for (epoch, first) in starts {
        assert!(table.push(Epoch(*epoch), Lsn(*first)));
    }
    table
}

#[test]
fn a_shorter_log_departs_at_its_end() {
    let leader = table(&[(1, 1), (3, 8)]);
    assert_eq!(
        table(&[(1, 1)]).departure(Lsn(5), &leader),
        Departure::After(Lsn(5))
    );
    assert_eq!(
        table(&[]).departure(Lsn(0), &leader),
        Departure::After(Lsn(0))
    );
}

#[test]
fn what_an_old_leader_wrote_alone_is_cut() {
    let leader = table(&[(1, 1), (3, 8)]);
    assert_eq!(
        table(&[(1, 1)]).departure(Lsn(12), &leader),
        Departure::After(Lsn(7))
    );
    assert_eq!(
        table(&[(1, 1), (2, 5)]).departure(Lsn(12), &leader),
        Departure::After(Lsn(4))
    );
}

#[test]
fn an_old_copy_of_the_question_gives_the_same_answer() {
    let leader = table(&[(1, 1), (3, 8)]);
    let follower = table(&[(1, 1), (3, 8)]);
    // However far the leader was when it asked: what is of its epoch stays.
    assert_eq!(
        follower.departure(Lsn(900), &leader),
        Departure::After(Lsn(900))
    );
}

#[test]
fn what_cannot_be_compared_is_said_so() {
    let mut leader = table(&[(1, 1), (3, 8)]);
    leader.trim(Lsn(9));
    assert_eq!(
        table(&[(1, 1)]).departure(Lsn(5), &leader),
        Departure::BelowTheirs
    );
    assert_eq!(
        table(&[(1, 1), (2, 5)]).departure(Lsn(20), &leader),
        Departure::BelowTheirs
    );
    let mut ours = table(&[(1, 1), (2, 5)]);
    ours.trim(Lsn(6));
    let theirs = table(&[(1, 1), (3, 4)]);
    assert_eq!(ours.departure(Lsn(20), &theirs), Departure::BelowOurs);
}

/// Two logs that grew from a common trunk, as lists of epochs by LSN.
fn two_logs() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    let steps = || prop::collection::vec(0..3u32, 0..8);
    (steps(), steps(), steps()).prop_map(|(trunk, ours, theirs)| {
        let grow = |from: &[u32], steps: &[u32], parity: u32| {
            let mut log = from.to_vec();
            for step in steps {
                // Branches have epochs of their own: one leader wrote each.
                let last = log.last().copied().unwrap_or(1);
                let next = match (step, last % 3 == parity) {
                    (0, true) => last,
                    (step, _) => last + 3 * step + 3 - last % 3 + parity,
                };
                log.push(next);
            }
            log
        };
        let trunk = grow(&[], &trunk, 0);
        (grow(&trunk, &ours, 1), grow(&trunk, &theirs, 2))
    })
}

fn table_of(log: &[u32]) -> EpochTable {
    let mut table = EpochTable::default();
    for (epoch, lsn) in log.iter().zip(1..) {
        assert!(table.push(Epoch(*epoch), Lsn(lsn)));
    }
    table
}

proptest! {
    #[test]
    fn the_departure_is_where_the_logs_differ((ours, theirs) in two_logs()) {
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count() as u64;
        let end = Lsn(ours.len() as u64);
        // A leader's last epoch is its own and open; no other log has it here.
        let mut leader = table_of(&theirs);
        let own = Epoch(leader.last_epoch().0.max(table_of(&ours).last_epoch().0) + 1);
        prop_assert!(leader.push(own, Lsn(theirs.len() as u64 + 1)));
        prop_assert_eq!(table_of(&ours).departure(end, &leader), Departure::After(Lsn(same)));
    }

    #[test]
    fn trimming_and_cutting_keep_what_remains((log, _) in two_logs(), base in 0..20u64, last in 0..20u64) {
        let end = log.len() as u64;
        let (base, last) = (base.min(end), last.min(end));
        prop_assume!(base <= last);
        let mut table = table_of(&log);
        let whole = table.clone();
        table.trim(Lsn(base));
        table.cut(Lsn(last));
        prop_assert!(table.is_sound());
        for lsn in base..=last {
            prop_assert_eq!(table.epoch_at(Lsn(lsn)), whole.epoch_at(Lsn(lsn)));
        }
        prop_assert_eq!(table.base().lsn, Lsn(base));
    }
}
