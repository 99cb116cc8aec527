//! What odd options of other writers mean.

use std::time::Duration;

use serde_json::json;

use super::*;

fn decode(name: &str, value: &Value) -> (JobOptions, usize) {
    let decoded = decode_options(&json!({ name: value }).to_string());
    let named = decoded
        .problems
        .iter()
        .all(|problem| problem.starts_with(&format!("opts.{name}: ")));
    assert!(named, "{:?}", decoded.problems);
    (decoded.known, decoded.problems.len())
}

/// Whatever `attempts` holds, the handler runs as often as BullMQ runs it.
#[test]
fn attempts_have_the_effect_of_bullmq() {
    for (value, attempts, problems) in [
        (json!("3"), Some(3), 0),
        (json!(2.7), Some(3), 0),
        (json!([3]), Some(3), 0),
        (json!("0x3"), Some(3), 0),
        (json!(-1), Some(0), 0),
        (json!(true), Some(1), 0),
        (json!("Infinity"), Some(u32::MAX), 0),
        (json!(""), None, 1),
        (json!("three"), None, 1),
        (json!({}), None, 1),
        (json!([]), None, 1),
    ] {
        let (known, named) = decode("attempts", &value);
        assert_eq!((known.attempts, named), (attempts, problems), "{value}");
    }
}

/// Where BullMQ ends half way, its effect on the job is that it is kept.
#[test]
fn retention_has_the_effect_of_bullmq_or_the_safe_one() {
    let bounded = |count, age: Option<u64>, limit| Retention::Bounded {
        count,
        age: age.map(Duration::from_millis),
        limit,
    };
    for (value, retention, problems) in [
        (json!("true"), Retention::Remove, 0),
        (json!("x"), Retention::Remove, 1),
        (json!("false"), Retention::KeepAll, 1),
        (json!(""), Retention::KeepAll, 0),
        (json!("100"), Retention::KeepLast(100), 0),
        (json!(0), Retention::Remove, 0),
        (json!("0"), Retention::Remove, 0),
        (json!(2.5), Retention::KeepAll, 1),
        (json!(0.5), Retention::KeepAll, 1),
        (json!(-0.5), Retention::KeepAll, 0),
        (json!(1e21), Retention::KeepLast(u64::from(u32::MAX)), 0),
        (json!([]), Retention::KeepAll, 0),
        (json!([3]), Retention::KeepAll, 1),
        (json!({"age": "1h"}), bounded(None, None, None), 1),
        (
            json!({"age": "3600"}),
            bounded(None, Some(3_600_000), None),
            0,
        ),
        (json!({"age": 2.5}), bounded(None, Some(2500), None), 0),
        (json!({"age": -1}), bounded(None, None, None), 0),
        (json!({"count": "5"}), bounded(Some(5), None, None), 0),
        (json!({"count": true}), bounded(None, None, None), 1),
        (json!({"count": 2.5}), bounded(None, None, None), 1),
        (
            json!({"count": -1, "limit": "x"}),
            bounded(None, None, None),
            1,
        ),
        (json!({"count": 0}), Retention::Remove, 0),
        (
            json!({"limit": "3", "age": 10}),
            bounded(None, Some(10_000), Some(3)),
            0,
        ),
    ] {
        let (known, named) = decode("removeOnComplete", &value);
        assert_eq!(
            (known.remove_on_complete, named),
            (Some(retention), problems),
            "{value}"
        );
    }
}

/// With BullMQ, a job whose backoff cannot be read stays active forever or is lost.
#[test]
fn backoffs_lead_to_another_attempt() {
    let fixed = |millis| Some(Backoff::fixed(Duration::from_millis(millis)));
    let without = |kind| {
        Some(Backoff {
            kind,
            delay: None,
            jitter: None,
        })
    };
    for (value, backoff, problems) in [
        (json!(50), fixed(50), 0),
        (json!(0), None, 0),
        (json!(false), None, 0),
        (json!(""), None, 0),
        (json!("50"), fixed(50), 1),
        (json!({"delay": 50}), fixed(50), 1),
        (json!({"type": "", "delay": "50"}), fixed(50), 1),
        (json!({"type": ["fixed"], "delay": 50}), fixed(50), 0),
        (
            json!({"type": "fixed", "delay": "1s"}),
            without(BackoffKind::Fixed),
            1,
        ),
        (
            json!({"type": "exponential", "delay": ""}),
            without(BackoffKind::Exponential),
            0,
        ),
        (json!({}), without(BackoffKind::Fixed), 1),
        (json!(true), None, 1),
        (json!([50]), None, 1),
        (json!("exponential"), without(BackoffKind::Exponential), 1),
        (
            json!({"type": 5}),
            without(BackoffKind::Custom("5".to_owned())),
            0,
        ),
        (
            json!({"type": "FIXED", "delay": 5}),
            Some(Backoff {
                kind: BackoffKind::Custom("FIXED".to_owned()),
                delay: Some(Duration::from_millis(5)),
                jitter: None,
            }),
            0,
        ),
        (
            json!({"type": "fixed", "delay": 50, "jitter": "x"}),
            fixed(50),
            1,
        ),
    ] {
        let (known, named) = decode("backoff", &value);
        assert_eq!((known.backoff, named), (backoff, problems), "{value}");
    }
}

#[test]
fn other_options_count_as_absent_when_they_cannot_be_read() {
    for (name, value) in [
        ("delay", json!("")),
        ("delay", json!("x")),
        ("priority", json!({})),
        ("kl", json!("x")),
        ("stackTraceLimit", json!("")),
        ("sizeLimit", json!("x")),
        ("timestamp", json!("x")),
        ("parent", json!("x")),
        ("jobId", json!({})),
    ] {
        let (known, named) = decode(name, &value);
        assert_eq!((known, named), (JobOptions::new(), 1), "{name}: {value}");
    }
    let (known, named) = decode("lifo", &json!("false"));
    assert_eq!((known.lifo, named), (Some(true), 1));
}

/// One value that no type reads does not cost the others, and is kept as it is.
#[test]
fn deep_and_cut_options_leave_the_others_in_force() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let text = format!(r#"{{"attempts":3,"deep":{deep},"tm":"a\ud83d"}}"#);
    let decoded = decode_options(&text);
    assert_eq!(decoded.problems, Vec::<String>::new());
    assert_eq!(decoded.known.attempts, Some(3));
    let metadata = decoded.known.telemetry.unwrap().metadata;
    assert_eq!(metadata.as_deref(), Some("a\u{fffd}"));
    assert_eq!(decoded.unknown, Some(format!(r#"{{"deep":{deep}}}"#)));
}

#[test]
fn broken_values_are_named_and_the_others_kept() {
    let decoded = decode_options(r#"{"attempts":[],"delay":"soon","priority":4}"#);
    assert_eq!(decoded.known.priority, Some(4));
    assert_eq!(
        decoded.problems,
        [
            "opts.attempts: is not a number and counts as absent: []",
            "opts.delay: is not a number and counts as absent: \\\"soon\\\"",
        ]
    );
    assert_eq!(
        decode_options("{\"attempts\":3").problems,
        ["opts: is not a JSON object: {\\\"attempts\\\":3"]
    );
    assert_eq!(decode_options("null").problems.len(), 1);
    assert_eq!(decode_options("").problems.len(), 0);
}
