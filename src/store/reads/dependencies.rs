//! What parents know of their children (`docs/protocol.md#flows`).

use futures_util::future::BoxFuture;

use crate::client::Repeat;
use crate::error::Result;
use crate::job::{
    Dependency, DependencyCounts, DependencyCursor, DependencyKind, DependencyPage,
    DependencyState, JobId, JobKey, PageRequest, ReadDependencies,
};
use crate::json;
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

const WHAT: &str = "the children of a job";

/// The key of a parent that has its children of this kind, and the commands that read and count it.
pub(super) fn place(kind: DependencyKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        DependencyKind::Processed => ("processed", "HSCAN", "HLEN"),
        DependencyKind::Unprocessed => ("dependencies", "SSCAN", "SCARD"),
        DependencyKind::Failed => ("unsuccessful", "ZSCAN", "ZCARD"),
        DependencyKind::Ignored => ("failed", "HSCAN", "HLEN"),
    }
}

/// The command that reads a page of the children of the job with this key.
pub(super) fn read_page(job_key: &[u8], request: PageRequest) -> Command {
    let (suffix, scan, _) = place(request.kind);
    Command::new(scan)
        .arg([job_key, b":", suffix.as_bytes()].concat())
        .arg(request.from.0)
        .arg("COUNT")
        .arg(request.count)
}

/// Appends the commands that count the children of the job with this key.
pub(super) fn push_counts(batch: &mut Batch, job_key: &[u8]) {
    for kind in DependencyKind::ALL {
        let (suffix, _, count) = place(kind);
        batch.push(Command::new(count).arg([job_key, b":", suffix.as_bytes()].concat()));
    }
}

/// Reads the answers to the commands of [`push_counts`].
fn read_counts(answers: [Value; 4]) -> Result<DependencyCounts> {
    let mut counts = DependencyCounts::default();
    for (kind, answer) in DependencyKind::ALL.into_iter().zip(answers) {
        *counts.of_mut(kind) = read_count(&answer)?;
    }
    Ok(counts)
}

/// Reads how many children there are of one kind.
pub(super) fn read_count(answer: &Value) -> Result<u64> {
    Ok(u64::try_from(reply::int(answer, WHAT)?).unwrap_or(0))
}

/// Reads the answer to the command of [`read_page`].
pub(super) fn decode_page(kind: DependencyKind, answer: Value) -> Result<DependencyPage> {
    let mut parts = reply::items(answer, WHAT)?.into_iter();
    let (Some(cursor), Some(entries)) = (parts.next(), parts.next()) else {
        return Err(reply::unexpected(WHAT));
    };
    let cursor: u64 = reply::text(cursor, WHAT)?
        .parse()
        .map_err(|_| reply::unexpected(WHAT))?;
    let mut entries = reply::items(entries, WHAT)?.into_iter();
    let mut dependencies = Vec::new();
    while let Some(child) = entries.next() {
        let child = JobKey::from_bytes(reply::bytes(child, WHAT)?);
        let mut value = || entries.next().ok_or_else(|| reply::unexpected(WHAT));
        let state = match kind {
            DependencyKind::Processed => {
                DependencyState::Processed(json::text(reply::bytes(value()?, WHAT)?))
            }
            DependencyKind::Unprocessed => DependencyState::Unprocessed,
            DependencyKind::Failed => DependencyState::Failed(reply::score(&value()?, WHAT)?),
            DependencyKind::Ignored => DependencyState::Ignored(reply::text(value()?, WHAT)?),
        };
        dependencies.push(Dependency::new(child, state));
    }
    Ok(DependencyPage {
        dependencies,
        next: (cursor != 0).then_some(DependencyCursor(cursor)),
    })
}

impl ReadDependencies for Store {
    fn dependency_page<'a>(
        &'a self,
        parent: &'a JobId,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<DependencyPage>> {
        Box::pin(async move {
            let command = read_page(&self.keys.job(parent), request);
            let answer = self.connection.request(command, Repeat::Safe).await?;
            decode_page(request.kind, answer)
        })
    }

    fn dependency_counts<'a>(
        &'a self,
        parent: &'a JobId,
    ) -> BoxFuture<'a, Result<DependencyCounts>> {
        Box::pin(async move {
            let mut batch = Batch::new();
            push_counts(&mut batch, &self.keys.job(parent));
            let answers = self.snapshot(&batch, WHAT).await?;
            let answers = answers.try_into().map_err(|_| reply::unexpected(WHAT))?;
            read_counts(answers)
        })
    }
}
