//! What a parent knows of its children (`docs/protocol.md#flows`).

use std::collections::VecDeque;
use std::collections::btree_map::{self, BTreeMap};
use std::fmt;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobKey};
use crate::json;

/// About how many children one step of a walk reads.
const STEP: u32 = 100;

/// Which of a parent's children: by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DependencyKind {
    /// Those that completed: the parent has their results.
    Processed,
    /// Those that the parent waits for.
    Unprocessed,
    /// Those that failed and fail their parent ([`FailParent`](crate::ChildPolicy::FailParent)).
    Failed,
    /// Those that failed and let their parent continue
    /// ([`Ignore`](crate::ChildPolicy::Ignore), [`ContinueParent`](crate::ChildPolicy::ContinueParent)).
    Ignored,
}

impl DependencyKind {
    /// All of them, in the order in which flows list children.
    pub const ALL: [Self; 4] = [
        Self::Processed,
        Self::Unprocessed,
        Self::Failed,
        Self::Ignored,
    ];
}

/// A child and what its parent knows of it. A child that failed under
/// [`ChildPolicy::Remove`](crate::ChildPolicy::Remove) is not known any more.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dependency {
    /// The child.
    pub key: JobKey,
    /// What became of it.
    pub state: DependencyState,
}

impl Dependency {
    pub(crate) fn new(key: JobKey, state: DependencyState) -> Self {
        Self { key, state }
    }

    /// Decodes the result of a child that completed; `None` for others.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`], which names the child, when the stored text is not JSON of type `R`.
    pub fn result<R: DeserializeOwned>(&self) -> Result<Option<R>> {
        match &self.state {
            DependencyState::Processed(text) => decode(&self.key, text).map(Some),
            DependencyState::Unprocessed
            | DependencyState::Failed(_)
            | DependencyState::Ignored(_) => Ok(None),
        }
    }
}

// Results may be secret, so they do not show.
impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency")
            .field("key", &self.key)
            .field("kind", &self.state.kind())
            .finish_non_exhaustive()
    }
}

/// What a parent knows of one child.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DependencyState {
    /// It completed, with this result as JSON text.
    Processed(String),
    /// The parent waits for it.
    Unprocessed,
    /// It failed at this time, and fails its parent.
    Failed(Timestamp),
    /// It failed for this reason, and lets its parent continue.
    Ignored(String),
}

impl DependencyState {
    /// Returns the kind.
    pub fn kind(&self) -> DependencyKind {
        match self {
            Self::Processed(_) => DependencyKind::Processed,
            Self::Unprocessed => DependencyKind::Unprocessed,
            Self::Failed(_) => DependencyKind::Failed,
            Self::Ignored(_) => DependencyKind::Ignored,
        }
    }
}

impl fmt::Debug for DependencyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.kind(), f)
    }
}

/// How many children of each kind a parent has. In JSON they have BullMQ's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DependencyCounts {
    /// Children that completed.
    pub processed: u64,
    /// Children that the parent waits for.
    pub unprocessed: u64,
    /// Children that failed and fail their parent.
    pub failed: u64,
    /// Children that failed and let their parent continue.
    pub ignored: u64,
}

impl DependencyCounts {
    /// Returns the count of one kind.
    pub fn of(&self, kind: DependencyKind) -> u64 {
        match kind {
            DependencyKind::Processed => self.processed,
            DependencyKind::Unprocessed => self.unprocessed,
            DependencyKind::Failed => self.failed,
            DependencyKind::Ignored => self.ignored,
        }
    }

    /// Returns the place of one count.
    pub(crate) fn of_mut(&mut self, kind: DependencyKind) -> &mut u64 {
        match kind {
            DependencyKind::Processed => &mut self.processed,
            DependencyKind::Unprocessed => &mut self.unprocessed,
            DependencyKind::Failed => &mut self.failed,
            DependencyKind::Ignored => &mut self.ignored,
        }
    }

    /// Returns how many children there are in all.
    pub fn total(&self) -> u64 {
        self.processed + self.unprocessed + self.failed + self.ignored
    }
}

