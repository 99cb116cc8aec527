//! Random cases from a fixed seed.

use fastrand::Rng;

use super::Case;

const ZONES: &[&str] = &[
    "UTC",
    "UTC+05:30",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Asuncion",
    "America/Caracas",
    "America/Nuuk",
    "America/Bogota",
    "America/Santiago",
    "Europe/Madrid",
    "Europe/London",
    "Europe/Istanbul",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Australia/Sydney",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Antarctica/Troll",
];

/// Days of the year around which clocks change, somewhere.
const SEASONS: &[(i64, i64)] = &[(45, 55), (66, 95), (112, 120), (268, 282), (295, 312)];

const DAY: i64 = 86_400_000;
const YEAR_2005: i64 = 1_104_537_600_000;

pub(super) fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|_| case(&mut rng)).collect()
}

fn case(rng: &mut Rng) -> Case {
    let zone = rng.choice(ZONES).unwrap();
    let (first, last) = rng.choice(SEASONS).unwrap();
    let day = rng.i64(0..20) * 365 + 5 + rng.i64(*first..*last);
    let unit = rng.choice([1, 1000, 60_000, 3_600_000]).unwrap();
    let from = YEAR_2005 + day * DAY + rng.i64(0..DAY) / unit * unit;
    let mut pattern = pattern(rng);
    if rng.u8(..) < 20 {
        let at = rng.usize(..pattern.len());
        pattern.insert(
            at,
            char::from(*rng.choice(b"*?,-/0123456789HL# amx").unwrap()),
        );
    }
    Case::cron(&pattern, zone, from).count(3)
}

fn pattern(rng: &mut Rng) -> String {
    let mut fields = Vec::new();
    if rng.u8(..) < 80 {
        fields.push(field(rng, 0, 59));
    }
    fields.push(field(rng, 0, 59));
    fields.push(match rng.u8(..) {
        0..130 => rng
            .choice([
                "0", "1", "2", "3", "1-3", "0-3", "2,3", "*/2", "*/3", "0-23", "23", "0,12",
                "22,23", "0,23",
            ])
            .unwrap()
            .to_owned(),
        _ => field(rng, 0, 23),
    });
    for (odds, low, high, others) in [
        (160, 1, 31, ["L", "1,L", "15,L", "?"]),
        (210, 1, 12, ["jan", "JUN-dec", "mar,oct", "?"]),
        (180, 0, 7, ["5L", "mon-fri", "1#2", "0L,6L"]),
    ] {
        fields.push(match rng.u8(..) {
            roll if roll < odds => "*".to_owned(),
            250.. => rng.choice(others).unwrap().to_owned(),
            _ => field(rng, low, high),
        });
    }
    fields.join(" ")
}

fn field(rng: &mut Rng, low: u32, high: u32) -> String {
    let first = rng.u32(low..=high);
    let last = rng.u32(first..=high);
    match rng.u8(..) {
        0..90 => "*".to_owned(),
        90..150 => first.to_string(),
        150..180 => format!("*/{}", rng.u32(1..=high)),
        180..205 => format!("{first}-{last}"),
        205..225 => format!("{first}-{last}/{}", rng.u32(1..9)),
        225..240 => format!("{first},{last}"),
        240..248 => "H".to_owned(),
        _ => format!("H/{}", rng.u32(1..=high)),
    }
}
