//! How one request is answered by the cache.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tokio::time::{Instant, sleep};
use tower::Service;

use super::entry::{Entry, Freshness};
use super::layer::Shared;
use super::remote::{Claim, Storage};
use super::rules::{self, CacheTags, Terms};
use super::single_flight::{FlightResult, Joined, Leader};
use super::stats::count;
use crate::clock::{Timestamp, after};
use crate::error::Error;
use crate::http::body::{self, LayerBody};

/// The first and the longest wait between two looks at what another process is making. A
/// process looks for all of its requests together, so that these are few; a message that
/// ends the wait would need a connection of its own, and could be lost.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// A service behind a [`CacheLayer`](super::CacheLayer).
#[derive(Clone)]
pub struct CacheService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> CacheService<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for CacheService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqB: Body + Send + 'static,
    ResB: Body<Data = Bytes> + Send + 'static,
    ResB::Error: Send,
{
    type Response = Response<LayerBody<ResB>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        // The service that said it is ready is the one to call.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let shared = Arc::clone(&self.shared);
        let (head, body) = request.into_parts();
        // The key does not cover a body, which a handler may read even with GET.
        let empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        let name = if empty {
            rules::entry_of(&head, &shared.options)
        } else {
            None
        };
        let request = Request::from_parts(head, body);
        Box::pin(async move {
            match name {
                Some(name) => shared.serve(&name, inner, request).await,
                None => shared.pass(inner, request).await,
            }
        })
    }
}

/// What a handler's run came to.
enum Outcome<ResB: Body, E> {
    /// A response that may be stored.
    Shareable(Response<LayerBody<ResB>>, Box<Shareable>),
    /// A response for this request alone.
    Own(Response<LayerBody<ResB>>),
    /// The handler failed: with a 5xx response, an error or a panic.
    Failed(Failure<ResB, E>),
}

struct Shareable {
    entry: Arc<Entry>,
    terms: Terms,
    tags: Vec<String>,
}

enum Failure<ResB: Body, E> {
    Response(Response<LayerBody<ResB>>),
    Error(E),
    Panic(Box<dyn Any + Send>),
}

/// What is known before the handler runs.
struct Standing {
    /// Held for the requests of this process that wait for the response.
    leader: Option<Leader>,
    /// Whether this process has the entry's lock.
    locked: bool,
    /// Whether Redis answers.
    reachable: bool,
}

impl Shared {
    /// Runs the handler for a request that the cache is not for.
    async fn pass<S, ReqB, ResB>(
        &self,
        mut inner: S,
        request: Request<ReqB>,
    ) -> Result<Response<LayerBody<ResB>>, S::Error>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>>,
        ResB: Body<Data = Bytes>,
    {
        count(&self.counters.bypassed);
        let response = inner.call(request).await?;
        Ok(marked(response.map(LayerBody::inner), "bypass"))
    }

    /// Answers from the cache, or runs the handler and stores what it answers.
    async fn serve<S, ReqB, ResB>(
        &self,
        name: &str,
        inner: S,
        request: Request<ReqB>,
    ) -> Result<Response<LayerBody<ResB>>, S::Error>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>>,
        ResB: Body<Data = Bytes>,
    {
        let mut standing = match self.find(name, request.headers()).await {
            Ok((entry, freshness)) => return Ok(self.answer(&entry, freshness)),
            Err(standing) => standing,
        };
        count(&self.counters.misses);
        tracing::debug!(cache = "miss", "a response is made");
        let started = self.remote.clock().now();
        let asked = request.headers().clone();
        let work = self.run(inner, request, &asked);
        let outcome = if standing.locked {
            self.remote.hold(name, work).await
        } else {
            work.await
        };
        match outcome {
            Outcome::Shareable(response, made) => {
                self.single_flight.set_bypassed(name, false);
                if standing.reachable {
                    self.store(name, &made, started, standing.locked).await;
                }
                standing.finish(FlightResult::Shared(made.entry, Freshness::Hit));
                Ok(marked(response, "miss"))
            }
            Outcome::Own(response) => {
                self.single_flight.set_bypassed(name, true);
                self.finish_unstored(name, standing, FlightResult::NotShared);
                Ok(marked(response, "miss"))
            }
            Outcome::Failed(failure) => {
                let old = self.last_resort(name, &asked, standing.reachable).await;
                if let Some(entry) = old.map(Arc::new) {
                    let response = self.answer(&entry, Freshness::Stale);
                    self.finish_unstored(
                        name,
                        standing,
                        FlightResult::Shared(entry, Freshness::Stale),
                    );
                    return Ok(response);
                }
                self.finish_unstored(name, standing, FlightResult::NotShared);
                match failure {
                    Failure::Response(response) => Ok(marked(response, "miss")),
                    Failure::Error(error) => Err(error),
                    Failure::Panic(payload) => resume_unwind(payload),
                }
            }
        }
    }