/// Where a page of children begins; the first one at the [start](Self::START). Others come from a
/// [page](DependencyPage::next), and mean nothing to another parent, another kind or another server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DependencyCursor(pub(crate) u64);

impl DependencyCursor {
    /// The first page.
    pub const START: Self = Self(0);
}

/// A page of a parent's children of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DependencyPage {
    /// The children; a page that is not the last one may have none.
    pub dependencies: Vec<Dependency>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<DependencyCursor>,
}

/// What is to be read of a parent's children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRequest {
    pub(crate) kind: DependencyKind,
    pub(crate) from: DependencyCursor,
    /// About how many children; at least 1.
    pub(crate) count: u32,
}

impl PageRequest {
    /// Checks what a caller asks for.
    pub(crate) fn checked(
        kind: DependencyKind,
        from: DependencyCursor,
        count: u32,
    ) -> Result<Self> {
        if count == 0 {
            return Err(Error::invalid("count", "must be at least 1"));
        }
        Ok(Self { kind, from, count })
    }
}

/// Reads what parents know of their children; the store implements it.
pub(crate) trait ReadDependencies: Send + Sync {
    /// Reads one page.
    fn dependency_page<'a>(
        &'a self,
        parent: &'a JobId,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<DependencyPage>>;

    /// Counts the children at one moment.
    fn dependency_counts<'a>(
        &'a self,
        parent: &'a JobId,
    ) -> BoxFuture<'a, Result<DependencyCounts>>;
}

/// A walk over the children of a parent, page by page, so that very many of them take neither much
/// memory nor much of the server's time at once.
///
/// A child that is of the kind for the whole walk is found at least once, and possibly more than once; a
/// child that comes or goes meanwhile may or may not be found. In no particular order.
///
/// # Examples
///
/// ```no_run
/// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
/// use oxbull::DependencyKind;
///
/// let mut pending = queue.dependencies("report-7", DependencyKind::Unprocessed)?;
/// while let Some(dependency) = pending.next().await {
///     println!("still to come: {}", dependency?.key);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Dependencies {
    reader: Arc<dyn ReadDependencies>,
    parent: JobId,
    kind: DependencyKind,
    /// Where the next page starts; `None` when there is none.
    from: Option<DependencyCursor>,
    page: VecDeque<Dependency>,
}

impl Dependencies {
    pub(crate) fn new(
        reader: Arc<dyn ReadDependencies>,
        parent: JobId,
        kind: DependencyKind,
    ) -> Self {
        Self {
            reader,
            parent,
            kind,
            from: Some(DependencyCursor::START),
            page: VecDeque::new(),
        }
    }

