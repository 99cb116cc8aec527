//! What was measured, and how contestants compare in it.

use serde::Serialize;

use crate::contestant::Contestant;
use crate::instructions::Count;
use crate::session::{Numbers, Outcome};
use crate::stats::{Summary, ratio};

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// The workload.
    pub(crate) workload: String,
    /// The contestant.
    pub(crate) contestant: Contestant,
    /// The round, from 1.
    pub(crate) round: usize,
    /// The machine's load before it: more than the run itself makes means that others work too.
    pub(crate) load: f64,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// A number of a run that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Jobs in a second.
    JobsPerS,
    /// The window, in seconds.
    Seconds,
    /// Redis' processor time a job, in microseconds.
    RedisUs,
    /// The client's.
    ClientUs,
    /// Redis' instructions a job.
    Instructions,
    /// Add to start, median, in milliseconds.
    StartP50,
    /// Add to start, 99 of 100.
    StartP99,
    /// Add to stored result, median.
    FinishP50,
    /// Add to stored result, 99 of 100.
    FinishP99,
    /// The client's memory, in MiB.
    Peak,
    /// The memory that the client got within the window, in MiB.
    Growth,
    /// The jobs' data, in MiB.
    Data,
}

impl Metric {
    /// Its value in a run.
    #[expect(
        clippy::cast_precision_loss,
        reason = "times and sizes are far below 2^52"
    )]
    pub(crate) fn of(self, numbers: &Numbers) -> Option<f64> {
        let ms = |us: u64| us as f64 / 1000.0;
        let mib = |kib: u64| kib as f64 / 1024.0;
        match self {
            Self::JobsPerS => Some(numbers.jobs_per_s),
            Self::Seconds => Some(numbers.seconds),
            Self::RedisUs => Some(numbers.redis_us),
            Self::ClientUs => Some(numbers.client_us),
            Self::Instructions => None,
            Self::StartP50 => numbers.start.map(|it| ms(it.p50)),
            Self::StartP99 => numbers.start.map(|it| ms(it.p99)),
            Self::FinishP50 => numbers.finish.map(|it| ms(it.p50)),
            Self::FinishP99 => numbers.finish.map(|it| ms(it.p99)),
            Self::Peak => Some(mib(numbers.peak_kib)),
            Self::Growth => Some(mib(numbers.growth_kib)),
            Self::Data => Some(numbers.data_bytes as f64 / (1024.0 * 1024.0)),
        }
    }

    /// Whether more is better.
    fn more_is_better(self) -> bool {
        self == Self::JobsPerS
    }
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// Where and how.
    pub(crate) setting: Setting,
    /// The runs, in their order.
    pub(crate) runs: Vec<Run>,
    /// The counts of instructions.
    pub(crate) counts: Vec<Count>,
}

/// Where and how it was measured.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Setting {
    /// The day.
    pub(crate) date: String,
    /// Processors.
    pub(crate) cores: usize,
    /// Redis' version.
    pub(crate) redis: String,
    /// Rounds.
    pub(crate) rounds: usize,
    /// Jobs a second of the yardstick.
    pub(crate) yardstick: f64,
    /// Load of the machine before the first run and after the last, over a minute.
    pub(crate) load: [f64; 2],
}

impl Results {
    /// The rounds of one contestant in one workload, summed up.
    pub(crate) fn summary(
        &self,
        workload: &str,
        contestant: Contestant,
        metric: Metric,
    ) -> Option<Summary> {
        if metric == Metric::Instructions {
            return Summary::of(
                self.counts
                    .iter()
                    .filter(|it| it.workload == workload && it.contestant == contestant)
                    .filter_map(|it| it.instructions.as_ref().ok().copied()),
            );
        }
        Summary::of(
            self.of(workload, contestant)
                .filter_map(|run| match &run.outcome {
                    Outcome::Done(numbers) => metric.of(numbers),
                    Outcome::Unsupported(_) | Outcome::Failed(_) => None,
                }),
        )
    }

