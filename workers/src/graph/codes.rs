//! What the API's codes, subcodes and statuses mean: the decision table, with its sources.
//!
//! docs/graph-errors.md shows the same table. After a change: `cargo run -p oxbull-workers --bin graph-errors`.

use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::StatusCode;

use super::decision::{Decision, Pause, Remedy, Stage};
use super::error::Reported;
use super::{Failure, LimitScope};

use Decision::{Final, LookAgain, NewContainer, SameContainer, Unclassified, Wait};
use Remedy::{
    ChangePost, CheckAccount, CheckApplication, GrantPermission, LeaveOut, OpenInstagram, Reconnect,
};

/// A line of the table.
struct Row {
    /// The codes that it comes with. Only those without subcodes are found by them.
    codes: &'static [RangeInclusive<i64>],
    subcodes: &'static [RangeInclusive<i64>],
    /// What it is.
    what: &'static str,
    decision: Decision,
    /// Where it differs at a stage.
    at: &'static [(Stage, Decision)],
    /// Who says so, and when.
    source: &'static str,
}

impl Row {
    const fn new(
        codes: &'static [RangeInclusive<i64>],
        subcodes: &'static [RangeInclusive<i64>],
        what: &'static str,
        decision: Decision,
        source: &'static str,
    ) -> Self {
        Self {
            codes,
            subcodes,
            what,
            decision,
            at: &[],
            source,
        }
    }

    const fn but(mut self, at: &'static [(Stage, Decision)]) -> Self {
        self.at = at;
        self
    }

    fn at(&self, stage: Stage) -> Decision {
        let own = self.at.iter().find(|(own, _)| *own == stage);
        own.map_or_else(|| self.decision.at(stage), |(_, decision)| *decision)
    }
}

const fn limit(scope: LimitScope) -> Decision {
    Wait(Pause::Limit(scope))
}

/// *Graph API, Handle Errors* by Meta for Developers.
const GRAPH: &str = "Graph API, Handle Errors (read 27 Nov 2026)";

/// *Instagram Platform, Error Codes* by Meta for Developers.
const INSTAGRAM: &str = "Instagram Platform, Error Codes (2 Jun 2026)";

/// *Graph API, Rate Limits* by Meta for Developers.
const LIMITS: &str = "Graph API, Rate Limits (read 27 Nov 2026)";

/// Where nothing is created, a carousel's children are as good as before.
const IN_PROCESSING: &[(Stage, Decision)] = &[(Stage::Create, SameContainer)];

