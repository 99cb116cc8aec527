//! Finding what is left of jobs that no state has.
//!
//! The keys of a queue are known only by going through all keys. Most of them are of jobs that a list
//! holds: those are left out here, because to look an id up in a long list costs the server a search. Whether an
//! id that is left is in no state is decided by the script, at one moment.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::error::Result;
use crate::job::JobId;
use crate::queue::operations::OperationStep;
use crate::queue::operations::run::{Run, Stopped};
use crate::store::{IdHashes, RemoveOrphans, lists_of};

/// How many ids one call gets.
const IDS_MAX: usize = 400;

/// The job that a key belongs to, which is named without the queue's base.
fn job_of(key: &[u8]) -> Option<JobId> {
    let mut parts = key.split(|byte| *byte == b':');
    let id = parts.next().filter(|id| !id.is_empty())?;
    let is_of_job = match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(suffix), None) => std::str::from_utf8(suffix).is_ok_and(JobId::is_subkey),
        _ => false,
    };
    let id = JobId::from_bytes(id);
    (is_of_job && !id.is_queue_key()).then_some(id)
}

/// Deletes what is left of jobs that no state has.
pub(super) async fn remove<F>(run: &mut Run<'_, F>) -> Result<Result<(), Stopped>>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    let mut listed = IdHashes::default();
    for list in lists_of(run.store.keys().base().as_bytes()) {
        listed.read(run.store, &list).await?;
    }
    // A dry run leaves what it has found, and the same key may come twice.
    let mut found = IdHashes::default();
    let mut cursor = Some(b"0".to_vec());
    while let Some(from) = cursor {
        let (keys, next) = run.store.keys_page("", &from).await?;
        let ids: BTreeSet<_> = keys.iter().filter_map(|key| job_of(key)).collect();
        let mut ids: Vec<_> = ids
            .into_iter()
            .filter(|id| !listed.has(id.as_bytes()) && !found.has(id.as_bytes()))
            .collect();
        while !ids.is_empty() {
            let some = ids.get(..ids.len().min(IDS_MAX)).unwrap_or_default();
            let step = run
                .ask(|run| RemoveOrphans {
                    dry: run.dry,
                    limit: run.left().unwrap_or(u64::from(u32::MAX)),
                    now: run.store.clock().now(),
                    ids: some,
                })
                .await?;
            let looked = usize::try_from(step.looked).unwrap_or(usize::MAX);
            if run.dry {
                for id in &step.jobs {
                    found.insert(id.as_bytes());
                }
            }
            if let Err(stopped) = run.took(step) {
                return Ok(Err(stopped));
            }
            ids.drain(..looked.clamp(1, ids.len()));
        }
        cursor = next;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_queue_belong_to_no_job() {
        for (key, job) in [
            ("7", Some("7")),
            ("7:logs", Some("7")),
            ("a-b:unsuccessful", Some("a-b")),
            ("wait", None),
            ("meta", None),
            ("repeat:logs", None),
            ("metrics:failed", None),
            ("de:x", None),
            ("stalled-check:schedulers", None),
            ("7:weird", None),
            ("a:b:c", None),
            ("a:b:logs", None),
            (":logs", None),
            ("", None),
        ] {
            assert_eq!(job_of(key.as_bytes()), job.map(JobId::existing), "{key}");
        }
    }
}
