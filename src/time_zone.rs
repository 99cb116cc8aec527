//! The process's time zone, as Node.js finds it.

/// Names the zone of patterns without one: `TZ`, or else the machine's, or else UTC.
pub(crate) fn local() -> String {
    match std::env::var("TZ") {
        Ok(name) if name.is_empty() => UTC.to_owned(),
        Ok(name) => zone_of(&name).to_owned(),
        Err(_) => iana_time_zone::get_timezone().unwrap_or_else(|_| UTC.to_owned()),
    }
}

/// Finds the name in a value of `TZ`, which may be the path of the zone's rules.
fn zone_of(tz: &str) -> &str {
    let name = tz.strip_prefix(':').unwrap_or(tz);
    name.rsplit_once("/zoneinfo/")
        .map_or(name, |(_, name)| name)
}

const UTC: &str = "UTC";

#[cfg(test)]
mod tests {
    use super::zone_of;

    /// `TZ` names a zone, or the file that has it.
    #[test]
    fn zone_is_named_by_itself_or_by_its_file() {
        for tz in [
            "Europe/Madrid",
            ":Europe/Madrid",
            "/usr/share/zoneinfo/Europe/Madrid",
            ":/usr/share/zoneinfo/Europe/Madrid",
        ] {
            assert_eq!(zone_of(tz), "Europe/Madrid");
        }
    }
}