/// Subcodes are more specific than codes, so they come first. A subcode that Instagram uses for one thing
/// is found by itself, since the code beside it varies; [`UNKNOWN_OBJECT`] only beside its code.
static SUBCODES: &[Row] = &[
    Row::new(
        &[10..=10, 102..=102, 190..=190],
        &[458..=460, 463..=464, 467..=467, 492..=492],
        "app removed, checkpoint, password changed, expired, unconfirmed, invalid, role gone",
        Final(Reconnect),
        GRAPH,
    ),
    Row::new(
        &[100..=100],
        &[UNKNOWN_OBJECT..=UNKNOWN_OBJECT],
        "the object does not exist or cannot be seen; from time to time also containers and posts that do exist",
        Final(CheckAccount),
        "postiz-app #1562 (23 May 2026)",
    )
    .but(&[
        (Stage::Status, LookAgain),
        (Stage::Publish, LookAgain),
        (Stage::ReadBack, LookAgain),
    ]),
    Row::new(
        &[100..=100],
        &[2_108_006..=2_108_006],
        "posts from before the account became a professional one have no insights",
        Final(LeaveOut),
        "Instagram Platform, Media Insights (read 27 Nov 2026)",
    ),
    Row::new(
        &[-1..=-1],
        &[2_207_001..=2_207_001],
        "server error",
        SameContainer,
        INSTAGRAM,
    ),
    Row::new(
        &[-2..=-2, 9004..=9004],
        &[2_207_003..=2_207_003],
        "downloading the media timed out",
        SameContainer,
        INSTAGRAM,
    ),
    Row::new(
        &[9004..=9004],
        &[2_207_052..=2_207_052],
        "the media could not be fetched; hosts have bad moments",
        SameContainer,
        "postiz-app #1900 (17 Aug 2026)",
    ),
    Row::new(
        &[-2..=-2, 24..=24],
        &[2_207_006..=2_207_006, 2_207_020..=2_207_020],
        "the container cannot be found or has expired",
        NewContainer,
        INSTAGRAM,
    ),
    // Once or twice within 30 s to 2 min, then with another container.
    Row::new(
        &[24..=24],
        &[2_207_008..=2_207_008],
        "the container is not found for the moment",
        NewContainer,
        INSTAGRAM,
    )
    .but(&[(Stage::Publish, SameContainer)]),
    Row::new(
        &[-1..=-1],
        &[2_207_032..=2_207_032, 2_207_053..=2_207_053],
        "creating the container or uploading failed",
        NewContainer,
        INSTAGRAM,
    )
    .but(IN_PROCESSING),
    Row::new(
        &[9007..=9007],
        &[2_207_027..=2_207_027],
        "the media is not ready for publishing",
        Wait(Pause::Processing),
        INSTAGRAM,
    ),
    Row::new(
        &[9..=9],
        &[2_207_042..=2_207_042],
        "publishing quota of 24 hours used up",
        limit(LimitScope::Publishing),
        INSTAGRAM,
    ),
    Row::new(
        &[25..=25],
        &[2_207_050..=2_207_050],
        "account inactive, checkpointed or restricted",
        Final(OpenInstagram),
        INSTAGRAM,
    ),
    // Asking again makes it worse, and it is no limit of the application in spite of its code.
    Row::new(
        &[4..=4],
        &[2_207_051..=2_207_051],
        "taken for spam; the post may be public all the same",
        Final(ChangePost),
        "Instagram Platform, Error Codes (2 Jun 2026); postiz-app #1681 (6 Jul 2026)",
    )
    .but(&[(Stage::Publish, LookAgain)]),
    Row::new(
        &[1..=1],
        &[2_207_057..=2_207_057],
        "thumbnail outside of the video",
        Final(ChangePost),
        INSTAGRAM,
    ),
    Row::new(
        &[100..=100, 352..=352, 36_000..=36_004],
        &[
            2_207_004..=2_207_005,
            2_207_009..=2_207_010,
            2_207_023..=2_207_023,
            2_207_026..=2_207_026,
            2_207_028..=2_207_028,
            2_207_035..=2_207_040,
        ],
        "media, caption or tags that the API never accepts",
        Final(ChangePost),
        INSTAGRAM,
    ),
    Row::new(
        &[],
        &[2_207_077..=2_207_077, 2_207_085..=2_207_085],
        "undocumented: the video cannot be processed",
        Final(ChangePost),
        "2207085: postiz-app #1992 (30 Aug 2026); 2207077: postiz-app (read 27 Nov 2026)",
    ),
    Row::new(
        &[10..=10],
        &[2_207_081..=2_207_081],
        "undocumented: the account may not publish trial reels; no permission is missing",
        Final(ChangePost),
        "postiz-app #1914 (18 Aug 2026)",
    ),
    Row::new(
        &[],
        &[2_207_082..=2_207_082],
        "undocumented: processing failed, in some cases sound over a video without any; others retry it",
        NewContainer,
        "postiz-app #2033 (7 Sep 2026)",
    )
    .but(IN_PROCESSING),
    Row::new(
        &[100..=100],
        &[2_207_089..=2_207_089],
        "undocumented: a carousel's child cannot be published alone",
        Final(ChangePost),
        "n8n-nodes-instagram #9 (26 Feb 2026)",
    ),
];

/// The subcode of an object that does not exist; other codes use it for other things.
const UNKNOWN_OBJECT: i64 = 33;

