//! The house rules that a program can check, one test per rule.
//!
//! A finding names the file, the line and what to do. The checks are functions over a path and a
//! text; `red.rs` shows for each of them that it finds what it is there for.
#![forbid(unsafe_code)]

mod calls;
mod functions;
mod layers;
mod manifest;
mod purity;
mod red;
mod source;
mod text;
mod unsafety;

use manifest::Manifest;
use source::Source;

/// Paths that a rule passes over. All lists are empty, and a test holds them so.
const FILE_LENGTH_EXCEPTIONS: &[&str] = &[];
const FUNCTION_LENGTH_EXCEPTIONS: &[&str] = &[];
const CALL_EXCEPTIONS: &[&str] = &[];
const SLEEP_EXCEPTIONS: &[&str] = &[];
const PURITY_EXCEPTIONS: &[&str] = &[];
const NAME_EXCEPTIONS: &[&str] = &[];

const EXCEPTIONS: &[(&str, &[&str])] = &[
    ("FILE_LENGTH_EXCEPTIONS", FILE_LENGTH_EXCEPTIONS),
    ("FUNCTION_LENGTH_EXCEPTIONS", FUNCTION_LENGTH_EXCEPTIONS),
    ("CALL_EXCEPTIONS", CALL_EXCEPTIONS),
    ("SLEEP_EXCEPTIONS", SLEEP_EXCEPTIONS),
    ("PURITY_EXCEPTIONS", PURITY_EXCEPTIONS),
    ("NAME_EXCEPTIONS", NAME_EXCEPTIONS),
];

const NO_EXCEPTIONS: &[&str] = &[];

#[track_caller]
fn holds_for_sources(check: fn(&Source) -> Vec<String>, exceptions: &[&str]) {
    let checked = source::all()
        .iter()
        .filter(|s| !exceptions.contains(&s.path.as_str()));
    none(checked.flat_map(check).collect());
}

#[track_caller]
fn holds_for_manifests(check: fn(&Manifest) -> Vec<String>) {
    none(manifest::all().iter().flat_map(check).collect());
}

#[track_caller]
fn none(findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{} to mend:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn exception_lists_are_empty() {
    for (list, paths) in EXCEPTIONS {
        assert!(
            paths.is_empty(),
            "{list}: mend {paths:?} and take them off the list"
        );
    }
}

#[test]
fn the_walk_sees_every_crate() {
    for manifest in manifest::all() {
        let root = format!("{}/src/", manifest.dir);
        let seen = source::all().iter().any(|s| s.path.starts_with(&root));
        assert!(
            seen,
            "no source under {root}: the rules would hold for nothing there"
        );
    }
}

#[test]
fn layer_table_names_the_members_of_the_workspace() {
    none(layers::members(&manifest::all()));
}

#[test]
fn crates_use_only_lower_layers() {
    holds_for_manifests(layers::edges);
}

#[test]
fn dependencies_come_from_the_workspace() {
    holds_for_manifests(layers::workspace_dependencies);
}

#[test]
fn lints_come_from_the_workspace() {
    holds_for_manifests(layers::workspace_lints);
}

#[test]
fn there_are_no_cargo_features() {
    holds_for_manifests(layers::cargo_features);
    holds_for_sources(calls::cargo_features, NO_EXCEPTIONS);
}

#[test]
fn parts_stay_in_their_places() {
    holds_for_manifests(layers::part_dependencies);
    holds_for_sources(layers::part_names, NO_EXCEPTIONS);
}

#[test]
fn unsafe_code_stays_in_its_place() {
    holds_for_sources(unsafety::place, NO_EXCEPTIONS);
}

#[test]
fn unsafe_code_is_counted() {
    let count: usize = source::all().iter().map(unsafety::count).sum();
    let pinned = unsafety::UNSAFE_BLOCKS;
    assert_eq!(
        count, pinned,
        "see UNSAFE_BLOCKS in tests/tidy/unsafety.rs for how to change it"
    );
}

#[test]
fn crate_roots_forbid_unsafe_code() {
    holds_for_sources(unsafety::lints, NO_EXCEPTIONS);
}

#[test]
fn pure_cores_are_pure() {
    holds_for_sources(purity::check, PURITY_EXCEPTIONS);
}

#[test]
fn names_say_what_is_inside() {
    holds_for_sources(text::names, NAME_EXCEPTIONS);
    holds_for_manifests(text::package_name);
}

#[test]
fn test_modules_are_for_tests_only() {
    holds_for_sources(text::test_modules, NO_EXCEPTIONS);
}

#[test]
fn files_open_with_a_sentence() {
    holds_for_sources(text::opening, NO_EXCEPTIONS);
}

#[test]
fn files_are_short() {
    holds_for_sources(text::length, FILE_LENGTH_EXCEPTIONS);
}

#[test]
fn functions_are_short() {
    holds_for_sources(functions::length, FUNCTION_LENGTH_EXCEPTIONS);
}

#[test]
fn production_code_makes_no_banned_call() {
    holds_for_sources(calls::production, CALL_EXCEPTIONS);
}

#[test]
fn tests_are_not_ignored() {
    holds_for_sources(calls::ignored, NO_EXCEPTIONS);
}

#[test]
fn tests_do_not_sleep() {
    holds_for_sources(calls::sleeping_tests, SLEEP_EXCEPTIONS);
}

#[test]
fn nothing_is_left_over() {
    holds_for_sources(text::leftovers, NO_EXCEPTIONS);
}

#[test]
fn white_space_is_clean() {
    holds_for_sources(text::white_space, NO_EXCEPTIONS);
}
