//! How far the queues are: redrawn in place in a terminal, one line for each change elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::queues::Row;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line for each queue, redrawn in place.
    Terminal,
    /// Plain lines, one for each change.
    Plain,
}

/// Shows progress on standard output.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    form: Form,
    /// What was shown last, without its time.
    shown: Option<String>,
}

impl ProgressDisplay {
    /// A display for standard output as it is.
    pub(crate) fn new() -> Self {
        Self::with(if std::io::stdout().is_terminal() {
            Form::Terminal
        } else {
            Form::Plain
        })
    }

    fn with(form: Form) -> Self {
        Self { form, shown: None }
    }

    /// Shows how far the queues are after this time.
    pub(crate) fn show(&mut self, elapsed: Duration, rows: &[Row]) {
        let text = self.update(elapsed, rows);
        let mut stdout = std::io::stdout();
        // A reader that has gone, as in `make demo | head`, does not stop the demo.
        write!(stdout, "{text}").and_then(|()| stdout.flush()).ok();
    }

    /// What has to be written.
    fn update(&mut self, elapsed: Duration, rows: &[Row]) -> String {
        let seconds = elapsed.as_secs_f64();
        let cells: Vec<String> = rows.iter().map(cell).collect();
        let content = cells.join("  ");
        let is_first = self.shown.is_none();
        let changed = self.shown.as_ref() != Some(&content);
        self.shown = Some(content);
        let mut text = String::new();
        match self.form {
            Form::Plain if changed => {
                writeln!(text, "{seconds:6.1} s  {}", cells.join("  ")).ok();
            }
            Form::Plain => {}
            Form::Terminal => {
                if !is_first {
                    // Up to the first of the lines that were drawn before.
                    write!(text, "\x1b[{}A", cells.len()).ok();
                }
                for cell in &cells {
                    // Erases the line before it is written again.
                    writeln!(text, "\x1b[2K{seconds:6.1} s  {cell}").ok();
                }
            }
        }
        text
    }
}

/// A queue's numbers in columns of fixed width.
fn cell(row: &Row) -> String {
    format!(
        "{:<18} {:>4}/{:<4} {:>3} active {:>3} delayed",
        row.name,
        row.ended(),
        row.total,
        row.counts.active,
        row.counts.delayed
    )
}

#[cfg(test)]
mod tests {
    use oxbull::JobCounts;

    use super::*;

    fn rows(completed: u64, active: u64) -> [Row; 2] {
        let mut counts = JobCounts::default();
        counts.completed = completed;
        counts.active = active;
        [
            Row {
                name: "mail",
                counts,
                total: 120,
            },
            Row {
                name: "thumbnails",
                counts,
                total: 7,
            },
        ]
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A log or a pipe gets whole lines without control characters, and no repeated line.
    #[test]
    fn plain_progress_has_a_line_for_each_change() {
        let mut display = ProgressDisplay::with(Form::Plain);
        let first = display.update(at(1), &rows(0, 5));
        assert_eq!(display.update(at(2), &rows(0, 5)), "");
        let second = display.update(at(10), &rows(100, 12));
        for line in [&first, &second] {
            assert_eq!(line.lines().count(), 1, "{line:?}");
            assert!(!line.contains('\x1b'), "{line:?}");
        }
        assert_eq!(
            first.find("thumbnails"),
            second.find("thumbnails"),
            "columns are aligned"
        );
    }

    /// In a terminal each queue has its line, drawn over the one before.
    #[test]
    fn terminal_progress_is_redrawn_in_place() {
        let mut display = ProgressDisplay::with(Form::Terminal);
        let first = display.update(at(1), &rows(0, 5));
        assert!(
            !first.contains("\x1b[2A"),
            "nothing is drawn over: {first:?}"
        );
        let second = display.update(at(2), &rows(0, 5));
        assert!(second.starts_with("\x1b[2A\x1b[2K"), "{second:?}");
        assert_eq!(second.matches("\x1b[2K").count(), 2, "{second:?}");
        let ends: Vec<_> = second
            .lines()
            .map(|line| line.trim_start_matches("\x1b[2A").len())
            .collect();
        assert_eq!(ends[0], ends[1], "columns are aligned: {second:?}");
        assert!(
            ends[0] <= 79,
            "a line that wraps could not be redrawn: {second:?}"
        );
    }
}