/// Every other subcode of Instagram, see [`row`].
static UNKNOWN_SUBCODE: Row = Row::new(
    &[],
    &[2_207_000..=2_207_999],
    "every other subcode of Instagram, such as 2207076, beside a code that asks for no wait of the account \
     and no connection",
    Unclassified,
    "2207076: postiz-app (read 27 Nov 2026)",
);

/// Codes of the Graph API.
static CODES: &[Row] = &[
    Row::new(
        &[-2..=-1, 1..=2],
        &[],
        "unknown or temporary failure of the service",
        SameContainer,
        GRAPH,
    ),
    Row::new(
        &[3..=3],
        &[],
        "the application lacks a capability",
        Final(CheckApplication),
        GRAPH,
    ),
    Row::new(
        &[4..=4, 341..=341],
        &[],
        "too many requests of the application",
        limit(LimitScope::Application),
        "Graph API, Rate Limits (read 27 Nov 2026); 341: Handle Errors (read 28 Nov 2026)",
    ),
    Row::new(
        &[9..=9],
        &[],
        "publishing quota of the account",
        limit(LimitScope::Publishing),
        INSTAGRAM,
    ),
    // While objects could not be seen (100/33), some were told this of them.
    Row::new(
        &[10..=10],
        &[],
        "permission missing, not granted or revoked by the account's owner",
        Final(GrantPermission),
        "Graph API, Handle Errors (read 27 Nov 2026); events-tracker #1900 (26 May 2026)",
    )
    .but(&[(Stage::Status, LookAgain), (Stage::ReadBack, LookAgain)]),
    Row::new(
        &[200..=299],
        &[],
        "permission missing, not granted or revoked by the account's owner",
        Final(GrantPermission),
        GRAPH,
    ),
    Row::new(
        &[17..=17, 32..=32, 613..=613],
        &[],
        "too many requests for a user, a page or a call",
        limit(LimitScope::Account),
        LIMITS,
    ),
    Row::new(
        &[80_000..=80_014],
        &[],
        "too many requests for a business account; 80002 is Instagram's",
        limit(LimitScope::Account),
        LIMITS,
    ),
    Row::new(
        &[100..=100, 352..=352, 36_000..=36_004],
        &[],
        "a parameter or the media is refused",
        Final(ChangePost),
        INSTAGRAM,
    ),
    Row::new(
        &[102..=102, 190..=190],
        &[],
        "session or token invalid",
        Final(Reconnect),
        GRAPH,
    ),
    Row::new(
        &[368..=368],
        &[],
        "blocked for a while by a policy; asking on prolongs it",
        Wait(Pause::Block),
        "Graph API, Handle Errors (read 27 Nov 2026); postiz-app #2068 (11 Sep 2026)",
    ),
    Row::new(
        &[506..=506],
        &[],
        "the same post twice in a row",
        Final(ChangePost),
        "Graph API, Handle Errors (read 28 Nov 2026)",
    )
    .but(&[(Stage::Publish, LookAgain)]),
    Row::new(
        &[9004..=9004],
        &[],
        "the media could not be fetched",
        SameContainer,
        "postiz-app #1900 (17 Aug 2026)",
    ),
    Row::new(
        &[9007..=9007],
        &[],
        "the media is not ready for publishing",
        Wait(Pause::Processing),
        INSTAGRAM,
    ),
];

/// The row of an answer's code and subcode, if one describes it.
///
/// A subcode of Instagram that is in no row tells more than a code that names a kind of request (100), a
/// permission (10) or the application's limit (4): with such codes subcodes mean things of their own. It does
/// not outdo a code after which waiting or connecting is right whatever the subcode adds.
fn row(code: i64, subcode: Option<i64>) -> Option<&'static Row> {
    let by_code = || CODES.iter().find(|row| among(row.codes, code));
    let Some(subcode) = subcode else {
        return by_code();
    };
    let known = SUBCODES.iter().find(|row| {
        among(row.subcodes, subcode) && (subcode != UNKNOWN_OBJECT || among(row.codes, code))
    });
    known.or_else(|| {
        let row = by_code();
        let holds = row.is_some_and(|row| match row.decision {
            Wait(Pause::Limit(scope)) => scope != LimitScope::Application,
            Wait(_) | Final(Reconnect) => true,
            _ => false,
        });
        if !holds && among(UNKNOWN_SUBCODE.subcodes, subcode) {
            return Some(&UNKNOWN_SUBCODE);
        }
        row
    })
}

