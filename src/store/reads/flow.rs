//! Jobs of a flow, in any queue.

use crate::client::Repeat;
use crate::error::{Error, Result};
use crate::job::{
    Dependency, DependencyCounts, DependencyCursor, DependencyKind, JobKey, JobRecord, PageRequest,
};
use crate::resp::{Batch, Command};
use crate::store::reads::dependencies::{decode_page, place, push_counts, read_count, read_page};
use crate::store::{Store, reply};
use crate::wire;

const WHAT: &str = "a flow";

/// A job of a flow.
#[derive(Debug)]
pub(crate) struct FlowMember {
    /// The job; `None` when it is missing.
    pub(crate) job: Option<JobRecord>,
    /// How many children it has.
    pub(crate) counts: DependencyCounts,
    /// Some of its children of each kind, by kind.
    pub(crate) children: Vec<Dependency>,
}

impl Store {
    /// Reads jobs of any queues, each with up to `children` children of each kind.
    pub(crate) async fn flow_jobs(
        &self,
        keys: &[&JobKey],
        children: Option<u32>,
    ) -> Result<Vec<FlowMember>> {
        let mut batch = Batch::new();
        for key in keys {
            batch.push(Command::new("HGETALL").arg(key.as_bytes()));
            push_counts(&mut batch, key.as_bytes());
            for kind in DependencyKind::ALL {
                if let Some(count) = children {
                    let from = DependencyCursor::START;
                    batch.push(read_page(key.as_bytes(), PageRequest { kind, from, count }));
                }
            }
        }
        let answers = self.connection.pipeline(&batch, Repeat::Safe).await?;
        let mut answers = answers.into_iter();
        let mut members = Vec::with_capacity(keys.len());
        for key in keys {
            // One key of the wrong type must not hide the others.
            let mut problems = Vec::new();
            let mut answer = |what: &str| match answers.next() {
                Some(Ok(answer)) => Ok(Some(answer)),
                Some(Err(Error::Server(error))) => {
                    problems.push(format!("{what}: {error}"));
                    Ok(None)
                }
                Some(Err(error)) => Err(error),
                None => Err(reply::unexpected(WHAT)),
            };
            let mut job = match answer("hash")? {
                Some(fields) => {
                    let fields = reply::fields(fields, WHAT)?;
                    (!fields.is_empty()).then(|| wire::decode_record(key.id(), fields))
                }
                None => Some(JobRecord::new(key.id())),
            };
            let mut counts = DependencyCounts::default();
            for kind in DependencyKind::ALL {
                if let Some(count) = answer(place(kind).0)? {
                    *counts.of_mut(kind) = read_count(&count)?;
                }
            }
            let mut found = Vec::new();
            if let Some(count) = children {
                let most = usize::try_from(count).unwrap_or(usize::MAX);
                for kind in DependencyKind::ALL {
                    if let Some(page) = answer(place(kind).0)? {
                        let page = decode_page(kind, page)?.dependencies;
                        found.extend(page.into_iter().take(most));
                    }
                }
            }
            problems.sort();
            problems.dedup();
            if let Some(job) = &mut job {
                job.problems.append(&mut problems);
            }
            members.push(FlowMember {
                job,
                counts,
                children: found,
            });
        }
        Ok(members)
    }
}
