//! The kernel's accounts of a process. There are none without `/proc`.

use std::fs;

use compare_driver::Failure;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time, in microseconds; the kernel tells it in steps of 10 ms.
    pub(crate) cpu_us: u64,
    /// The most memory since the peak was forgotten, in KiB.
    pub(crate) peak_kib: u64,
    /// The memory it has now, in KiB.
    pub(crate) resident_kib: u64,
}

impl Usage {
    /// Reads the accounts of a process.
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        parse(&stat, &status).ok_or_else(|| "cannot read /proc".into())
    }

    /// Lets the peak of memory begin with what the process has now.
    pub(crate) fn forget_peak(pid: u32) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
    }
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    const TICK_US: u64 = 10_000;
    // The command's name may contain spaces; it ends with the last parenthesis.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let kib = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    Some(Usage {
        cpu_us: (user + system) * TICK_US,
        peak_kib: kib("VmHWM")?,
        resident_kib: kib("VmRSS")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read() -> Result<(), Failure> {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        let usage = parse(stat, status).ok_or("nothing")?;
        assert_eq!(usage.cpu_us, 2_000_000);
        assert_eq!((usage.peak_kib, usage.resident_kib), (2048, 1024));
        assert!(parse(stat, "").is_none());
        Ok(())
    }
}