    /// Returns the next child; `None` at the end.
    ///
    /// # Errors
    ///
    /// Connection errors, after which the walk can go on where it was.
    ///
    /// # Cancel safety
    ///
    /// A dropped call skips nothing.
    pub async fn next(&mut self) -> Option<Result<Dependency>> {
        loop {
            if let Some(dependency) = self.page.pop_front() {
                return Some(Ok(dependency));
            }
            let request = PageRequest {
                kind: self.kind,
                from: self.from?,
                count: STEP,
            };
            match self.reader.dependency_page(&self.parent, request).await {
                Ok(page) => {
                    self.from = page.next;
                    self.page = page.dependencies.into();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Turns the walk into a stream of children.
    pub fn into_stream(self) -> impl Stream<Item = Result<Dependency>> + Send {
        futures_util::stream::unfold(self, |mut walk| async move {
            let item = walk.next().await?;
            Some((item, walk))
        })
    }

    /// Reads all of them: what `take` makes of each, by child.
    async fn collect<T>(
        mut self,
        take: impl Fn(&JobKey, DependencyState) -> Option<T>,
    ) -> Result<BTreeMap<JobKey, T>> {
        let mut all = BTreeMap::new();
        while let Some(found) = self.next().await {
            let Dependency { key: child, state } = found?;
            if let Some(taken) = take(&child, state) {
                all.insert(child, taken);
            }
        }
        Ok(all)
    }

    /// Decodes the results of children that completed.
    pub(crate) async fn results<R: DeserializeOwned>(self) -> Result<ChildResults<R>> {
        let results = self.collect(|child, state| match state {
            DependencyState::Processed(text) => Some(decode(child, &text)),
            _ => None,
        });
        results.await.map(ChildResults)
    }

    /// Reads why ignored children failed.
    pub(crate) async fn reasons(self) -> Result<BTreeMap<JobKey, String>> {
        let reasons = self.collect(|_, state| match state {
            DependencyState::Ignored(reason) => Some(reason),
            _ => None,
        });
        reasons.await
    }

    /// Reads when children failed that fail their parent.
    pub(crate) async fn failures(self) -> Result<BTreeMap<JobKey, Timestamp>> {
        let failures = self.collect(|_, state| match state {
            DependencyState::Failed(at) => Some(at),
            _ => None,
        });
        failures.await
    }
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies")
            .field("parent", &self.parent)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What the children of a job that completed have returned, by child.
///
/// Each result is decoded by itself: one that is not JSON of type `R` is an error of that child only.
/// [`into_map`](Self::into_map) treats them as a whole.
///
/// # Examples
///
/// ```
/// use oxbull::{ChildResults, Job, JobResult, Outcome};
///
/// async fn sum(job: Job<()>) -> JobResult<u64> {
///     let pages: ChildResults<u64> = job.children_values().await?;
///     for (child, problem) in pages.failures() {
///         job.log(format!("{child} is left out: {problem}")).await?;
///     }
///     Ok(Outcome::Done(pages.values().sum()))
/// }
/// # #[cfg(feature = "testing")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), oxbull::BoxError> {
/// # let test = oxbull::testing::TestJob::new(&())?
/// #     .child_result("bull:pages:1", &40)?
/// #     .child_result("bull:pages:2", &2)?
/// #     .child_result("bull:pages:3", "lost")?;
/// # assert_eq!(sum(test.job()?).await.unwrap(), Outcome::Done(42));
/// # assert_eq!(test.logs().len(), 1);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
#[must_use = "results may not have been decoded"]
pub struct ChildResults<R>(BTreeMap<JobKey, Result<R>>);

impl<R> ChildResults<R> {
    /// How many children have completed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no child has completed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the result of a child; `None` when it has not completed.
    pub fn get(&self, child: &JobKey) -> Option<&Result<R>> {
        self.0.get(child)
    }

    /// Iterates over children and results, by the children's keys.
    pub fn iter(&self) -> btree_map::Iter<'_, JobKey, Result<R>> {
        self.0.iter()
    }

    /// Iterates over the results that were decoded.
    pub fn values(&self) -> impl Iterator<Item = &R> {
        self.0.values().filter_map(|result| result.as_ref().ok())
    }

    /// Iterates over the children whose results do not decode, with the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&JobKey, &Error)> {
        let results = self.0.iter();
        results.filter_map(|(child, result)| Some((child, result.as_ref().err()?)))
    }

    /// Returns all results if all decode.
    ///
    /// # Errors
    ///
    /// The [`Error::Decode`] of the first child whose result does not, which names that child.
    pub fn into_map(self) -> Result<BTreeMap<JobKey, R>> {
        let results = self.0.into_iter();
        results
            .map(|(child, result)| Ok((child, result?)))
            .collect()
    }
}

impl<R> IntoIterator for ChildResults<R> {
    type Item = (JobKey, Result<R>);
    type IntoIter = btree_map::IntoIter<JobKey, Result<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, R> IntoIterator for &'a ChildResults<R> {
    type Item = (&'a JobKey, &'a Result<R>);
    type IntoIter = btree_map::Iter<'a, JobKey, Result<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn decode<R: DeserializeOwned>(child: &JobKey, text: &str) -> Result<R> {
    json::read(text).map_err(|source| Error::Decode {
        what: format!("result of child {child}"),
        source: source.into(),
    })
}
