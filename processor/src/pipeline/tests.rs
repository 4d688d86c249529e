//! Every mistake in the construction of a pipeline has its own clear error.

use super::*;
use crate::builtin;

fn pass() -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static {
    builtin::filter(|_| true)
}

fn error_of(make: impl FnOnce(&mut PipelineBuilder)) -> String {
    let mut builder = Pipeline::new("p").unwrap();
    make(&mut builder);
    builder.build().unwrap_err().message
}

#[test]
fn mistakes_are_named() {
    assert!(Pipeline::new("a b").is_err());
    assert!(Pipeline::new(&"x".repeat(200)).is_err());
    for (want, got) in [
        ("has no source", error_of(|_| ())),
        (
            "does nothing",
            error_of(|b| {
                b.source("in");
            }),
        ),
        (
            "given twice",
            error_of(|b| {
                b.source("in").source("in").sink(NodeRef::INPUT, "out");
            }),
        ),
        (
            "its own output",
            error_of(|b| {
                b.source("in").sink(NodeRef::INPUT, "in");
            }),
        ),
        (
            "its own output",
            error_of(|b| {
                b.source("p.dlq").sink(NodeRef::INPUT, "out");
            }),
        ),
        (
            "cannot be told apart",
            error_of(|b| {
                b.source("in");
                b.add(NodeRef::INPUT, "s", pass());
                b.add(NodeRef::INPUT, "s", pass());
            }),
        ),
        (
            "stage name",
            error_of(|b| {
                b.add(NodeRef::INPUT, "", pass());
            }),
        ),
        (
            "another pipeline",
            error_of(|b| {
                b.source("in").sink(NodeRef(3), "out");
            }),
        ),
        (
            "max_attempts is 0",
            error_of(|b| {
                b.source("in")
                    .sink(NodeRef::INPUT, "out")
                    .options(PipelineOptions {
                        max_attempts: 0,
                        ..PipelineOptions::default()
                    });
            }),
        ),
        (
            "idle_ms is -1",
            error_of(|b| {
                b.source("in")
                    .sink(NodeRef::INPUT, "out")
                    .options(PipelineOptions {
                        idle_ms: -1,
                        ..PipelineOptions::default()
                    });
            }),
        ),
        (
            "at most 64 stages",
            error_of(|b| {
                for i in 0..=STAGES_MAX {
                    b.add(NodeRef::INPUT, &format!("s{i}"), pass());
                }
            }),
        ),
    ] {
        assert!(got.contains(want), "{got}");
    }
}

#[test]
fn sinks_have_fixed_places_and_no_repeats() {
    let mut b = Pipeline::new("p").unwrap();
    b.source("in").sink(NodeRef::INPUT, "out");
    let stage = b.add(NodeRef::INPUT, "s", pass());
    b.sink(stage, "out")
        .sink(stage, "more")
        .sink(stage, "p.late");
    let p = b.build().unwrap();
    assert_eq!(p.sinks(), ["p.dlq", "p.late", "out", "more"]);
    assert_eq!(p.sinks()[SinkRef::DLQ.index()], "p.dlq");
    assert_eq!(p.sinks()[SinkRef::LATE.index()], "p.late");
    assert_eq!(p.stages().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn a_pipeline_can_be_shared_between_threads() {
    fn shareable<T: Clone + Send + Sync>() {}
    fn movable<T: Send>() {}
    shareable::<Pipeline>();
    movable::<crate::Task>();
}
