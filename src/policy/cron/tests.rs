use proptest::prelude::*;

use super::*;

const BASE: i64 = 1_768_472_430_500; // 2026-01-15T10:20:30.5Z

fn millis(time: &str) -> i64 {
    let time: jiff::Timestamp = time.parse().unwrap();
    time.as_millisecond()
}

fn next(pattern: &str, zone: &str, base: &str) -> Option<String> {
    let cron = Cron::parse(pattern, Seed::Text("abc")).unwrap();
    let occurrence = cron.next_after(millis(base), &Zone::find(zone, "UTC").unwrap())?;
    Some(
        jiff::Timestamp::from_millisecond(occurrence)
            .unwrap()
            .to_string(),
    )
}

/// The occurrences of the specification's check; `tests/parity` asks BullMQ itself.
#[test]
fn patterns_match_when_the_specification_says() {
    for (pattern, occurrence) in [
        ("* * * * *", "2026-01-15T10:21:00Z"),
        ("30 */10 * * * *", "2026-01-15T10:30:30Z"),
        ("0 0 L * *", "2026-01-31T00:00:00Z"),
        ("0 0 * * 5L", "2026-01-30T00:00:00Z"),
        ("0 0 * * 1#2", "2026-02-09T00:00:00Z"),
        ("0 0 12 * * 1#5", "2026-03-30T12:00:00Z"),
        ("0 0 13 * 5", "2026-01-16T00:00:00Z"),
        ("0 0 * * 7", "2026-01-18T00:00:00Z"),
        ("5/10 * * * *", "2026-01-15T10:25:00Z"),
        ("*/61 * * * *", "2026-01-15T11:00:00Z"),
        ("H H * * *", "2026-01-16T00:39:00Z"),
    ] {
        let found = next(pattern, "UTC", "2026-01-15T10:20:30.5Z");
        assert_eq!(found.as_deref(), Some(occurrence), "{pattern}");
    }
}

/// Around the change of clocks too.
#[test]
fn changes_of_the_clocks_are_those_of_the_protocol() {
    let new_york = "America/New_York";
    for (pattern, zone, base, occurrence) in [
        (
            "30 2 * * *",
            new_york,
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:30:00Z",
        ),
        (
            "*/15 2 * * *",
            new_york,
            "2026-03-08T07:00:00Z",
            "2026-03-09T06:00:00Z",
        ),
        (
            "0 */2 * * *",
            new_york,
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:00:00Z",
        ),
        (
            "0 0-3 * * *",
            new_york,
            "2026-11-01T05:00:00Z",
            "2026-11-01T07:00:00Z",
        ),
        (
            "0 0-23 * * *",
            new_york,
            "2026-11-01T05:00:00Z",
            "2026-11-01T06:00:00Z",
        ),
        (
            "30 1 * * *",
            new_york,
            "2026-11-01T06:15:00Z",
            "2026-11-01T06:30:00Z",
        ),
        (
            "0 0 * * *",
            "America/Sao_Paulo",
            "2018-11-03T03:00:00Z",
            "2018-11-05T02:00:00Z",
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T05:00:00Z",
            "2026-10-04T15:15:00Z",
        ),
    ] {
        assert_eq!(
            next(pattern, zone, base).as_deref(),
            Some(occurrence),
            "{pattern} {base}"
        );
    }
}

/// Where clocks go back by half an hour, from 2:00 to 1:30, BullMQ answers 14:00 here: the past.
#[test]
fn half_hour_back_does_not_lead_into_the_past() {
    let occurrence = next("0 * * * *", "Australia/Lord_Howe", "2024-04-06T14:10:00Z");
    assert_eq!(occurrence.as_deref(), Some("2024-04-06T15:30:00Z"));
}

/// A pattern without a match must cost little: the search is bounded, and stays so.
#[test]
fn pattern_that_never_matches_ends_the_search() {
    assert_eq!(
        next("0 0 31 2,4 *", "Europe/Madrid", "2026-01-15T00:00:00Z"),
        None
    );
    let leap = next("0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z");
    assert_eq!(leap.as_deref(), Some("2104-02-29T00:00:00Z"));
    let monday = next("0 0 * 2 1#5", "UTC", "2016-03-01T00:00:00Z");
    assert_eq!(monday.as_deref(), Some("2044-02-29T00:00:00Z"));
}

/// Without a seed `H` is as random as the number given.
#[test]
fn hashed_fields_follow_the_seed() {
    let parse = |seed| Cron::parse("H H * * *", seed).unwrap();
    assert_eq!(parse(Seed::Text("a")), parse(Seed::Text("a")));
    assert_eq!(parse(Seed::Random(7)), parse(Seed::Random(7)));
    let drawn: std::collections::BTreeSet<u64> = (0..50)
        .map(|number| parse(Seed::Random(number)).minutes)
        .collect();
    assert!(drawn.len() > 10, "{drawn:?}");
}

/// A clock far outside the calendar finds nothing, and breaks nothing.
#[test]
fn instants_outside_the_calendar_have_no_next_run() {
    let cron = Cron::parse("0 0 1 1 *", Seed::Random(0)).unwrap();
    let zone = Zone::find("Europe/Madrid", "UTC").unwrap();
    for base in [i64::MIN, i64::MIN / 2, i64::MAX / 2, i64::MAX - 1, i64::MAX] {
        assert_eq!(cron.next_after(base, &zone), None);
    }
}

/// `local` is the zone that the caller names, or else UTC: a machine with an odd `TZ` must not be
/// without schedules.
#[test]
fn local_zone_is_the_callers() {
    let offset = |name, local| Zone::find(name, local).and_then(|zone| zone.offset(BASE));
    assert_eq!(offset("LOCAL", "Asia/Tokyo"), Some(9 * 3_600_000));
    assert_eq!(offset("local", "no/zone"), Some(0));
    assert_eq!(offset("no/zone", "Asia/Tokyo"), None);
}

proptest! {
    /// Patterns come from users: any text is parsed or refused without a panic, and an
    /// occurrence is a whole second after its base.
    #[test]
    fn any_pattern_is_parsed_or_refused(
        pattern in prop_oneof!["[0-9*?,/HL# ()a-zA-Z-]{0,40}", "([0-9*,/HL-]{1,6} ){4}[0-9*L#-]{1,4}", any::<String>()],
        seed: u32, base in prop_oneof![
            -5_000_000_000_000i64..5_000_000_000_000,
            1_712_400_000_000i64..1_712_430_000_000, // clocks go back in Lord Howe
        ],
    ) {
        if let Ok(cron) = Cron::parse(&pattern, Seed::Random(seed)) {
            let zone = Zone::find("Australia/Lord_Howe", "UTC").unwrap();
            if let Some(occurrence) = cron.next_after(base, &zone) {
                prop_assert!(occurrence > base);
                prop_assert_eq!(occurrence % 1000, 0);
            }
        }
    }

    /// So are zones.
    #[test]
    fn any_zone_is_found_or_refused(
        name in prop_oneof!["[Uu][Tt][Cc][+-][0-9:]{0,6}", "[A-Za-z/_+-]{0,20}", any::<String>()],
    ) {
        if let Some(zone) = Zone::find(&name, "UTC") {
            prop_assert!(zone.offset(BASE).is_some());
        }
    }
}
