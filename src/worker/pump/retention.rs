//! Retention that calls have left to do.

use crate::store::Trim;

/// What is left to delete from the finished sets, one set at a time.
#[derive(Debug, Default)]
pub(super) struct RetentionBacklog {
    trims: Vec<Trim>,
    running: bool,
}

impl RetentionBacklog {
    /// Adds what a call has left. The newest says all there is to do for its set.
    pub(super) fn add(&mut self, left: Vec<Trim>) {
        for trim in left {
            self.trims.retain(|other| other.set != trim.set);
            self.trims.push(trim);
        }
    }

    /// Returns what is to be done next, unless something is being done.
    pub(super) fn start(&mut self) -> Option<Trim> {
        if self.running {
            return None;
        }
        let trim = self.trims.pop()?;
        self.running = true;
        Some(trim)
    }

    /// Notes that what was started is done.
    pub(super) fn finished(&mut self) {
        self.running = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(set: &str, count: i64) -> Trim {
        Trim {
            set: set.to_owned(),
            count,
            age: -1,
            limit: 1000,
        }
    }

    #[test]
    fn sets_are_trimmed_one_after_the_other() {
        let mut backlog = RetentionBacklog::default();
        backlog.add(vec![trim("completed", 5), trim("failed", 7)]);
        assert_eq!(backlog.start(), Some(trim("failed", 7)));
        assert_eq!(backlog.start(), None);
        backlog.finished();
        assert_eq!(backlog.start(), Some(trim("completed", 5)));
        backlog.finished();
        assert_eq!(backlog.start(), None);
    }

    #[test]
    fn newest_retention_of_a_set_replaces_the_earlier() {
        let mut backlog = RetentionBacklog::default();
        backlog.add(vec![trim("completed", 5)]);
        backlog.add(vec![trim("completed", 3)]);
        assert_eq!(backlog.start(), Some(trim("completed", 3)));
        backlog.finished();
        assert_eq!(backlog.start(), None);
    }
}
