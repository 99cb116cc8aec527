//! The report as Markdown.

use std::fmt::Write as _;

use crate::contestant::{ALL, Contestant, RIVALS};
use crate::results::{Metric, Results};
use crate::stats::Summary;
use crate::targets::verdicts;

/// What a cell says without a number.
const NONE: &str = "-";

/// Writes the report.
pub(crate) fn render(results: &Results) -> String {
    let mut text = String::from("# Oxbull and other queues, measured\n\n");
    let setting = &results.setting;
    let [before, after] = setting.load;
    // Writing to a string cannot fail.
    writeln!(
        text,
        "Made by `make compare` on {}: {} cores, Redis {}, rounds: {}, yardstick {:.0} jobs/s, load of the machine \
         {before:.1} before and {after:.1} after. Numbers are the median of the rounds, with the least and the greatest \
         in brackets. What each workload does, and the rules, are in \
         [`benches/compare/README.md`](../../benches/compare/README.md).\n",
        setting.date, setting.cores, setting.redis, setting.rounds, setting.yardstick,
    )
    .ok();
    if !results.runs.is_empty() {
        text.push_str("![jobs per second](compare.svg)\n\n");
        numbers(&mut text, results);
    }
    if !results.counts.is_empty() {
        counts(&mut text, results);
    }
    let title = "Oxbull over the better rival of each number";
    ratios(&mut text, results, title, &RIVALS);
    let title = "Oxbull over apalis-redis, which has a layout of its own and promises less";
    ratios(&mut text, results, title, &[Contestant::Apalis]);
    targets(&mut text, results);
    text
}

fn table(text: &mut String, title: &str, head: &[&str]) {
    let rule = vec!["---"; head.len()].join("|");
    writeln!(text, "## {title}\n\n| {} |\n|{rule}|", head.join(" | ")).ok();
}

fn row(text: &mut String, cells: &[String]) {
    writeln!(text, "| {} |", cells.join(" | ")).ok();
}

fn numbers(text: &mut String, results: &Results) {
    let head = [
        "workload",
        "contestant",
        "jobs/s",
        "Redis µs/job",
        "client µs/job",
        "enqueue to start p50/p99 ms",
        "enqueue to finish p50/p99 ms",
        "peak MiB",
        "window s",
    ];
    table(text, "Numbers", &head);
    let mut notes = Vec::new();
    for workload in results.workloads() {
        for contestant in ALL {
            let get = |metric| results.summary(workload, contestant, metric);
            let trouble = results.trouble(workload, contestant);
            if get(Metric::Seconds).is_none() && trouble.is_none() {
                continue;
            }
            if let Some(trouble) = trouble {
                notes.push(format!("{workload}, {}: {trouble}", contestant.title()));
            }
            let cells = [
                workload.to_owned(),
                contestant.title().to_owned(),
                spread(get(Metric::JobsPerS)),
                spread(get(Metric::RedisUs)),
                spread(get(Metric::ClientUs)),
                pair(get(Metric::StartP50), get(Metric::StartP99)),
                pair(get(Metric::FinishP50), get(Metric::FinishP99)),
                spread(get(Metric::Peak)),
                median(get(Metric::Seconds)),
            ];
            row(text, &cells);
        }
    }
    text.push('\n');
    for note in notes {
        writeln!(text, "- {note}").ok();
    }
    text.push('\n');
}

fn counts(text: &mut String, results: &Results) {
    let head = ["workload", "contestant", "Redis instructions/job"];
    table(text, "Instructions", &head);
    for count in &results.counts {
        let cells = [
            count.workload.clone(),
            count.contestant.title().to_owned(),
            match &count.instructions {
                Ok(count) => short(*count),
                Err(why) => format!("{NONE} ({why})"),
            },
        ];
        row(text, &cells);
    }
    text.push('\n');
}

fn ratios(text: &mut String, results: &Results, title: &str, rivals: &[Contestant]) {
    let head = [
        "workload",
        "jobs/s",
        "Redis CPU",
        "Redis instructions",
        "client CPU",
        "p99 start",
        "peak memory",
    ];
    table(text, title, &head);
    for workload in results.workloads() {
        let cell = |metric| {
            let ratio = results.ratio(workload, metric, rivals);
            ratio.map_or_else(|| NONE.to_owned(), |it| format!("{it:.2}"))
        };
        let cells = [
            workload.to_owned(),
            cell(Metric::JobsPerS),
            cell(Metric::RedisUs),
            cell(Metric::Instructions),
            cell(Metric::ClientUs),
            cell(Metric::StartP99),
            cell(Metric::Peak),
        ];
        row(text, &cells);
    }
    text.push('\n');
}

fn targets(text: &mut String, results: &Results) {
    let verdicts = verdicts(results);
    if verdicts.is_empty() {
        return;
    }
    table(text, "Targets", &["target", "reached", "met"]);
    for verdict in verdicts {
        let met = if verdict.met { "yes" } else { "**no**" };
        let cells = [
            verdict.text,
            format!("{:.2}", verdict.value),
            met.to_owned(),
        ];
        row(text, &cells);
    }
}

fn spread(summary: Option<Summary>) -> String {
    let Some(it) = summary else {
        return NONE.to_owned();
    };
    let (median, min, max) = (short(it.median), short(it.min), short(it.max));
    if min == max {
        return median;
    }
    format!("{median} ({min}..{max})")
}

fn median(summary: Option<Summary>) -> String {
    summary.map_or_else(|| NONE.to_owned(), |it| short(it.median))
}

fn pair(one: Option<Summary>, other: Option<Summary>) -> String {
    match (one, other) {
        (Some(one), Some(other)) => format!("{} / {}", short(one.median), short(other.median)),
        _ => NONE.to_owned(),
    }
}

/// Three digits are all that such a number has to say.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 1000.0 => thousands(number),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn numbers_have_few_digits() {
        let cases = [
            (1_234_567.8, "1,234,568"),
            (999.6, "1000"),
            (12_345.0, "12,345"),
            (100.4, "100"),
            (12.34, "12.3"),
            (1.2345, "1.23"),
            (0.0, "0.00"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn reports_have_a_row_a_contestant() {
        let text = render(&sample());
        for line in [
            "| add-one | Oxbull | 100 (90.0..110) | 40.0 (30.0..50.0) | 3.00 | - | - | 2.00 | 1.00 |",
            "| add-one | BullMQ 6.7.0 (Node.js) | 40.0 | 60.0 | 3.00 | - | - | 2.00 | 1.00 |",
            "| add-one | apalis-redis 1.0.0 | - | - | - | - | - | - | - |",
            "- add-one, apalis-redis 1.0.0: cannot: no adds",
            "| add-one | 2.00 | 0.67 | - | 1.00 | - | 1.00 |",
            "| add-one: jobs/s >= 1.15 of the best rival | 2.00 | yes |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
