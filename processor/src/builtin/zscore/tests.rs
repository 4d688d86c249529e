//! Alerts come where the numbers say so, and rounding does not invent or hide them.

use super::*;
use crate::Pipeline;
use crate::rig::Rig;
use proptest::prelude::*;
use serde_json::Value;

fn detector(samples: u32, min_samples: u32, threshold: f64) -> Zscore {
    Zscore {
        field: "n".into(),
        samples,
        min_samples,
        threshold,
    }
}

fn pipeline(zscore: Zscore) -> Pipeline {
    Pipeline::chain("p", "in")
        .zscore(zscore)
        .to("out")
        .build()
        .unwrap()
}

fn send(rig: &mut Rig, key: Option<&str>, numbers: impl IntoIterator<Item = f64>) {
    for n in numbers {
        rig.send(0, &[(7, key, Some(&format!("{{\"n\":{n:?}}}")))]);
    }
    rig.run();
    rig.log.clear();
}

#[test]
fn an_unlike_number_is_told_with_its_expectation() {
    let mut rig = Rig::new(&pipeline(detector(4, 4, 3.0)), &[0]);
    send(&mut rig, Some("a"), [1.0, 3.0, 1.0, 3.0]);
    send(&mut rig, Some("b"), [100.0]);
    send(&mut rig, None, [100.0]);
    send(&mut rig, Some("a"), [4.9, 1.0, 3.0]);
    assert!(rig.outs.is_empty());
    send(&mut rig, Some("a"), [-40.0]);
    let out = &rig.outs[0];
    assert_eq!((out.key.as_deref(), out.timestamp), (Some("a"), 7));
    let alert: Value = serde_json::from_str(out.value.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&alert["key"], &alert["value"]),
        (&"a".into(), &(-40.0).into())
    );
    assert_eq!(alert["timestamp"], 7);
    let near = |name: &str, expected: f64| {
        let found = alert[name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "{name} {found} {expected}");
    };
    // The last four before it: 3, 4.9, 1, 3.
    let mean = 11.9 / 4.0;
    let variance: f64 = [3.0, 4.9, 1.0, 3.0]
        .iter()
        .map(|n: &f64| (n - mean).powi(2))
        .sum();
    let stddev = (variance / 4.0).sqrt();
    near("mean", mean);
    near("stddev", stddev);
    near("z", (-40.0 - mean) / stddev);
}

#[test]
fn equal_numbers_give_no_alert_and_no_division() {
    let mut rig = Rig::new(&pipeline(detector(5, 2, 0.1)), &[0]);
    send(&mut rig, None, [0.1; 30]);
    send(&mut rig, None, [5.0]);
    assert!(rig.outs.is_empty());
    send(&mut rig, None, [0.1; 5]);
    let told = rig.outs.len();
    send(&mut rig, None, [0.1; 20]);
    assert_eq!(
        rig.outs.len(),
        told,
        "the 5 has left the ring without a trace"
    );
}

#[test]
fn a_huge_number_that_has_left_the_ring_hides_nothing() {
    let mut rig = Rig::new(&pipeline(detector(10, 5, 3.0)), &[0]);
    let calm = [1.0, 2.0].into_iter().cycle();
    send(&mut rig, None, calm.clone().take(13));
    send(&mut rig, None, [1e12]);
    assert_eq!(rig.outs.len(), 1);
    // Ten later its slot is taken, in the middle of a round.
    send(&mut rig, None, calm.take(10));
    assert_eq!(rig.outs.len(), 1);
    send(&mut rig, None, [50.0]);
    assert_eq!(rig.outs.len(), 2);
}

#[test]
fn no_alert_before_there_are_enough() {
    let mut rig = Rig::new(&pipeline(detector(10, 5, 2.0)), &[0]);
    send(&mut rig, None, [1.0, 2.0, 1.0, 900.0]);
    assert!(rig.outs.is_empty());
}

#[test]
fn a_number_too_large_or_missing_is_rejected() {
    let mut rig = Rig::new(&pipeline(detector(10, 2, 2.0)), &[0]);
    send(&mut rig, None, [1e151]);
    rig = {
        assert_eq!(rig.at("p.dlq").count(), 1);
        Rig::new(&pipeline(detector(10, 2, 2.0)), &[0])
    };
    rig.send(0, &[(1, None, Some("{}")), (1, None, None)]);
    rig.run();
    assert_eq!(rig.at("p.dlq").count(), 2);
}

#[test]
fn fewer_samples_than_before_start_the_key_anew() {
    let mut rig = Rig::new(&pipeline(detector(10, 2, 2.0)), &[0]);
    send(&mut rig, Some("a"), (0..9).map(f64::from));
    let entries = rig.task.snapshot();
    let smaller = pipeline(detector(3, 2, 2.0));
    rig.task = crate::Task::load(&smaller, entries).unwrap();
    let batch = crate::rig::Batch::new(0, 9, &[(1, Some("a"), Some(r#"{"n":900}"#))]);
    rig.task
        .step(0, &[batch.input()], crate::StepLimits::default())
        .unwrap();
    let states = rig.task.snapshot();
    assert_eq!(states.iter().filter(|(k, _)| k[0] == b's').count(), 2);
}

#[test]
fn settings_out_of_range_are_refused() {
    for bad in [
        detector(1, 1, 1.0),
        detector(ZSCORE_SAMPLES_MAX + 1, 2, 1.0),
        detector(5, 1, 1.0),
        detector(5, 6, 1.0),
        detector(5, 5, 0.0),
        detector(5, 5, f64::NAN),
        detector(5, 5, f64::INFINITY),
    ] {
        assert!(zscore(bad).is_err());
    }
}

proptest! {
    /// The running summary stays with the one computed from the ring, whatever comes and goes.
    #[test]
    fn the_running_summary_agrees_with_the_ring(
        steps in prop::collection::vec((0i32..12, -1.0f64..1.0), 1..200),
        samples in 2u32..12,
    ) {
        let mut summary = Summary::default();
        let mut ring: Vec<f64> = Vec::new();
        for (exponent, digits) in steps {
            let number = digits * 10f64.powi(exponent);
            let slot = summary.next as usize;
            let old = ring.get(slot).copied();
            let is_exact = summary.replace(old, number);
            match old {
                Some(_) => ring[slot] = number,
                None => ring.push(number),
            }
            summary.next = (summary.next + 1) % samples;
            if !is_exact || summary.next == 0 {
                summary.recompute(ring.clone().into_iter());
            }
            let mut exact = summary;
            exact.recompute(ring.clone().into_iter());
            let scale = exact.stddev().max(1e-9);
            prop_assert!((summary.stddev() - exact.stddev()).abs() <= scale * 1e-3);
            prop_assert!((summary.mean - exact.mean).abs() <= scale * 1e-3);
        }
    }
}
