//! The HTTP side: connections, deadline, authorization, and reading answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::usage::requested_wait;
use super::{AccessToken, AccountId, ApiError, GraphError, GraphLogin, UsageMeter};

/// The largest answer read, in bytes; the requests made here have answers of a few kilobytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// How many times as long as other requests one may take that creates something.
const CREATION: u32 = 4;

/// Where the API is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct GraphOptions {
    base_url: String,
    deadline: Duration,
    connect_deadline: Duration,
}

impl GraphOptions {
    /// Options for the API at a base URL that includes the version, with a deadline of 15 s a
    /// request, 5 s of them to connect.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            deadline: Duration::from_secs(15),
            connect_deadline: Duration::from_secs(5),
        }
    }

    /// Sets how long one request may take, from connecting to the last byte of the answer.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self.connect_deadline = self.connect_deadline.min(deadline);
        self
    }
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The base URL is not an absolute `http` or `https` URL without credentials.
    #[error("graph api url: {0}")]
    Url(String),
    /// TLS could not be set up.
    #[error("tls for the graph api")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("http client for the graph api")]
    Http(#[source] reqwest::Error),
}

/// A handle on the API; cheap to clone, shares its connections.
#[derive(Debug, Clone)]
pub struct GraphClient {
    http: reqwest::Client,
    base: Url,
    deadline: Duration,
}

