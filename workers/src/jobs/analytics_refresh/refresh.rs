//! One account: all of it in one request, or what can be had of it.

use std::time::Duration;

use oxbull::BoxError;

use super::posts::{Posts, Search};
use super::{Allowance, Denial, Overview};
use crate::graph::{
    AccountApi, Failure, GraphError, Insights, LARGEST_PAGE, PostPage, PostQuery, PostRecord,
    Profile, Refused, TokenError,
};

/// The account's insights, by the API's names.
const ACCOUNT_METRICS: [&str; 3] = ["reach", "views", "profile_views"];

/// A post's insights that images, carousels and reels have alike; likes and comments are fields.
const POST_METRICS: [&str; 4] = ["reach", "views", "saved", "shares"];

/// How much is read of an account.
#[derive(Debug, Clone)]
pub struct RefreshLimits {
    /// Its latest posts. Default: 25.
    pub posts: usize,
    /// The most requests for one account, where the API refuses to answer all at once; what could
    /// not be read with so many is marked as missing. Default: 20.
    pub requests: u32,
    /// How long a run that has read something waits for its own budgets, rather than to step back
    /// and read all of it again. Default: 5 s.
    pub patience: Duration,
}

impl Default for RefreshLimits {
    fn default() -> Self {
        Self {
            posts: 25,
            requests: 20,
            patience: Duration::from_secs(5),
        }
    }
}

/// Why an account's numbers were not refreshed by this attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// A request failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no usable token to read the account with.
    #[error(transparent)]
    NoToken(#[from] TokenError),
    /// The API has asked to be left alone, so it was not asked.
    #[error("the graph api is to be left alone for {:?}", .0.wait)]
    Held(Denial),
    /// Our own budget is used up, so the API was not asked.
    #[error("the budget for the graph api is used up for {:?}", .0.wait)]
    Budget(Denial),
    /// It could not be found out whether the API may be asked.
    #[error("the limits of the graph api could not be read")]
    NoLimits(#[source] BoxError),
    /// The numbers were read and could not be cached.
    #[error("the overview could not be cached")]
    Cache(#[source] BoxError),
}

impl RefreshError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Graph(error) => error.failure(),
            Self::Held(denial) | Self::Budget(denial) => Failure::RateLimited {
                scope: denial.scope,
                wait: Some(denial.wait),
            },
            Self::NoToken(_) | Self::NoLimits(_) | Self::Cache(_) => Failure::Transient,
        }
    }
}

/// What was read of an account.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) profile: Profile,
    pub(super) insights: Insights,
    pub(super) posts: Vec<PostRecord>,
    pub(super) posts_complete: bool,
    /// Whether the account's insights were refused for want of a permission.
    pub(super) permission_missing: bool,
}

/// Reads an account's numbers; `now` is in milliseconds since 1970.
///
/// Parts that the API refuses for good are left out, except the profile, without which there is nothing
/// to show. What fails for a passing reason fails the attempt, so that a later one reads all of
/// it; with `settle_for_less`, which is for the last attempt, that is left out as well.
///
/// # Errors
/// [`RefreshError`]; numbers that the API leaves out are no error.
pub async fn refresh(
    api: AccountApi<'_>,
    allowance: &impl Allowance,
    limits: &RefreshLimits,
    settle_for_less: bool,
    now: i64,
) -> Result<Overview, RefreshError> {
    let mut run = Run {
        api,
        allowance,
        limits,
        settle_for_less,
        requests: 0,
        patience: limits.patience,
        permission_missing: false,
    };
    let gathered = match run.at_once().await {
        Err(RefreshError::Graph(error)) if error.refuses_a_part() => {
            run.in_parts(Some(&error)).await?
        }
        Err(error) if run.is_dispensable(&error) => run.in_parts(None).await?,
        gathered => gathered?,
    };
    Ok(Overview::of(api.id().clone(), gathered, now))
}

struct Run<'a, A> {
    api: AccountApi<'a>,
    allowance: &'a A,
    limits: &'a RefreshLimits,
    settle_for_less: bool,
    /// Requests made.
    requests: u32,
    /// What is left of it.
    patience: Duration,
    permission_missing: bool,
}

