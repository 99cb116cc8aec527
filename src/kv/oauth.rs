//! OAuth states: that a callback belongs to the browser that began the login, and comes once.
//!
//! A state lies at `oauth:{provider}:state:{stateToken}` for ten minutes, as
//! `<binding>.<sealed>`. The token carries the time it was issued and a signature by the keyring,
//! so that made-up and expired ones are refused without asking Redis. The binding is a hash of the
//! token and of what the browser is known by. Sealed, for purpose `oauth-state` and the whole key,
//! are the PKCE verifier and where to go afterwards.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{check_id, mismatch};
use crate::client::{Client, Command, Connection, Repeat, Script, ScriptCall, lua};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Result};
use crate::vault::{AssociatedData, Keyring, OpenError};

static TAKE: Script = lua!("kv/take_state", uses: []);

/// Default of [`OAuthStates::ttl`]: a state can be taken for 10 min.
pub const STATE_TTL: Duration = Duration::from_secs(600);

/// Default of [`OAuthStates::max_redirect`]: a redirect target is at most 2,048 bytes.
pub const REDIRECT_MAX: usize = 2048;

/// Longest text that a browser is known by, in bytes.
const BROWSER_MAX: usize = 4096;

/// Longest time that can be set: 1 h.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// A token is the time it was issued, random bytes and the signature of both.
const TIME_LEN: usize = 8;
const RANDOM_LEN: usize = 32;
const SIGNATURE_LEN: usize = 32;

/// The states of logins at one provider. Cheap to clone.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use oxbull::kv::oauth::OAuthStates;
/// use oxbull::vault::Keyring;
///
/// let states = OAuthStates::new(&client, Keyring::from_env()?, "instagram")?;
///
/// // The browser is known by a cookie: its session, or a random `__Host-` one made for this.
/// let cookie = "what the browser's cookie says";
/// let issued = states.issue(cookie, Some("/settings/accounts")).await?;
/// let url = format!(
///     "https://www.instagram.com/oauth/authorize?state={}&code_challenge={}&code_challenge_method=S256",
///     issued.state(),
///     issued.challenge(),
/// );
///
/// // In the callback.
/// let taken = states.take("the state parameter", cookie).await?;
/// let code_verifier = taken.verifier();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OAuthStates {
    connection: Connection,
    clock: Clock,
    keyring: Keyring,
    provider: String,
    ttl: Duration,
    max_redirect: usize,
}

