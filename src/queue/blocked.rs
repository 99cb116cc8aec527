//! Parents that nothing will release (`docs/protocol.md#blocked-parents`).

use std::collections::VecDeque;

use futures_util::Stream;
use serde::Serialize;

use crate::error::Result;
use crate::job::{DependencyCursor, DependencyKind, JobId, JobKey, PageRequest, ReadDependencies};
use crate::queue::Queue;
use crate::store::{ListedJobs, PendingChild, Store};

/// About how many parents and children one step reads.
const STEP: u32 = 100;
/// How many children are reported of one parent.
const CHILDREN_MAX: usize = 100;

/// A job that waits for children of which some will not end by themselves: it waits until somebody acts.
/// In JSON the names are those of the fields.
///
/// A child that has failed can be [retried](Queue::retry) or [removed](Queue::remove), or lets the
/// parent go with [`Queue::remove_child_dependency`]. Of a child that is missing
/// [`Queue::remove_unprocessed_children`] frees the parent, which also removes the children that have not
/// started. A parent that waits for nothing can only be [removed](Queue::remove).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlockedParent {
    /// The parent.
    pub id: JobId,
    /// How many children it waits for, these included. 0: it waits for nothing, and was never released, or what it waits for
    /// cannot be read.
    pub pending: u64,
    /// The children that keep it waiting, up to a hundred.
    pub children: Vec<BlockingChild>,
    /// Whether there may be more of them.
    pub truncated: bool,
}

/// A child that its parent waits for, and that does not end by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlockingChild {
    /// The child.
    pub key: JobKey,
    /// Why it does not end.
    pub reason: BlockingReason,
}

/// Why a child does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BlockingReason {
    /// It has failed, and nothing was said about what that does to its parent
    /// ([`ChildPolicy::Wait`](crate::ChildPolicy::Wait)); or it had failed before it got this parent.
    Failed,
    /// It has completed without its parent being told.
    Completed,
    /// Its hash does not exist.
    Missing,
    /// It exists, but in no state, so that no worker starts it.
    /// [`remove_orphaned_jobs`](Queue::remove_orphaned_jobs) of its queue removes it, which frees the parent.
    Stateless,
}

/// A walk over the parents of a queue that nothing will release: see [`Queue::blocked_parents`].
#[derive(Debug)]
pub struct BlockedParents {
    store: Store,
    /// Where the next page starts; `None` when there is none.
    cursor: Option<u64>,
    /// Parents to look at, with how many children they wait for.
    page: VecDeque<(JobId, u64)>,
    /// The jobs in the lists of the children's queues.
    listed: ListedJobs,
}

impl BlockedParents {
    /// Returns the next parent; `None` at the end.
    ///
    /// # Errors
    ///
    /// Connection errors, after which the walk can go on where it was.
    ///
    /// # Cancel safety
    ///
    /// A dropped call skips nothing.
    pub async fn next(&mut self) -> Option<Result<BlockedParent>> {
        loop {
            let looked_at = match self.page.front() {
                Some((id, pending)) => look_at(&self.store, id, *pending, &mut self.listed).await,
                None => match self.turn_page(self.cursor?).await {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                },
            };
            match looked_at {
                Ok(blocked) => {
                    self.page.pop_front();
                    if let Some(blocked) = blocked {
                        return Some(Ok(blocked));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Turns the walk into a stream of parents.
    pub fn into_stream(self) -> impl Stream<Item = Result<BlockedParent>> + Send {
        futures_util::stream::unfold(self, |mut walk| async move {
            let item = walk.next().await?;
            Some((item, walk))
        })
    }

    async fn turn_page(&mut self, cursor: u64) -> Result<()> {
        let (ids, next) = self.store.waiting_parents(cursor, STEP).await?;
        let counts = self.store.pending_counts(&ids).await?;
        let waiting = ids.into_iter().zip(counts);
        self.page = waiting
            .filter_map(|(id, count)| Some((id, count?)))
            .collect();
        self.cursor = next;
        Ok(())
    }
}

/// Looks for children that block a parent; `None` when there are none.
async fn look_at(
    store: &Store,
    id: &JobId,
    pending: u64,
    listed: &mut ListedJobs,
) -> Result<Option<BlockedParent>> {
    let mut blocked = BlockedParent {
        id: id.clone(),
        pending,
        children: Vec::new(),
        truncated: false,
    };
    // Of nothing there is nothing to look at.
    let mut from = (pending > 0).then_some(DependencyCursor::START);
    while let Some(cursor) = from {
        let request = PageRequest {
            kind: DependencyKind::Unprocessed,
            from: cursor,
            count: STEP,
        };
        let page = store.dependency_page(id, request).await?;
        from = page.next;
        let children = page.dependencies.into_iter();
        let children: Vec<JobKey> = children.map(|dependency| dependency.key).collect();
        let states = store.pending_children(id, &children, listed).await?;
        for (key, state) in children.into_iter().zip(states) {
            let reason = match state {
                PendingChild::Alive => continue,
                PendingChild::Missing => BlockingReason::Missing,
                PendingChild::Failed => BlockingReason::Failed,
                PendingChild::Completed => BlockingReason::Completed,
                PendingChild::Stateless => BlockingReason::Stateless,
            };
            blocked.children.push(BlockingChild { key, reason });
        }
        if blocked.children.len() >= CHILDREN_MAX {
            blocked.truncated = from.is_some() || blocked.children.len() > CHILDREN_MAX;
            blocked.children.truncate(CHILDREN_MAX);
            break;
        }
    }
    Ok((pending == 0 || !blocked.children.is_empty()).then_some(blocked))
}

impl<D> Queue<D> {
    /// Walks over the jobs that wait for children of which some will not end by themselves: children that
    /// have failed without a [policy](crate::ChildPolicy), are missing, or are in no state. Nothing is changed.
    ///
    /// Goes in bounded steps; each child is judged at one moment. The lists of queues with such children are read once a
    /// walk, a thousand ids at a time: a child in no state is one that is in none of them. A parent that is blocked for the whole
    /// walk is found at least once, and possibly more than once.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let mut blocked = queue.blocked_parents();
    /// while let Some(parent) = blocked.next().await {
    ///     let parent = parent?;
    ///     for child in &parent.children {
    ///         println!("{} waits for {}: {:?}", parent.id, child.key, child.reason);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn blocked_parents(&self) -> BlockedParents {
        BlockedParents {
            store: self.store().clone(),
            cursor: Some(0),
            page: VecDeque::new(),
            listed: ListedJobs::default(),
        }
    }
}