impl GraphClient {
    /// Sets up the client without connecting.
    ///
    /// # Errors
    /// [`SetupError`] when the base URL or the TLS configuration is unusable.
    pub fn new(options: &GraphOptions) -> Result<Self, SetupError> {
        let base = base_url(&options.base_url)?;
        let mut builder = reqwest::Client::builder();
        if is_loopback(&base) {
            // A proxy of the environment cannot reach what listens on this machine only.
            builder = builder.no_proxy();
        }
        let http = builder
            .user_agent(concat!("oxbull-workers/", env!("CARGO_PKG_VERSION")))
            .timeout(options.deadline)
            .connect_timeout(options.connect_deadline)
            // A redirect would carry the token to another address.
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls()?)
            .build()
            .map_err(SetupError::Http)?;
        Ok(Self {
            http,
            base,
            deadline: options.deadline,
        })
    }

    /// The login whose tokens the host takes; `None` for a proxy or a stand-in.
    pub fn login(&self) -> Option<GraphLogin> {
        GraphLogin::of_host(&self.base)
    }

    /// The requests of one account, authorized by its token.
    pub fn account<'a>(&'a self, id: &'a AccountId, token: &'a AccessToken) -> AccountApi<'a> {
        AccountApi {
            graph: self,
            id,
            token,
            meter: None,
        }
    }

    fn url(&self, path: &[&str]) -> Result<Url, GraphError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| GraphError::Unexpected("the base url has no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// A URL beside the version, which some requests have no part in.
    fn unversioned_url(&self, name: &str) -> Result<Url, GraphError> {
        let mut url = self.url(&[])?;
        let last = url.path_segments().and_then(|mut path| path.next_back());
        let has_version = last.is_some_and(|last| {
            let digits = last.strip_prefix('v');
            digits.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        if let Ok(mut path) = url.path_segments_mut() {
            if has_version {
                path.pop();
            }
            path.pop_if_empty().push(name);
        }
        Ok(url)
    }
}

fn broken(error: reqwest::Error, deadline: Duration) -> GraphError {
    if error.is_timeout() {
        GraphError::Deadline(deadline)
    } else {
        GraphError::Unreachable(error.without_url())
    }
}

/// Only ring is compiled in, and the process-wide provider belongs to the application.
fn tls() -> Result<rustls::ClientConfig, SetupError> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

fn base_url(text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text).map_err(|error| SetupError::Url(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SetupError::Url("must be http or https".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(SetupError::Url(
            "must have neither credentials nor a query".to_owned(),
        ));
    }
    Ok(url)
}

/// The API narrowed to one account and its token; made by [`GraphClient::account`].
#[derive(Debug, Clone, Copy)]
pub struct AccountApi<'a> {
    graph: &'a GraphClient,
    id: &'a AccountId,
    token: &'a AccessToken,
    meter: Option<&'a UsageMeter>,
}

impl<'a> AccountApi<'a> {
    /// Records rate usage in `meter`, and makes no further request once the API has asked to leave
    /// the account alone: such a request fails with [`GraphError::Spared`].
    #[must_use]
    pub fn metered(mut self, meter: &'a UsageMeter) -> Self {
        self.meter = Some(meter);
        self
    }
}

impl AccountApi<'_> {
    /// The account.
    pub fn id(&self) -> &AccountId {
        self.id
    }

    pub(super) async fn read<A: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<A, GraphError> {
        let request = self
            .graph
            .http
            .request(Method::GET, self.graph.url(path)?)
            .query(query);
        self.send(operation, request).await
    }

    pub(super) async fn write<A: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<A, GraphError> {
        let request = self
            .graph
            .http
            .request(Method::POST, self.graph.url(path)?)
            .json(body);
        self.send(operation, request).await
    }

    /// Asks for another token in the place of this one, which stays valid until it ends. Only tokens of
    /// Instagram Login that are at least 24 hours old can be refreshed.
    ///
    /// The API documents the token as a part of the query and not as a header. A header shows in no log on
    /// the way, so it is tried first.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn refresh_token(&self) -> Result<RefreshedToken, GraphError> {
        let url = self.graph.unversioned_url("refresh_access_token")?;
        let request = || {
            let request = self.graph.http.request(Method::GET, url.clone());
            request.query(&[("grant_type", "ig_refresh_token")])
        };
        match self.send("refresh token", request()).await {
            Err(GraphError::Declined(error)) if error.is_of_the_request() => {
                let documented = request().query(&[("access_token", self.token.reveal())]);
                self.send("refresh token", documented).await
            }
            answer => answer,
        }
    }

    /// How long a request may take that creates something.
    pub(crate) fn creation_deadline(&self) -> Duration {
        self.graph.deadline.saturating_mul(CREATION)
    }

    /// Like [`write`](Self::write), within [`creation_deadline`](Self::creation_deadline).
    pub(super) async fn create<A: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<A, GraphError> {
        let deadline = self.creation_deadline();
        let request = self
            .graph
            .http
            .request(Method::POST, self.graph.url(path)?)
            .timeout(deadline)
            .json(body);
        self.send_within(deadline, operation, request).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        operation: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<A, GraphError> {
        self.send_within(self.graph.deadline, operation, request)
            .await
    }

    /// Sends a request that has this deadline.
    async fn send_within<A: DeserializeOwned>(
        &self,
        deadline: Duration,
        operation: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<A, GraphError> {
        let start = Instant::now();
        let answer = self.exchange(request, deadline).await;
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &answer {
            Ok(_) => tracing::debug!(operation, account = %self.id, elapsed_ms, "graph request"),
            Err(error) => {
                tracing::debug!(operation, account = %self.id, elapsed_ms, %error, "graph request");
            }
        }
        answer
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        deadline: Duration,
    ) -> Result<A, GraphError> {
        if let Some(throttle) = self
            .meter
            .map(UsageMeter::throttle)
            .filter(|throttle| throttle.stop)
        {
            return Err(GraphError::Spared(
                throttle.account.max(throttle.application),
            ));
        }
        let mut response = request
            .bearer_auth(self.token.reveal())
            .send()
            .await
            .map_err(|error| broken(error, deadline))?;
        if let Some(meter) = self.meter {
            meter.note(response.headers());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| broken(error, deadline))?
        {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(GraphError::Unexpected(format!(
                    "more than {LARGEST_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if !response.status().is_success() {
            let wait = requested_wait(response.headers(), self.id);
            return Err(ApiError::read(response.status(), wait, &body, self.token).into());
        }
        serde_json::from_slice(&body).map_err(|error| GraphError::Unexpected(error.to_string()))
    }
}

/// The answer to [`AccountApi::refresh_token`].
#[derive(Debug, Clone, serde::Deserialize)]
pub struct RefreshedToken {
    /// The token that takes the place of the former one.
    #[serde(rename = "access_token")]
    pub token: AccessToken,
    /// Seconds until it ends.
    pub expires_in: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<GraphClient, SetupError> {
        GraphClient::new(&GraphOptions::new(url))
    }

    /// The version is part of the base URL, with or without a slash at its end.
    #[test]
    fn paths_are_appended_to_the_base() {
        for base in ["http://h/v23.0", "http://h/v23.0/"] {
            let url = client(base).unwrap().url(&["178", "media"]).unwrap();
            assert_eq!(url.as_str(), "http://h/v23.0/178/media");
        }
    }

    /// Refreshing has no version in its path.
    #[test]
    fn version_is_left_out_where_the_api_has_none() {
        for (base, url) in [
            ("http://h/v23.0", "http://h/refresh"),
            ("http://h/v23.0/", "http://h/refresh"),
            ("http://h", "http://h/refresh"),
            ("http://h/graph/v23.0", "http://h/graph/refresh"),
            ("http://h/videos", "http://h/videos/refresh"),
        ] {
            let made = client(base).unwrap().unversioned_url("refresh").unwrap();
            assert_eq!(made.as_str(), url);
        }
    }

    /// Credentials in a URL would end up in logs, so they are refused at start.
    #[test]
    fn urls_with_credentials_or_odd_schemes_are_refused() {
        for bad in [
            "graph",
            "ftp://h",
            "http://u:p@h",
            "http://h?access_token=x",
        ] {
            assert!(client(bad).is_err(), "{bad} was accepted");
        }
    }

    /// A configured token must not show up when the client is logged.
    #[test]
    fn debug_output_of_an_account_hides_the_token() {
        let graph = client("https://h").unwrap();
        let id = AccountId::new("1").unwrap();
        let token = AccessToken::new("s3cret");
        assert!(!format!("{:?}", graph.account(&id, &token)).contains("s3cret"));
    }
}