impl<A: Allowance> Run<'_, A> {
    async fn at_once(&mut self) -> Result<Gathered, RefreshError> {
        self.admit().await?;
        let query = PostQuery {
            limit: self.limits.posts.min(LARGEST_PAGE),
            after: None,
            metrics: &POST_METRICS,
        };
        let all = self.api.overview(&ACCOUNT_METRICS, query).await?;
        let mut posts = Posts::new(self.limits.posts);
        posts.add(all.posts);
        self.read_posts(&mut posts, None).await?;
        Ok(Gathered {
            profile: all.profile,
            insights: all.insights,
            posts_complete: posts.complete,
            posts: posts.read,
            permission_missing: self.permission_missing,
        })
    }

    /// `refused`: why the request for all at once was refused, if it was.
    async fn in_parts(&mut self, refused: Option<&GraphError>) -> Result<Gathered, RefreshError> {
        self.admit().await?;
        let profile = self.api.profile().await?;
        let mut insights = Insights::default();
        let whole = self.read_insights(&mut insights).await;
        let whole = self.dispense(whole)?.unwrap_or(false);
        let mut posts = Posts::new(self.limits.posts);
        // Where the account's insights were not to blame, one of the posts was.
        let refusal = refused.filter(|_| whole);
        let refusal = refusal.map(|error| error.refused_metrics(&POST_METRICS));
        let read = self.read_posts(&mut posts, refusal).await;
        self.dispense(read)?;
        Ok(Gathered {
            profile,
            insights,
            posts_complete: posts.complete,
            posts: posts.read,
            permission_missing: self.permission_missing,
        })
    }

    /// All metrics, then those that the API did not refuse; where it does not name the
    /// refused one, one by one. Returns whether it refused none.
    async fn read_insights(&mut self, insights: &mut Insights) -> Result<bool, RefreshError> {
        let mut whole = true;
        let mut asks = vec![ACCOUNT_METRICS.to_vec()];
        while let Some(metrics) = asks.pop() {
            if !self.has_room() {
                break;
            }
            self.admit().await?;
            let error = match self.api.insights(&metrics).await {
                Ok(answer) => {
                    insights.add(answer);
                    continue;
                }
                Err(error) if error.refuses_a_part() => error,
                Err(error) => return Err(error.into()),
            };
            whole = false;
            self.permission_missing |= error.is_missing_permission();
            let kept = match error.refused_metrics(&metrics) {
                Refused::Nowhere(name) => without(&metrics, &[name]),
                Refused::Here(names) => without(&metrics, &names),
                Refused::Unnamed if metrics.len() > 1 => {
                    asks.extend(metrics.iter().map(|metric| vec![*metric]));
                    continue;
                }
                Refused::Unnamed | Refused::All | Refused::Older => continue,
            };
            if !kept.is_empty() {
                asks.push(kept);
            }
        }
        Ok(whole)
    }

    /// Page by page, with what no post of a page lacks: a refusal costs one more request, for the page
    /// without the refused metrics. These are looked for afterwards, as far as requests are left.
    /// `refusal`: why a request for the first page was refused.
    async fn read_posts(
        &mut self,
        posts: &mut Posts,
        mut refusal: Option<Refused<'static>>,
    ) -> Result<(), RefreshError> {
        let mut metrics = POST_METRICS.to_vec();
        let mut searches = Vec::new();
        while posts.wanted > 0 {
            let start = posts.next.clone();
            let limit = posts.wanted.min(LARGEST_PAGE);
            let mut asked = metrics.clone();
            let mut found = Vec::new();
            let mut older = false;
            let page = loop {
                match refusal.take() {
                    None => {}
                    Some(Refused::Nowhere(name)) => {
                        metrics = without(&metrics, &[name]);
                        asked = without(&asked, &[name]);
                    }
                    Some(Refused::All) => {
                        metrics.clear();
                        asked.clear();
                    }
                    Some(Refused::Here(names)) => {
                        asked = without(&asked, &names);
                        found.push(Search::of(names, true));
                    }
                    Some(Refused::Unnamed) => {
                        let each = asked.drain(..).map(|name| Search::of(vec![name], false));
                        found.extend(each);
                    }
                    Some(Refused::Older) => {
                        found.push(Search::of(std::mem::take(&mut asked), true));
                        older = true;
                    }
                }
                if !self.has_room() {
                    return Ok(());
                }
                // The last request is for what posts there are, with their likes and comments.
                if self.requests + 1 >= self.limits.requests {
                    asked.clear();
                }
                let query = PostQuery {
                    limit,
                    after: start.as_deref(),
                    metrics: &asked,
                };
                match self.page(query).await? {
                    Ok(page) => break page,
                    // The list itself is refused.
                    Err(_) if asked.is_empty() => return Ok(()),
                    Err(error) => refusal = Some(error.refused_metrics(&asked)),
                }
            };
            searches.extend(found.into_iter().map(|search| Search {
                after: start.clone(),
                posts: page.posts.len(),
                ..search
            }));
            posts.add(page);
            if older {
                // The pages that follow are older still.
                metrics.clear();
            }
        }
        posts.complete = true;
        // What a single request may bring comes first.
        let (known, unknown): (Vec<_>, Vec<_>) = searches.into_iter().partition(|s| s.refused);
        let mut refused = known;
        for search in unknown {
            if let Some(search) = self.try_whole(posts, search).await? {
                refused.push(search);
            }
        }
        for search in refused {
            self.search(posts, search).await?;
        }
        Ok(())
    }

    /// Asks for metrics of a whole page; returns the search that is left where some posts lack them.
    async fn try_whole<'m>(
        &mut self,
        posts: &mut Posts,
        search: Search<'m>,
    ) -> Result<Option<Search<'m>>, RefreshError> {
        if !self.has_room() {
            return Ok(None);
        }
        let query = PostQuery {
            limit: search.posts,
            after: search.after.as_deref(),
            metrics: &search.metrics,
        };
        Ok(match self.page(query).await? {
            Ok(page) => {
                posts.merge(page);
                None
            }
            Err(_) => Some(Search {
                refused: true,
                ..search
            }),
        })
    }

    /// Asks for a page; the inner error is a refusal of a part of it.
    async fn page(
        &mut self,
        query: PostQuery<'_>,
    ) -> Result<Result<PostPage, GraphError>, RefreshError> {
        self.admit().await?;
        match self.api.posts(query).await {
            Err(error) if !error.refuses_a_part() => Err(error.into()),
            answer => Ok(answer),
        }
    }

    /// Looks for the metrics that some posts of a page lack. What is refused for the sake of one post is
    /// halved until that post is alone; then it goes without, and the others follow together.
    async fn search(
        &mut self,
        posts: &mut Posts,
        search: Search<'static>,
    ) -> Result<(), RefreshError> {
        let Search {
            metrics,
            mut after,
            posts: mut left,
            ..
        } = search;
        let all = left;
        // Of the next `suspect` posts one is known to lack some, and is known to be the one when
        // `lacking` is not empty.
        let mut suspect = left;
        let mut found = 0;
        let mut lacking: Vec<&str> = Vec::new();
        let mut blamed: Vec<&str> = metrics.clone();
        while left > 0 && self.has_room() {
            let asked = without(&metrics, &lacking);
            if asked.is_empty() && left == 1 {
                return Ok(());
            }
            let limit = match suspect {
                // As many as had one that lacks some, so far.
                0 => ((all - left) / found.max(1)).clamp(1, left),
                _ if !lacking.is_empty() => 1,
                posts => posts.div_ceil(2).min(left),
            };
            let query = PostQuery {
                limit,
                after: after.as_deref(),
                metrics: &asked,
            };
            let error = match self.page(query).await? {
                Ok(page) => {
                    let read = page.posts.len();
                    suspect = suspect.saturating_sub(read);
                    left = left.saturating_sub(read);
                    after.clone_from(&page.next);
                    posts.merge(page);
                    if !lacking.is_empty() {
                        found += 1;
                        lacking.clear();
                    }
                    if suspect == 1 {
                        lacking.clone_from(&blamed);
                    }
                    if read == 0 || after.is_none() {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => error,
            };
            if asked.is_empty() {
                return Ok(());
            }
            blamed = match error.refused_metrics(&asked) {
                // All that follow are older.
                Refused::Older if limit == 1 => return Ok(()),
                Refused::Nowhere(_) | Refused::All => return Ok(()),
                Refused::Here(names) => names,
                Refused::Unnamed | Refused::Older => asked,
            };
            suspect = limit;
            if limit == 1 {
                lacking.extend(&blamed);
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.requests < self.limits.requests
    }

    /// Lets a request through once the budgets have room for it.
    async fn admit(&mut self) -> Result<(), RefreshError> {
        loop {
            let taken = self.allowance.take(self.api.id()).await;
            let Some(denial) = taken.map_err(RefreshError::NoLimits)? else {
                self.requests += 1;
                return Ok(());
            };
            let wait = denial.wait.max(Duration::from_millis(1));
            if self.requests == 0 || wait > self.patience {
                return Err(RefreshError::Budget(denial));
            }
            self.patience -= wait;
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether the snapshot is usable without the failed part.
    fn is_dispensable(&self, error: &RefreshError) -> bool {
        self.settle_for_less
            && matches!(error, RefreshError::Graph(error)
                if matches!(error.failure(), Failure::Transient | Failure::Unclassified))
    }

    fn dispense<T>(&self, read: Result<T, RefreshError>) -> Result<Option<T>, RefreshError> {
        match read {
            Err(error) if self.is_dispensable(&error) => {
                tracing::warn!(account = %self.api.id(), %error, "numbers are left out");
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

fn without<'m>(metrics: &[&'m str], refused: &[&str]) -> Vec<&'m str> {
    let kept = metrics.iter().filter(|metric| !refused.contains(metric));
    kept.copied().collect()
}