fn among(ranges: &[RangeInclusive<i64>], number: i64) -> bool {
    ranges.iter().any(|range| range.contains(&number))
}

/// Answers with a code in no row have their HTTP status and the API's own word besides.
fn by_status(status: StatusCode, error: &Reported) -> Decision {
    match status {
        // It does not name the limit. Should it be the application's, the other accounts find out
        // with one request each; a wrong guess would stop them needlessly.
        StatusCode::TOO_MANY_REQUESTS => limit(LimitScope::Account),
        StatusCode::REQUEST_TIMEOUT => SameContainer,
        _ if error.is_transient || status.is_server_error() => SameContainer,
        _ if error.code != 0 => Unclassified,
        _ => Final(ChangePost),
    }
}

/// What to do about an answer.
pub(super) fn sort(status: StatusCode, wait: Option<Duration>, error: &Reported) -> Failure {
    let row = row(error.code, error.error_subcode);
    let decision = match row.map(|row| row.decision) {
        // A code alone is general; the API says by itself when this time it passes.
        Some(Final(_)) if error.is_transient && error.error_subcode.is_none() => SameContainer,
        Some(decision) => decision,
        None => by_status(status, error),
    };
    decision.failure(wait)
}

/// What to do about a container whose status reports a failure. One without a number is as undocumented as
/// one with an unknown number.
pub(super) fn sort_container(subcode: Option<i64>) -> Failure {
    let row = subcode.and_then(|subcode| row(0, Some(subcode)));
    row.map_or(Unclassified, |row| row.at(Stage::Container))
        .failure(None)
}

/// What to do at a stage about an answer that was sorted as `failure`.
pub(super) fn decide(code: i64, subcode: Option<i64>, failure: Failure, stage: Stage) -> Decision {
    match row_of(code, subcode, failure) {
        Some(row) => row.at(stage),
        None => Decision::of(failure).at(stage),
    }
}

/// What helps after an answer that was sorted as `failure`, if the failure is final.
pub(super) fn remedy(code: i64, subcode: Option<i64>, failure: Failure) -> Option<Remedy> {
    let row = row_of(code, subcode, failure).map(|row| row.decision);
    match row.unwrap_or_else(|| Decision::of(failure)) {
        Final(remedy) => Some(remedy),
        _ => None,
    }
}

/// The row that has decided, unless it was the status or the API's own word.
fn row_of(code: i64, subcode: Option<i64>, failure: Failure) -> Option<&'static Row> {
    let wait = match failure {
        Failure::RateLimited { wait, .. } => wait,
        _ => None,
    };
    row(code, subcode).filter(|row| row.decision.failure(wait) == failure)
}

/// The decision table in Markdown, as docs/graph-errors.md shows it.
pub fn decision_table() -> String {
    let rows = SUBCODES.iter().chain([&UNKNOWN_SUBCODE]).chain(CODES);
    let lines = rows.map(|row| {
        format!(
            "| {} | {} | {} | {} | {} |\n",
            numbers(row.codes),
            numbers(row.subcodes),
            row.what,
            decisions(row),
            row.source
        )
    });
    let head = "| code | subcode | what it is | decision | source |\n|---|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(lines).collect()
}

fn numbers(ranges: &[RangeInclusive<i64>]) -> String {
    let numbers: Vec<_> = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start} to {end}"),
        })
        .collect();
    numbers.join(", ")
}

/// The row's decision, then the stages that differ.
fn decisions(row: &Row) -> String {
    let others = Stage::ALL.into_iter().filter_map(|stage| {
        let decision = row.at(stage);
        (decision != row.decision).then(|| format!("; {stage}: {decision}"))
    });
    std::iter::once(row.decision.to_string())
        .chain(others)
        .collect()
}

#[cfg(test)]
mod tests;
