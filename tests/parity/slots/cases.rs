//! The chosen cases: every row of the dialect, and the days on which clocks change.

use serde_json::json;

use super::Case;

/// 2026-01-15T10:20:30.5Z.
const BASE: i64 = 1_768_472_430_500;
const HOUR: i64 = 3_600_000;

/// Patterns that are taken, and those that are refused with a message.
const PATTERNS: &[&str] = &[
    // fields, lists, ranges, steps
    "* * * * *",
    "30 */10 * * * *",
    "* * * * * *",
    "? ? ? ? ?",
    "5 * *",
    "5 *",
    "5",
    "*",
    "0 0 ? * 1",
    "*/61 * * * *",
    "5/10 * * * *",
    "10-20/3 * * * *",
    "0  0   *  *  *",
    "\t0 0 * * *\n",
    "007 * * * *",
    "*/5,7 * * * *",
    "1-2-3 * * * *",
    "*-5 * * * *",
    "?/5 * * * *",
    "1/70 * * * *",
    "\u{feff}0 0 * * *",
    "22-2 * * * *",
    "*/0 * * * *",
    "10-20/-1 * * * *",
    "10-20/3/2 * * * *",
    "1,,2 * * * *",
    ",1 * * * *",
    "1- * * * *",
    "-1 * * * *",
    "/5 * * * *",
    "5/ * * * *",
    "** * * * *",
    "5-* * * * *",
    "60 * * * *",
    "1-60 * * * *",
    "0 24 * * *",
    "0 0 0 * *",
    "0 0 32 * *",
    "0 0 * 0 *",
    "0 0 * 13 *",
    "0 0 * * 8",
    "99999999999999999999 * * * *",
    "1-99999999999999999999999 * * * *",
    "1.5 * * * *",
    "a",
    "   ",
    "-",
    "/",
    "1 2 3 4 5 6 7",
    "0 0 * * 1 2026",
    "é 0 * * *",
    "٣ 0 * * *",
    "0 0 * * *\u{85}",
    // duplicates, and which error comes first
    "0,5,5 * * * *",
    "*/20,*/15 * * * *",
    "6,6,5,5 * * * *",
    "0 0 * * 0,7",
    "0 0 * * 5-7,0",
    "*,5 * * * *",
    "0 0 * jan,1 *",
    "0,5,5 0 0 0 0",
    "0 0 L,L * 9",
    "1,1 * * * L",
    "0 0 31 2 1,1",
    "60 61 24 32 13 9",
    "0 0 24 32 13 9",
    "0 0 0 32 13 9",
    // names
    "0 0 * * mon",
    "0 0 * JAN-mar *",
    "0 0 * * SUN-SAT",
    "0 0 * * fri-mon",
    "0 0 * * mid",
    "0 0 * * monday",
    "0 0 * january *",
    "0 0 mon * *",
    "0 0 * * mar",
    "0 0 * mon *",
    "0 0 * * dec",
    "0 0 * ja *",
    // days of the month and of the week
    "0 0 L * *",
    "0 0 1,L * *",
    "0 0 L-2 * *",
    "0 0 1-L * *",
    "0 0 L/2 * *",
    "0 0 15W * *",
    "0 0 LW * *",
    "0 0 * L *",
    "0 0 L5 * *",
    "0 0 * * L",
    "0 0 * * 5L",
    "0 0 * * 1L,5L",
    "0 0 * * 7L",
    "0 0 * * 1L,2",
    "0 0 * * L1",
    "0 0 * * 5l",
    "0 0 * * 1#2",
    "0 0 12 * * 1#5",
    "0 0 * * 1#6",
    "0 0 * * 1#0",
    "0 0 * * 1#",
    "0 0 * * #1",
    "0 0 * * 1#2,3",
    "0 0 * * 1-3#2",
    "0 0 * * */2#2",
    "0 0 * * mon#1",
    "0 0 * * 1#1#1",
    "0 0 1 * 1#1",
    "0 0 20 * 1#3",
    "0 0 13 * 5",
    "0 0 1-31 * 1",
    "0 0 */1 * 1",
    "0 0 1 * 0-6",
    "0 0 L * 5L",
    "0 0 * * 0-7",
    "0 0 * * 5-7/2",
    "0 0 * * 1/3",
    "0 0 * * */7",
    "0 0 * * 6-0",
    // dates that do not exist, or seldom
    "0 0 31 2 *",
    "0 0 30 2 *",
    "0 0 31 4 *",
    "0 0 30-31 2 *",
    "0 0 29 2 *",
    "0 0 31 2,4 *",
    "0 0 31 2 1",
    "0 0 30,L 2 *",
    "0 0 29,30 2 *",
    "0 0 * 2 1#5",
    "0 0 31 * *",
    // aliases
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@hourly",
    "@minutely",
    "@secondly",
    "@weekdays",
    "@weekends",
    "@midnight",
    "@reboot",
    "@Daily",
    " @daily ",
    // hashed
    "H * * * * *",
    "H H * * *",
    "H H H H H H",
    "H(0-5) * * * *",
    "H/7 * * * *",
    "H(3-20)/4 * * * *",
    "H,5 * * * *",
    "0 0 * * H",
    "0 0 * * H/3",
    "H/100 * * * *",
    "H(26-28)/10 * * * * *",
    "H/0 * * * *",
    "H(5-2) * * * *",
    "H(60-61) * * * *",
    "0 0 H(40-50) * *",
    "H(5 * * * *",
    "h * * * *",
    "H,H * * * *",
    "xH/3 * * * *",
    "H5 * * * *",
];

