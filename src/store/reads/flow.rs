//! Jobs of a flow, in any queue.

use crate::client::Repeat;
use crate::error::Result;
use crate::job::{
    Dependency, DependencyCounts, DependencyCursor, DependencyKind, JobKey, JobRecord, PageRequest,
};
use crate::resp::{Batch, Command, Value};
use crate::store::reads::dependencies::{decode_page, push_counts, read_counts, read_page};
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
        let mut answer = || {
            answers
                .next()
                .unwrap_or_else(|| Err(reply::unexpected(WHAT)))
        };
        let mut jobs = Vec::with_capacity(keys.len());
        for key in keys {
            let fields = reply::fields(answer()?, WHAT)?;
            let job = (!fields.is_empty()).then(|| wire::decode_record(key.id(), fields));
            let counts = read_counts([answer()?, answer()?, answer()?, answer()?])?;
            let mut job = FlowMember {
                job,
                counts,
                children: Vec::new(),
            };
            if let Some(count) = children {
                let most = usize::try_from(count).unwrap_or(usize::MAX);
                for kind in DependencyKind::ALL {
                    let page: Value = answer()?;
                    let found = decode_page(kind, page)?.dependencies;
                    job.children.extend(found.into_iter().take(most));
                }
            }
            jobs.push(job);
        }
        Ok(jobs)
    }
}