/// Why a callback is refused. In every case the login must fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The state was not issued here for this provider, or its signing key is gone.
    #[error("the state was not issued here")]
    Forged,
    /// The login took too long; the user may start again.
    #[error("the state has expired")]
    Expired,
    /// It was taken before, as by a reloaded page, or Redis lost it.
    #[error("the state was used already")]
    Used,
    /// It was issued to another browser, and is still there for that one.
    #[error("the state belongs to another browser")]
    Foreign,
    /// What was stored with it does not open; it is used up.
    #[error("the state cannot be opened")]
    Open(#[from] OpenError),
    /// The request itself failed. After [`Error::Indeterminate`] the state may be used up.
    #[error(transparent)]
    Request(#[from] Error),
}

/// A state for the provider's login page.
pub struct IssuedState {
    state: String,
    challenge: String,
}

/// What was kept with a state.
pub struct TakenState {
    verifier: String,
    redirect: Option<String>,
    issued: Timestamp,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    verifier: String,
    redirect: Option<String>,
}

impl OAuthStates {
    /// Keeps the states of a provider, such as `instagram`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the provider's name would break a key.
    pub fn new(client: &Client, keyring: Keyring, provider: &str) -> Result<Self> {
        check_id("provider", provider)?;
        Ok(Self {
            connection: client.connection().clone(),
            clock: client.clock().clone(),
            keyring,
            provider: provider.to_owned(),
            ttl: STATE_TTL,
            max_redirect: REDIRECT_MAX,
        })
    }

    /// Sets how long a state can be taken, from 1 s to 1 h. Default: [`STATE_TTL`].
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the longest redirect target, in bytes. Default: [`REDIRECT_MAX`].
    #[must_use]
    pub fn max_redirect(mut self, bytes: usize) -> Self {
        self.max_redirect = bytes;
        self
    }

    /// Issues a state to a browser, which is known by a secret in one of its cookies, and makes a
    /// PKCE verifier. `redirect` is where to go afterwards: check it against what you allow, here
    /// it is only kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `browser` is empty or over 4,096 bytes, `redirect` is too long, or
    /// the time to live is out of bounds.
    pub async fn issue(&self, browser: &str, redirect: Option<&str>) -> Result<IssuedState> {
        check_browser(browser)?;
        if !(Duration::from_secs(1)..=TTL_MAX).contains(&self.ttl) {
            return Err(Error::invalid("ttl", "must be between 1 s and 1 h"));
        }
        if redirect.is_some_and(|redirect| redirect.len() > self.max_redirect) {
            return Err(Error::invalid(
                "redirect",
                format!("must not be longer than {} bytes", self.max_redirect),
            ));
        }
        let state = self.token(self.clock.now())?;
        let verifier = URL_SAFE_NO_PAD.encode(crate::vault::random::<32>()?);
        let challenge = pkce_challenge(&verifier);
        let kept = Kept {
            verifier,
            redirect: redirect.map(str::to_owned),
        };
        let json = serde_json::to_vec(&kept).map_err(|source| Error::Encode {
            what: "oauth state",
            source,
        })?;
        let key = self.key(&state);
        let sealed = self.keyring.seal(&associated_data(&key), &json)?;
        let millis = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        let command = Command::new("SET")
            .arg(&key)
            .arg(format!("{}.{sealed}", binding(&state, browser)))
            .arg("PX")
            .int(millis);
        self.connection.call(command, Repeat::Safe).await?;
        Ok(IssuedState { state, challenge })
    }

    /// Takes the state that a callback brings, for the browser that brings it. Of several that
    /// bring it at the same time, one gets it.
    ///
    /// # Errors
    /// [`StateError`] says why the callback is refused. A request whose answer was lost is not
    /// repeated: it gives [`Error::Indeterminate`], and the user starts again.
    pub async fn take(&self, state: &str, browser: &str) -> Result<TakenState, StateError> {
        check_browser(browser)?;
        let issued = self.issued(state).ok_or(StateError::Forged)?;
        if self.clock.now() >= issued + self.ttl {
            return Err(StateError::Expired);
        }
        let key = self.key(state);
        let binding = binding(state, browser);
        let call = ScriptCall::new(&TAKE, &[&key]).arg(binding);
        let reply = self
            .connection
            .run(call, Repeat::Once)
            .await
            .map_err(|error| mismatch(&key, error))?;
        let sealed = match reply.bytes_or_int()? {
            // What is not UTF-8 does not open either.
            Ok(sealed) => String::from_utf8_lossy(&sealed).into_owned(),
            // The server's key may have expired a moment before this clock says so.
            Err(0) if self.clock.now() >= issued + self.ttl => return Err(StateError::Expired),
            Err(0) => return Err(StateError::Used),
            Err(_) => return Err(StateError::Foreign),
        };
        let json = self.keyring.open(&associated_data(&key), &sealed)?;
        let kept: Kept =
            serde_json::from_slice(&json).map_err(|error| OpenError::content(&error))?;
        Ok(TakenState {
            verifier: kept.verifier,
            redirect: kept.redirect,
            issued,
        })
    }

    fn key(&self, state: &str) -> String {
        format!("oauth:{}:state:{state}", self.provider)
    }

    /// What tokens are signed as: those of one provider are invalid at another.
    fn kind(&self) -> String {
        format!("oauth-state {}", self.provider)
    }

    fn token(&self, now: Timestamp) -> Result<String> {
        let mut token = Vec::with_capacity(TIME_LEN + RANDOM_LEN + SIGNATURE_LEN);
        token.extend(now.as_millis().to_be_bytes());
        token.extend(crate::vault::random::<RANDOM_LEN>()?);
        let signature = self.keyring.sign(&self.kind(), &token);
        token.extend(signature);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Returns when a token was issued; `None` when it was not issued here.
    fn issued(&self, state: &str) -> Option<Timestamp> {
        // Its length is checked before anything is decoded.
        if state.len() != (TIME_LEN + RANDOM_LEN + SIGNATURE_LEN) / 3 * 4 {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(state).ok()?;
        let (message, signature) = token.split_at_checked(TIME_LEN + RANDOM_LEN)?;
        if !self.keyring.verify(&self.kind(), message, signature) {
            return None;
        }
        let time = message.first_chunk::<TIME_LEN>()?;
        Some(Timestamp::from_millis(i64::from_be_bytes(*time)))
    }
}

impl IssuedState {
    /// Returns the `state` parameter.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Returns the `code_challenge` parameter, for the method `S256`.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }
}

impl fmt::Debug for IssuedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedState").finish_non_exhaustive()
    }
}

impl TakenState {
    /// Returns the `code_verifier` that the token request takes. It is a secret.
    pub fn verifier(&self) -> &str {
        &self.verifier
    }

    /// Returns where to go afterwards.
    pub fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref()
    }

    /// Returns when the login began.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }
}

impl fmt::Debug for TakenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakenState")
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}

/// Returns the `S256` challenge of a PKCE verifier (RFC 7636, section 4.2).
pub fn pkce_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Ties a state to a browser. Equal browsers have different bindings, and learning how much
/// of a binding is right does not help to find a browser's secret.
fn binding(state: &str, browser: &str) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(b"oxbull oauth binding v1\0");
    hash.update(state.as_bytes());
    hash.update(b"\0");
    hash.update(browser.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.finish())
}

fn associated_data(key: &str) -> AssociatedData<'_> {
    AssociatedData::known("oauth-state", key)
}

fn check_browser(browser: &str) -> Result<()> {
    if browser.is_empty() || browser.len() > BROWSER_MAX {
        return Err(Error::invalid(
            "browser",
            format!("must be known by 1 to {BROWSER_MAX} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of RFC 7636, appendix B.
    #[test]
    fn challenge_is_that_of_the_rfc() {
        let challenge = pkce_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
