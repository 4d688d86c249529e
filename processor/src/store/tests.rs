//! State: units that are kept and undone, deltas, and what is outside only.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Delete(u8),
    Commit,
    RollBack,
    FinishStep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..6, any::<u8>()).prop_map(|(k, v)| Op::Put(k, v)),
        2 => (0u8..6).prop_map(Op::Delete),
        2 => Just(Op::Commit),
        1 => Just(Op::RollBack),
        1 => Just(Op::FinishStep),
    ]
}

fn content(store: &Store) -> BTreeMap<u8, u8> {
    store.iter().map(|(_, k, v)| (k[0], v[0])).collect()
}

#[test]
fn a_scan_begins_at_its_place_and_ends_with_its_prefix() {
    let mut store = Store::new(1);
    for key in ["a", "b", "b1", "b3", "b3x", "c"] {
        store.put(0, key.as_bytes(), b"");
    }
    let from = |from: &str| -> Vec<String> {
        let entries = store.scan_from(0, b"b", from.as_bytes());
        entries
            .map(|(k, _)| String::from_utf8_lossy(k).into_owned())
            .collect()
    };
    assert_eq!(from("b"), ["b", "b1", "b3", "b3x"]);
    assert_eq!(from("b2"), ["b3", "b3x"]);
    assert_eq!(from("b4"), [""; 0]);
}

proptest! {
    /// Against a plain map that is copied at every commit.
    #[test]
    fn undo_deltas_dirt_and_size_agree_with_a_model(ops in prop::collection::vec(op(), 0..80)) {
        let (mut store, mut replayed) = (Store::new(1), Store::new(1));
        let (mut model, mut committed) = (BTreeMap::new(), BTreeMap::new());
        let mut outside = BTreeMap::new();
        for op in ops {
            match op {
                Op::Put(k, v) => {
                    store.put(0, &[k], &[v]);
                    model.insert(k, v);
                }
                Op::Delete(k) => {
                    store.delete(0, &[k]);
                    model.remove(&k);
                }
                Op::Commit => {
                    store.commit_unit();
                    committed = model.clone();
                }
                Op::RollBack => {
                    store.roll_back_unit();
                    model = committed.clone();
                }
                Op::FinishStep => {
                    store.roll_back_unit();
                    model = committed.clone();
                    store.finish_step(|n, k, v| replayed.apply(n, &k, v.as_deref()));
                    prop_assert_eq!(content(&replayed), model.clone());
                    prop_assert_eq!(replayed.size_bytes(), store.size_bytes());
                    store.take_dirty(|_, k, v| match v {
                        Some(v) => drop(outside.insert(k[0], v[0])),
                        None => drop(outside.remove(&k[0])),
                    });
                    prop_assert_eq!(&outside, &model);
                }
            }
            prop_assert_eq!(content(&store), model.clone());
        }
    }
}

#[test]
fn what_came_and_went_within_a_step_is_in_no_delta() {
    let mut store = Store::new(1);
    store.put(0, b"k", b"v");
    store.commit_unit();
    store.delete(0, b"k");
    store.commit_unit();
    store.finish_step(|_, key, _| panic!("{key:?}"));
    store.take_dirty(|_, key, _| panic!("{key:?}"));
}

#[test]
fn what_was_undone_is_in_no_delta() {
    let mut store = Store::new(1);
    store.load(0, b"k", b"old");
    store.put(0, b"k", b"new");
    store.put(0, b"other", b"new");
    store.roll_back_unit();
    store.finish_step(|_, key, _| panic!("{key:?}"));
    assert_eq!(store.get(0, b"k"), Some(&b"old"[..]));
}

/// A store with `b` in memory, in the middle of what is outside.
fn in_a_gap() -> Store {
    let mut store = Store::new(1);
    store.leave_out(0, (b"a", b"c"), (3, 6));
    store.admit(0, b"b", b"old");
    assert_eq!(store.get(0, b"b"), Some(&b"old"[..]));
    assert!(!store.has_missed());
    store
}

#[test]
fn what_was_deleted_is_not_looked_for_outside() {
    let mut store = in_a_gap();
    store.delete(0, b"b");
    store.commit_unit();
    store.admit(0, b"b", b"old");
    assert_eq!(store.get(0, b"b"), None);
    store.finish_step(|_, _, _| {});
    store.take_dirty(|_, _, _| {});
    store.admit(0, b"b", b"old");
    assert_eq!(
        store.get(0, b"b"),
        None,
        "the store outside may still have it"
    );
    assert!(!store.has_missed());
    store.stored();
    assert_eq!(store.get(0, b"b"), None);
    assert!(store.has_missed(), "now the store outside says it");
}

