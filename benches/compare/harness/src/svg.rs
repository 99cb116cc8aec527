//! The chart: jobs per second, as a share of the best contestant of each workload.

use std::fmt::Write as _;

use crate::contestant::{ALL, Contestant};
use crate::results::{Metric, Results};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 160.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const TOP: f64 = 40.0;

fn color(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::Oxbull => "#c2410c",
        Contestant::BullmqOfficial => "#1d4ed8",
        Contestant::Node => "#15803d",
        Contestant::Apalis => "#7e22ce",
    }
}

/// Draws the chart.
pub(crate) fn render(results: &Results) -> String {
    let mut body = String::new();
    let mut left = LEFT;
    // Writing to a string cannot fail.
    for contestant in ALL {
        let (fill, title) = (color(contestant), contestant.title());
        writeln!(
            body,
            "<rect x=\"{left}\" y=\"12\" width=\"10\" height=\"10\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"21\">{title}</text>",
            left + 14.0,
        )
        .ok();
        left += 180.0;
    }
    let mut y = TOP;
    for workload in results.workloads() {
        let get = |contestant| results.summary(workload, contestant, Metric::JobsPerS);
        let most = ALL
            .into_iter()
            .filter_map(|it| get(it).map(|summary| summary.max))
            .fold(0.0, f64::max);
        writeln!(body, "<text x=\"4\" y=\"{}\">{workload}</text>", y + BAR).ok();
        for contestant in ALL {
            let Some(summary) = get(contestant) else {
                continue;
            };
            let scale = |value: f64| value / most * (WIDTH - LEFT - 90.0);
            let (fill, middle) = (color(contestant), y + BAR / 2.0);
            writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{fill}\"/>\
                 <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#000\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{:.0}/s</text>",
                scale(summary.median),
                BAR - 1.0,
                LEFT + scale(summary.min),
                LEFT + scale(summary.max),
                LEFT + scale(summary.max) + 4.0,
                y + BAR - 2.0,
                summary.median,
            )
            .ok();
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" \
         font-size=\"10\"><title>Jobs per second: median, least and greatest of the rounds; bars of one workload share \
         a scale</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn bars_share_the_scale_of_their_workload() {
        let chart = render(&sample());
        // 110 a second, the greatest, is the whole width; the median of our own is 100.
        let width = |share: f64| format!("width=\"{:.1}\"", share * (WIDTH - LEFT - 90.0));
        for share in [100.0 / 110.0, 50.0 / 110.0, 40.0 / 110.0] {
            assert!(chart.contains(&width(share)), "{share}\n{chart}");
        }
        // Three bars, four keys and the background: who has no number has no bar.
        assert_eq!(chart.matches("<rect").count(), 8);
    }
}