const ZONES: &[&str] = &[
    "UTC",
    "utc",
    "GMT",
    "EST",
    "Etc/GMT+5",
    "UTC+3",
    "utc-3",
    "UTC+05:30",
    "UTC-0:30",
    "UTC+14",
    "UTC+99",
    "UTC+123",
    "UTC+5:3",
    "UTC+",
    "europe/madrid",
    "US/Eastern",
    "EST5EDT",
    "Asia/Calcutta",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "America/St_Johns",
    "Zulu",
    "GMT+0",
    "GMT+5",
    "+03:00",
    "Mars/Base",
    "Factory",
    "PST",
    "IST",
    "BST",
    "JST",
    "CET",
    "",
    "  ",
    " UTC",
    "Etc/Unknown",
    "W-SU",
    "NZ",
];

/// A zone, a moment before its clocks change, and patterns around the change.
const CHANGES: &[(&str, &str, &[&str])] = &[
    (
        "America/New_York",
        "2026-03-08T04:00:00Z",
        &[
            "30 2 * * *",
            "*/15 2 * * *",
            "0 */2 * * *",
            "15 2,3 * * *",
            "0 3 * * *",
            "*/30 * * * *",
            "30 1,2 * * *",
        ],
    ),
    (
        "America/New_York",
        "2026-03-08T06:40:10.5Z",
        &["30 2 * * *", "10,50 2 * * *", "0 4 * * *"],
    ),
    (
        "America/New_York",
        "2026-11-01T03:00:00Z",
        &[
            "30 1 * * *",
            "0 0-23 * * *",
            "0 0-3 * * *",
            "*/30 * * * *",
            "*/20 1 * * *",
            "0 0 2 * * *",
            "30 1,5 * * *",
        ],
    ),
    (
        "America/New_York",
        "2026-11-01T06:15:00Z",
        &["30 1 * * *", "0 1 * * *"],
    ),
    (
        "Europe/Madrid",
        "2025-03-29T20:00:00Z",
        &["30 2 * * *", "0 0 * * *", "0 */3 * * *", "0 2-4 * * *"],
    ),
    (
        "Europe/Madrid",
        "2025-10-25T20:00:00Z",
        &["30 2 * * *", "0 0 * * *", "0 */3 * * *", "0 * * * *"],
    ),
    (
        "Australia/Sydney",
        "2025-10-04T10:00:00Z",
        &["30 2 * * *", "0 2,3 * * *", "*/20 1-3 * * *"],
    ),
    (
        "Australia/Sydney",
        "2025-04-05T10:00:00Z",
        &["30 2 * * *", "0 2,3 * * *", "*/20 1-3 * * *"],
    ),
    (
        "Australia/Lord_Howe",
        "2025-10-04T10:00:00Z",
        &[
            "15 2 * * *",
            "30 2 * * *",
            "1-39 2 * * *",
            "*/10 * * * *",
            "0 1-3 * * *",
            "15 2,3 * * *",
        ],
    ),
    (
        "Australia/Lord_Howe",
        "2024-04-06T09:00:00Z",
        &["40 17 * * *", "40 1,2 * * *", "*/10 * * * *", "59 3 * * *"],
    ),
    (
        "Pacific/Chatham",
        "2025-09-27T11:15:00Z",
        &["49 2 * * *", "49 3 * * *", "49 1,2 * * *", "0,49 2,3 * * *"],
    ),
    (
        "America/Sao_Paulo",
        "2018-11-03T02:00:00Z",
        &[
            "0 0 * * *",
            "0 * * * *",
            "30 0,1 * * *",
            "0 */6 * * *",
            "0 23,0 * * *",
        ],
    ),
    (
        "America/Sao_Paulo",
        "2018-02-17T12:00:00Z",
        &["0 0 * * *", "30 23 * * *", "30 23,0 * * *", "0 * * * *"],
    ),
    (
        "Africa/Cairo",
        "2010-04-29T10:00:00Z",
        &["0 0 * * *", "*/40 39 0,23 * * *", "30 1 * * *"],
    ),
    (
        "Africa/Cairo",
        "2024-04-25T10:00:00Z",
        &["0 0 * * *", "30 0 26 * *", "0 23,0 * * *"],
    ),
    (
        "Asia/Beirut",
        "2025-03-29T10:00:00Z",
        &["0 0 * * *", "30 0 * * *", "0 */2 * * *", "0 23,0 * * *"],
    ),
    (
        "Asia/Beirut",
        "2025-10-25T10:00:00Z",
        &["0 0 * * *", "30 23 * * *", "0 23,0 * * *"],
    ),
    (
        "America/Havana",
        "2024-11-02T07:32:54Z",
        &["0 0 * * *", "30 0 * * *", "30 0-3 * * *", "0 * * * *"],
    ),
    (
        "America/Nuuk",
        "2024-03-30T12:00:00Z",
        &["20 23 * * *", "20 22-23 * * *", "0 0 * * *"],
    ),
    (
        "Antarctica/Troll",
        "2024-03-30T20:00:00Z",
        &["39 1 * * *", "39 2 * * *", "39 1,3 * * *", "H */2 * * *"],
    ),
    (
        "Antarctica/Troll",
        "2024-10-26T15:00:00Z",
        &["26 3 * * *", "0 2,3 * * *", "21 1-3 * * *"],
    ),
    (
        "Asia/Pyongyang",
        "2018-05-04T11:43:55Z",
        &["53 22-23 * * *", "0 23 * * *", "45 23 * * *", "0 0 * * *"],
    ),
    (
        "America/Caracas",
        "2016-05-01T04:06:00Z",
        &["*/27 1,2 * * *", "45 2 * * *", "0 3 * * *"],
    ),
    (
        "Pacific/Apia",
        "2011-12-29T12:00:00Z",
        &["0 0 * * *", "0 12 30 * *", "0 0 L * *"],
    ),
    (
        "Asia/Kathmandu",
        "2025-02-27T18:00:00Z",
        &["0 0 * * *", "0 0 1 * *", "0 0 L * *"],
    ),
    (
        "Asia/Kolkata",
        "2024-02-28T18:00:00Z",
        &["0 0 * * *", "30 5 29 2 *"],
    ),
    ("UTC", "2096-02-29T12:00:00Z", &["0 0 29 2 *", "0 0 L 2 *"]),
    (
        "Europe/London",
        "2150-03-28T00:00:00Z",
        &["0 12 * * *", "30 1 * * *"],
    ),
];