#[test]
fn what_was_deleted_in_a_unit_that_is_undone_is_there_again() {
    let mut store = in_a_gap();
    store.delete(0, b"b");
    store.roll_back_unit();
    let mut changes = Vec::new();
    store.take_dirty(|_, key, value| changes.push((key.to_vec(), value.map(<[u8]>::to_vec))));
    assert!(
        changes
            .iter()
            .all(|(_, value)| value.as_deref() == Some(b"old"))
    );
    assert_eq!(store.get(0, b"b"), Some(&b"old"[..]));
}

#[test]
fn blind_writes_and_scans_look_outside_first() {
    let missed = |act: &dyn Fn(&mut Store)| {
        let mut store = in_a_gap();
        act(&mut store);
        store
            .take_missed()
            .into_iter()
            .map(|(_, m)| (m.from, m.to))
            .collect::<Vec<_>>()
    };
    let behind = |key: &[u8]| key.to_vec().behind();
    assert_eq!(
        missed(&|s| s.put(0, b"aa", b"1")),
        [(b"aa".to_vec(), behind(b"aa"))]
    );
    assert_eq!(
        missed(&|s| s.delete(0, b"aa")),
        [(b"aa".to_vec(), behind(b"aa"))]
    );
    assert_eq!(missed(&|s| s.put(0, b"b", b"1")), []);
    assert_eq!(missed(&|s| s.put(0, b"d", b"1")), []);
    assert_eq!(
        missed(&|s| assert_eq!(s.scan(0, b"a").count(), 0)),
        [(b"a".to_vec(), b"b".to_vec())]
    );
    assert_eq!(
        missed(&|s| assert_eq!(s.scan(0, b"").count(), 0)),
        [(b"a".to_vec(), behind(b"c"))]
    );
    assert_eq!(missed(&|s| assert_eq!(s.scan(0, b"d").count(), 0)), []);
}

/// What is used stays, and nothing goes that is not outside.
#[test]
fn what_was_not_used_goes_first_and_changes_stay() {
    let mut store = Store::new(2);
    store.spill();
    for n in 0..100u8 {
        store.load(u16::from(n % 2), &[n], &[n; 10]);
    }
    let bytes = store.size_bytes();
    store.evict(bytes);
    assert_eq!((store.size_bytes(), store.outside_bytes()), (0, bytes));
    for n in 0..100u8 {
        store.admit(u16::from(n % 2), &[n], &[n; 10]);
    }
    store.evict(1);
    let is_there = |store: &Store, n: u16| store.get(n % 2, &[n as u8]).is_some();
    assert!(
        (2..40).all(|n| is_there(&store, n)),
        "one went, for one byte"
    );
    store.put(1, &[99], b"new");
    store.commit_unit();
    store.finish_step(|_, _, _| {});
    store.evict(bytes / 2);
    assert!((2..40).all(|n| is_there(&store, n)));
    for _ in 0..3 {
        store.evict(usize::MAX);
    }
    assert_eq!(store.iter().map(|(_, k, _)| k[0]).collect::<Vec<_>>(), [99]);
    store.take_dirty(|_, _, _| {});
    store.evict(usize::MAX);
    assert_eq!(store.iter().count(), 1, "it is on its way");
    store.stored();
    store.evict(usize::MAX);
    assert_eq!(store.iter().count(), 0);
}

#[test]
fn what_a_unit_that_is_undone_has_deleted_is_not_taken_for_gone() {
    // Put without looking and deleted again, in a gap.
    let mut store = in_a_gap();
    store.put(0, b"aa", b"new");
    store.delete(0, b"aa");
    store.roll_back_unit();
    store.take_missed();
    store.admit(0, b"aa", b"old");
    assert_eq!(store.get(0, b"aa"), Some(&b"old"[..]));
    // Put and deleted where it is in memory: it can be let go, and is not deleted outside.
    store.put(0, b"b", b"new");
    store.delete(0, b"b");
    store.roll_back_unit();
    store.finish_step(|_, key, _| panic!("{key:?}"));
    store.take_dirty(|_, key, _| panic!("{key:?}"));
    store.evict(usize::MAX);
    assert_eq!(store.get(0, b"b"), None);
    assert!(store.has_missed());
}
