//! The process's time zone, as Node.js finds it.

/// Names the zone of patterns without one: `TZ`, or else the machine's, or else UTC.
pub(crate) fn local_zone() -> String {
    match std::env::var("TZ") {
        Ok(name) if name.is_empty() => UTC.to_owned(),
        Ok(name) => name.strip_prefix(':').unwrap_or(&name).to_owned(),
        Err(_) => iana_time_zone::get_timezone().unwrap_or_else(|_| UTC.to_owned()),
    }
}

const UTC: &str = "UTC";