    /// Why there are no numbers, or not all.
    pub(crate) fn trouble(&self, workload: &str, contestant: Contestant) -> Option<String> {
        self.of(workload, contestant)
            .find_map(|run| match &run.outcome {
                Outcome::Done(_) => None,
                Outcome::Unsupported(why) => Some(format!("cannot: {why}")),
                Outcome::Failed(why) => Some(format!("failed: {why}")),
            })
    }

    fn of(&self, workload: &str, contestant: Contestant) -> impl Iterator<Item = &Run> {
        self.runs
            .iter()
            .filter(move |run| run.workload == workload && run.contestant == contestant)
    }

    /// The best median of those rivals.
    pub(crate) fn best(
        &self,
        workload: &str,
        metric: Metric,
        rivals: &[Contestant],
    ) -> Option<f64> {
        let medians = rivals
            .iter()
            .filter_map(|rival| self.summary(workload, *rival, metric))
            .map(|summary| summary.median);
        if metric.more_is_better() {
            medians.max_by(f64::total_cmp)
        } else {
            medians.min_by(f64::total_cmp)
        }
    }

    /// Our median over the best of those rivals.
    pub(crate) fn ratio(
        &self,
        workload: &str,
        metric: Metric,
        rivals: &[Contestant],
    ) -> Option<f64> {
        let ours = self.summary(workload, Contestant::Oxbull, metric)?.median;
        ratio(ours, self.best(workload, metric, rivals)?)
    }

    /// The workloads that were run, in their order.
    pub(crate) fn workloads(&self) -> Vec<&str> {
        let runs = self.runs.iter().map(|run| run.workload.as_str());
        let counts = self.counts.iter().map(|count| count.workload.as_str());
        let mut names = Vec::new();
        for name in runs.chain(counts) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn run(
        workload: &str,
        contestant: Contestant,
        jobs_per_s: f64,
        redis_us: f64,
    ) -> Run {
        Run {
            workload: workload.to_owned(),
            contestant,
            round: 1,
            load: 0.5,
            outcome: Outcome::Done(Numbers {
                jobs: 10,
                seconds: 1.0,
                jobs_per_s,
                redis_us,
                client_us: 3.0,
                start: None,
                finish: None,
                peak_kib: 2048,
                growth_kib: 1024,
                data_bytes: 1024,
            }),
        }
    }

    pub(crate) fn sample() -> Results {
        use Contestant::{Apalis, BullmqOfficial, Node, Oxbull};
        let mut apalis = run("add-one", Apalis, 0.0, 0.0);
        apalis.outcome = Outcome::Unsupported("no adds".to_owned());
        Results {
            runs: vec![
                run("add-one", Oxbull, 90.0, 50.0),
                run("add-one", BullmqOfficial, 50.0, 80.0),
                run("add-one", Node, 40.0, 60.0),
                run("add-one", Oxbull, 110.0, 30.0),
                apalis,
            ],
            ..Results::default()
        }
    }

    #[test]
    fn ratios_are_against_the_best_rival_of_the_number() {
        let results = sample();
        let rivals = [
            Contestant::BullmqOfficial,
            Contestant::Node,
            Contestant::Apalis,
        ];
        let ratio = |metric| results.ratio("add-one", metric, &rivals);
        assert_eq!(ratio(Metric::JobsPerS), Some(2.0));
        assert_eq!(ratio(Metric::RedisUs), Some(40.0 / 60.0));
        assert_eq!(ratio(Metric::StartP99), None);
        assert_eq!(results.ratio("add-two", Metric::JobsPerS, &rivals), None);
        assert_eq!(
            results.ratio("add-one", Metric::JobsPerS, &[Contestant::Apalis]),
            None
        );
    }

    #[test]
    fn rounds_are_summed_up() {
        let summary = sample().summary("add-one", Contestant::Oxbull, Metric::JobsPerS);
        let expected = Summary {
            median: 100.0,
            min: 90.0,
            max: 110.0,
        };
        assert_eq!(summary, Some(expected));
        assert_eq!(
            sample().trouble("add-one", Contestant::Apalis).as_deref(),
            Some("cannot: no adds")
        );
    }
}