    /// Finds an answer, waiting for one that another request is making; otherwise says in which
    /// standing the handler has to run.
    async fn find(
        &self,
        name: &str,
        asked: &HeaderMap,
    ) -> Result<(Arc<Entry>, Freshness), Standing> {
        let deadline = after(Instant::now(), self.options.wait);
        let mut standing = Standing {
            leader: None,
            locked: false,
            reachable: true,
        };
        match self.remote.look_up(name).await {
            Ok(Some(entry)) if entry.answers(asked) => {
                return Ok((Arc::new(entry), Freshness::Hit));
            }
            Ok(_) => {}
            Err(error) => {
                standing.reachable = false;
                self.counters.failed("look up", &error);
            }
        }
        if self.single_flight.is_bypassed(name) {
            return Err(standing);
        }
        match self.single_flight.join(name, deadline).await {
            Joined::Finished(FlightResult::Shared(entry, freshness)) if entry.answers(asked) => {
                return Ok((entry, freshness));
            }
            Joined::Finished(_) | Joined::TimedOut => return Err(standing),
            Joined::Leader(leader) => standing.leader = Some(leader),
        }
        let (mut pause, longest) = LOOKS;
        while standing.reachable {
            match self.remote.claim(name).await {
                Ok(Claim::Found(entry)) if entry.answers(asked) => {
                    let entry = Arc::new(entry);
                    standing.finish(FlightResult::Shared(Arc::clone(&entry), Freshness::Hit));
                    return Ok((entry, Freshness::Hit));
                }
                Ok(Claim::Leader) => {
                    standing.locked = true;
                    break;
                }
                Ok(Claim::Wait) if Instant::now() < deadline => {
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                Ok(Claim::Found(_) | Claim::Unreadable | Claim::Wait) => break,
                Err(error) => {
                    standing.reachable = false;
                    self.counters.failed("claim", &error);
                    // The lock may have been taken all the same, or be taken when this arrives.
                    if matches!(error, Error::Timeout(_) | Error::Indeterminate(_)) {
                        self.remote.release(name);
                    }
                }
            }
        }
        Err(standing)
    }

    /// Runs the handler and reads its response as far as it may be stored.
    async fn run<S, ReqB, ResB>(
        &self,
        mut inner: S,
        request: Request<ReqB>,
        asked: &HeaderMap,
    ) -> Outcome<ResB, S::Error>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>>,
        ResB: Body<Data = Bytes>,
    {
        let method = request.method().clone();
        let work = async { inner.call(request).await };
        let response = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::Failed(Failure::Error(error)),
            Err(payload) => return Outcome::Failed(Failure::Panic(payload)),
        };
        let (mut head, body) = response.into_parts();
        let tags = head.extensions.remove::<CacheTags>().unwrap_or_default();
        let whole = |body| Response::from_parts(head.clone(), body);
        if head.status.is_server_error() {
            return Outcome::Failed(Failure::Response(whole(LayerBody::inner(body))));
        }
        let Some(terms) = rules::terms(&method, &head, &self.options) else {
            return Outcome::Own(whole(LayerBody::inner(body)));
        };
        match body::read(body, self.options.body_limit).await {
            Err(body) => Outcome::Own(whole(body)),
            Ok(bytes) => {
                let at = self.remote.clock().now();
                let entry = Entry::new(&head, bytes.clone(), &terms, (&method, asked), at);
                let made = Shareable {
                    entry: Arc::new(entry),
                    terms,
                    tags: tags.into_inner(),
                };
                Outcome::Shareable(whole(LayerBody::whole(bytes)), Box::new(made))
            }
        }
    }

    /// Stores a response, which gives up the lock as well.
    async fn store(&self, name: &str, made: &Shareable, started: Timestamp, locked: bool) {
        let storage = Storage {
            name,
            entry: &made.entry,
            terms: &made.terms,
            stale_for: self.options.stale_for,
            tags: made.tags.clone(),
            started,
        };
        match self.remote.store(storage).await {
            Ok(true) => count(&self.counters.stores),
            Ok(false) if locked => self.remote.release(name),
            Ok(false) => {}
            Err(error) => {
                self.counters.failed("store", &error);
                if locked {
                    self.remote.release(name);
                }
            }
        }
    }

    /// Looks for an old response to give instead of a failure.
    async fn last_resort(&self, name: &str, asked: &HeaderMap, reachable: bool) -> Option<Entry> {
        if self.options.stale_for.is_zero() || !reachable {
            return None;
        }
        match self.remote.stale(name).await {
            Ok(entry) => entry.filter(|entry| entry.answers(asked)),
            Err(error) => {
                self.counters.failed("stale", &error);
                None
            }
        }
    }

    /// Ends without anything stored.
    fn finish_unstored(&self, name: &str, mut standing: Standing, result: FlightResult) {
        if standing.locked {
            self.remote.release(name);
        }
        standing.finish(result);
    }

    fn answer<ResB: Body>(&self, entry: &Entry, freshness: Freshness) -> Response<LayerBody<ResB>> {
        count(match freshness {
            Freshness::Hit => &self.counters.hits,
            Freshness::Stale => &self.counters.stale,
        });
        tracing::debug!(cache = ?freshness, "answered from the cache");
        entry.respond(freshness, self.remote.clock().now())
    }
}

impl Standing {
    fn finish(&mut self, result: FlightResult) {
        if let Some(leader) = self.leader.take() {
            leader.finish(result);
        }
    }
}

fn marked<B>(mut response: Response<B>, text: &'static str) -> Response<B> {
    const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
    response
        .headers_mut()
        .insert(X_CACHE, HeaderValue::from_static(text));
    response
}
