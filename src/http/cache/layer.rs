//! The layer that puts a cache in front of a service.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::options::CacheOptions;
use super::remote::Remote;
use super::service::CacheService;
use super::single_flight::SingleFlight;
use super::stats::{CacheStats, Counters};
use crate::error::{Error, Result};
use crate::kv::{Kv, check_id};

/// A [`tower::Layer`] that answers requests with earlier responses, kept in Redis.
///
/// The key of an entry is `api:{method}:{url}:{userId or 'anonymous'}`. Where the body of a 200
/// response to GET is JSON and depends on no request header, that key holds the body alone, so
/// that any client that follows the rule can read it, and what such a client stores there is a
/// hit here. Status, headers and age are beside it (`api:meta:…`), and other bodies with them.
///
/// - Stored are responses to [`methods`](CacheOptions::methods) with one of the
///   [`statuses`](CacheOptions::statuses), without `Set-Cookie`, without `no-store`, `no-cache`
///   or `private` in `Cache-Control`, without `Expires` unless `max-age` says the same, and up to
///   a [size](CacheOptions::body_limit). A response with `Vary` answers requests with the same
///   headers. `Vary: *` is not stored.
/// - Users never share entries. A request with credentials but without a user bypasses the
///   cache, and so does one with a body.
/// - When an entry is missing, one request among all processes runs the handler and the others
///   wait for its response. When it cannot be shared, each runs the handler itself, and for the
///   next 10 s at once.
/// - Redis is asked with a short [deadline](CacheOptions::deadline). Without an answer a
///   request is a miss, never an error.
/// - Responses have `X-Cache` (`hit`, `miss`, `stale` or `bypass`), those from the cache `Age`.
/// - `Cache-Control` of requests is ignored: otherwise any client could run the handler at will.
///
/// A handler whose response depends on request headers must name them in `Vary`, as for any
/// shared cache. All keys of an entry have to be on one server: on a cluster they would lie
/// apart, and every request would be a miss.
///
/// # Examples
/// ```no_run
/// # fn run(client: oxbull::Client) -> oxbull::Result<()> {
/// use std::time::Duration;
/// use oxbull::http::{CacheLayer, CacheOptions};
///
/// #[derive(Clone)]
/// struct Session { user: String }
///
/// let options = CacheOptions::default()
///     .stale_while_error(Duration::from_secs(600))
///     .user(|head| Some(head.extensions.get::<Session>()?.user.clone()));
/// let layer = CacheLayer::new(&client.cache(), options)?;
/// // axum: Router::new().route("/api/overview/{account}", get(overview)).layer(layer)
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheLayer {
    shared: Arc<Shared>,
}

/// What all services of a layer share.
pub(super) struct Shared {
    pub(super) options: CacheOptions,
    pub(super) remote: Remote,
    pub(super) single_flight: Arc<SingleFlight>,
    pub(super) counters: Counters,
}

impl CacheLayer {
    /// Makes a cache on a server, usually that of [`Client::cache`](crate::Client::cache).
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an option out of its bounds, and for a cluster, over which
    /// the entries that Node.js shares would be spread.
    pub fn new(kv: &Kv, options: CacheOptions) -> Result<Self> {
        options.check()?;
        let connection = kv.connection().clone();
        if connection.slot("api:").is_some() {
            return Err(Error::invalid(
                "kv",
                "is a cluster, over which the entries and tags that Node.js shares would be spread: give the cache \
                 a server of its own (ClientConfig::cache, REDIS_CACHE_URL)",
            ));
        }
        let remote = Remote::new(connection, options.deadline, options.lease);
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                remote,
                single_flight: Arc::default(),
                counters: Counters::default(),
            }),
        })
    }

    /// Deletes every entry whose response had this tag ([`CacheTags`](super::CacheTags)), in
    /// steps of 200; returns how many entries the tag had, some of which may have expired.
    ///
    /// Responses that are being made while it runs are not stored. Asking again after an error
    /// is safe. Any process with a layer on the same server can do it.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a tag, and those of every request: the
    /// caller must know whether the invalidation happened.
    pub async fn invalidate(&self, tag: &str) -> Result<u64> {
        check_id("tag", tag)?;
        self.shared.remote.invalidate(tag).await
    }

    /// Returns what this layer and its clones have done.
    pub fn stats(&self) -> CacheStats {
        self.shared.counters.read()
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("options", &self.shared.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, Arc::clone(&self.shared))
    }
}
