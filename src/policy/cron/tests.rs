use super::*;

const BASE: i64 = 1_768_472_430_500; // 2026-01-15T10:20:30.5Z

fn next(pattern: &str) -> Option<i64> {
    let cron = Cron::parse(pattern, Seed::Text("abc")).unwrap();
    cron.next_after(BASE, &Zone::Fixed(0))
}

/// The slots of the specification's check.
#[test]
fn patterns_match_when_the_specification_says() {
    for (pattern, slot) in [
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
        let slot: jiff::Timestamp = slot.parse().unwrap();
        assert_eq!(next(pattern), Some(slot.as_millisecond()), "{pattern}");
    }
}
