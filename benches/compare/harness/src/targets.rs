//! What Oxbull is meant to reach.

use crate::contestant::{Contestant, RIVALS};
use crate::results::{Metric, Results};

/// What a number is held against.
#[derive(Debug, Clone, Copy)]
enum Against {
    /// The best rival in it.
    BestRival,
    /// The best rival that is written in Rust.
    RustRival,
    /// BullMQ for Node.js.
    Node,
    /// Our own in another workload.
    Own(&'static str),
    /// The size of the jobs' data, in MiB.
    Data,
    /// Nothing: the number itself.
    Itself,
}

/// A bound: `>=` for jobs a second, `<=` for all else.
struct Target {
    workload: &'static str,
    metric: Metric,
    against: Against,
    bound: f64,
}

const fn target(workload: &'static str, metric: Metric, against: Against, bound: f64) -> Target {
    Target {
        workload,
        metric,
        against,
        bound,
    }
}

/// The targets that name a workload.
const TARGETS: [Target; 24] = {
    use Against::{BestRival, Data, Itself, Node, Own, RustRival};
    use Metric::{ClientUs, Growth, Instructions, JobsPerS, Peak, RedisUs, Seconds};
    [
        target("add-one", JobsPerS, BestRival, 1.15),
        target("add-one", RedisUs, BestRival, 0.8),
        target("add-one", Instructions, BestRival, 0.8),
        target("add-1000-in-flight", JobsPerS, BestRival, 3.2),
        target("add-1000-in-flight", RedisUs, BestRival, 0.35),
        target("add-1000-in-flight", Instructions, BestRival, 0.35),
        target("add-bulk", JobsPerS, BestRival, 3.0),
        target("add-bulk", RedisUs, BestRival, 0.4),
        target("add-bulk", Instructions, BestRival, 0.4),
        target("process-1", JobsPerS, BestRival, 1.15),
        target("process-1", RedisUs, BestRival, 0.8),
        target("process-1", Instructions, BestRival, 0.8),
        target("process-1", ClientUs, BestRival, 0.8),
        target("process-10", JobsPerS, BestRival, 1.6),
        target("process-10", RedisUs, BestRival, 0.6),
        target("process-10", Instructions, BestRival, 0.6),
        target("process-100", JobsPerS, BestRival, 2.0),
        target("process-100", RedisUs, BestRival, 0.45),
        target("process-100", Instructions, BestRival, 0.45),
        target("process-100", ClientUs, RustRival, 0.35),
        target("process-100", Peak, Node, 0.25),
        target("backlog-1m", RedisUs, Own("backlog-1k"), 1.1),
        target("ramp-up", Seconds, Itself, 0.2),
        target("bulk-100k", Growth, Data, 4.0),
    ]
};

/// A paced workload ends when its last job is there: less than this is a tie.
const TIE: f64 = 0.98;

/// What became of a target.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The target, in words.
    pub(crate) text: String,
    /// What was reached.
    pub(crate) value: f64,
    /// Whether that is enough.
    pub(crate) met: bool,
}

/// The targets that were measured.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts: Vec<_> = TARGETS
        .iter()
        .filter_map(|target| verdict(results, target))
        .collect();
    for workload in results.workloads() {
        if let Some(value) = results.ratio(workload, Metric::StartP99, &RIVALS) {
            verdicts.push(Verdict {
                text: format!("{workload}: p99 of enqueue to start <= 1 of the best rival"),
                value,
                met: value <= 1.0,
            });
        }
        if let Some(value) = results.ratio(workload, Metric::JobsPerS, &RIVALS) {
            verdicts.push(Verdict {
                text: format!("{workload}: no rival has more jobs/s (2 % is a tie)"),
                value,
                met: value >= TIE,
            });
        }
    }
    verdicts
}

fn verdict(results: &Results, target: &Target) -> Option<Verdict> {
    let Target {
        workload,
        metric,
        against,
        bound,
    } = *target;
    let ours_in = |workload, metric| {
        let summary = results.summary(workload, Contestant::Oxbull, metric);
        summary.map(|summary| summary.median)
    };
    let ours = |workload| ours_in(workload, metric);
    let (value, of) = match against {
        Against::BestRival => (
            results.ratio(workload, metric, &RIVALS)?,
            " of the best rival".to_owned(),
        ),
        Against::RustRival => (
            results.ratio(workload, metric, &[Contestant::BullmqOfficial])?,
            " of the best rival in Rust".to_owned(),
        ),
        Against::Node => (
            results.ratio(workload, metric, &[Contestant::Node])?,
            " of Node.js".to_owned(),
        ),
        Against::Own(other) => (ours(workload)? / ours(other)?, format!(" of {other}")),
        Against::Data => (
            ours(workload)? / ours_in(workload, Metric::Data)?,
            " of the jobs' data".to_owned(),
        ),
        Against::Itself => (ours(workload)?, String::new()),
    };
    let (sign, met) = if metric == Metric::JobsPerS {
        (">=", value >= bound)
    } else {
        ("<=", value <= bound)
    };
    Some(Verdict {
        text: format!("{workload}: {} {sign} {bound}{of}", name(metric)),
        value,
        met,
    })
}

fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::JobsPerS => "jobs/s",
        Metric::Seconds => "seconds",
        Metric::RedisUs => "Redis CPU per job",
        Metric::ClientUs => "client CPU per job",
        Metric::Instructions => "Redis instructions per job",
        Metric::StartP50 | Metric::StartP99 => "enqueue to start",
        Metric::FinishP50 | Metric::FinishP99 => "enqueue to finish",
        Metric::Peak => "peak memory",
        Metric::Growth => "memory gained",
        Metric::Data => "data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{run, sample};

    #[test]
    fn targets_name_workloads() {
        for target in &TARGETS {
            assert!(
                compare_driver::named(target.workload).is_ok(),
                "{}",
                target.workload
            );
        }
    }

    #[test]
    fn only_what_was_measured_is_judged() {
        let verdicts = verdicts(&sample());
        let met: Vec<_> = verdicts
            .iter()
            .map(|it| (it.text.as_str(), it.met))
            .collect();
        assert_eq!(
            met,
            [
                ("add-one: jobs/s >= 1.15 of the best rival", true),
                ("add-one: Redis CPU per job <= 0.8 of the best rival", true),
                ("add-one: no rival has more jobs/s (2 % is a tie)", true),
            ]
        );
    }

    #[test]
    fn missed_targets_say_so() {
        let results = Results {
            runs: vec![
                run("add-one", Contestant::Oxbull, 100.0, 90.0),
                run("add-one", Contestant::Node, 101.0, 100.0),
                run("add-one", Contestant::Apalis, 1000.0, 10.0),
                run("ramp-up", Contestant::Oxbull, 200.0, 1.0),
            ],
            ..Results::default()
        };
        let verdicts = verdicts(&results);
        let met: Vec<_> = verdicts.iter().map(|it| it.met).collect();
        assert_eq!(met, [false, false, false, true]);
    }
}