pub(super) fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(
        PATTERNS
            .iter()
            .map(|pattern| Case::cron(pattern, "UTC", BASE).count(3)),
    );
    cases.push(Case::cron(&"1,".repeat(513), "UTC", BASE));
    cases.extend(
        ZONES
            .iter()
            .map(|zone| Case::cron("0 0 * * *", zone, BASE).count(2)),
    );
    for (zone, from, patterns) in CHANGES {
        let from = chrono::DateTime::parse_from_rfc3339(from)
            .unwrap()
            .timestamp_millis();
        cases.extend(
            patterns
                .iter()
                .map(|pattern| Case::cron(pattern, zone, from).count(4)),
        );
    }
    cases.extend(limits());
    cases.extend(intervals());
    cases
}

/// Start, end and the first run at once.
fn limits() -> Vec<Case> {
    let hour = BASE - BASE.rem_euclid(HOUR) + HOUR; // 11:00
    let cron = |pattern| Case::cron(pattern, "UTC", BASE);
    let at_once = |case: Case| case.with("immediately", true.into(), oxbull::Schedule::immediately);
    vec![
        cron("* * * * *").start(hour).count(2),
        cron("* * * * *").start(hour - 1).count(2),
        cron("0 * * * *").start(BASE - HOUR).count(2),
        cron("0 * * * *").end(hour + HOUR).count(3),
        cron("0 * * * *").end(hour + HOUR - 1).count(3),
        cron("0 0 1 1 *").end(BASE + HOUR),
        cron("0 * * * *").start(hour + 2 * HOUR).end(hour + HOUR),
        cron("0 * * * *").end(BASE - 1),
        cron("0 * * * *").end(BASE),
        cron("0 * * * *").end(BASE + 1),
        at_once(cron("0 0 * * *")),
        at_once(cron("0 0 * * *").end(BASE + HOUR)),
        at_once(cron("0 0 * * *").start(hour)),
        at_once(cron("60 0 * * *")),
        at_once(Case::every(1000, BASE).start(hour)),
        at_once(Case::every(1000, BASE)),
        Case::cron("", "UTC", BASE),
    ]
}

/// The first slots of intervals.
fn intervals() -> Vec<Case> {
    let offset = |case: Case, millis: u64| {
        case.with("offset", json!(millis), |schedule| {
            schedule.offset(std::time::Duration::from_millis(millis))
        })
    };
    let mut cases = vec![Case::every(0, BASE)];
    for every in [1, 7, 1000, 60_000, 86_400_000, 604_800_000] {
        cases.push(Case::every(every, BASE));
        cases.push(Case::every(every, BASE).start(BASE - 5));
        cases.push(Case::every(every, BASE).start(BASE + 12_345));
        cases.push(Case::every(every, BASE).end(BASE + 1));
        cases.push(Case::every(every, BASE).end(BASE - 1));
        for millis in [0, 1, 500, 10_000, every - 1, every, every * 5 / 2] {
            cases.push(offset(Case::every(every, BASE), millis));
        }
        cases.push(offset(Case::every(every, BASE), 222).start(BASE + 1));
        // Exactly on a slot.
        let on_slot = BASE - BASE.rem_euclid(every.cast_signed());
        cases.push(offset(Case::every(every, on_slot), 0));
        cases.push(offset(Case::every(every, on_slot + 500), 500));
    }
    cases
}
