//! What the gateway and the API both know: the app's secrets and the token of the challenge.

use std::fmt::{self, Write as _};

use axum::http::HeaderValue;
use axum::http::header::GetAll;
use ring::hmac::{self, HMAC_SHA256, Key};
use ring::rand::SystemRandom;

/// Bytes of a signature.
const SIGNATURE_LEN: usize = 32;

/// A secret that cannot be used. The text names it and never shows its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// One of a list is empty.
    #[error("has an empty part")]
    EmptyPart,
    /// The system has no randomness, without which tokens are not compared safely.
    #[error("cannot be compared safely: the system has no randomness")]
    NoRandomness,
}

/// The app's secrets, all of which count: while one is replaced there are two. `Debug` hides
/// them.
#[derive(Clone)]
pub struct AppSecrets(Vec<Key>);

impl AppSecrets {
    /// Reads one secret or several, separated by commas, which the API's secrets never have.
    ///
    /// # Errors
    /// [`InvalidSecret`] when there is none or one is empty.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        if text.trim().is_empty() {
            return Err(InvalidSecret::Missing);
        }
        let parts = text.split(',').map(|secret| match secret.trim() {
            "" => Err(InvalidSecret::EmptyPart),
            secret => Ok(Key::new(HMAC_SHA256, secret.as_bytes())),
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// Whether a signature is of `body`, by one of the secrets.
    pub(super) fn verify(&self, signature: Signature, body: &[u8]) -> bool {
        self.0.iter().fold(false, |right, key| {
            right | hmac::verify(key, body, &signature.0).is_ok()
        })
    }
}

impl fmt::Debug for AppSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppSecrets({})", self.0.len())
    }
}

/// What a request claims to be its signature: well formed, right or wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signature([u8; SIGNATURE_LEN]);

impl Signature {
    /// Reads the signature from the headers of its name; `None` unless there is one, in the sender's form.
    pub(super) fn claimed(headers: &GetAll<'_, HeaderValue>) -> Option<Self> {
        let mut headers = headers.iter();
        match (headers.next(), headers.next()) {
            (Some(header), None) => signature(header.as_bytes()).map(Self),
            _ => None,
        }
    }
}

/// Signs a body as the API does, in the form of its header `X-Hub-Signature-256`: for tools and
/// tests that stand in for it.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&Key::new(HMAC_SHA256, secret.as_bytes()), body);
    format!("sha256={}", hex(tag.as_ref()))
}

/// Bytes as lowercase hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Decodes `sha256=` and 64 lowercase hex digits.
fn signature(header: &[u8]) -> Option<[u8; SIGNATURE_LEN]> {
    let digits = header.strip_prefix(b"sha256=")?;
    if digits.len() != 2 * SIGNATURE_LEN {
        return None;
    }
    let mut bytes = [0; SIGNATURE_LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |byte, digit| {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(byte << 4 | value)
        })?;
    }
    Some(bytes)
}

/// The token that the API shows when it is given the webhook's address. `Debug` hides it.
#[derive(Clone)]
pub struct VerifyToken {
    key: Key,
    tag: hmac::Tag,
}

impl VerifyToken {
    /// Keeps a token.
    ///
    /// # Errors
    /// [`InvalidSecret`] for an empty one.
    pub fn new(token: &str) -> Result<Self, InvalidSecret> {
        if token.is_empty() {
            return Err(InvalidSecret::Missing);
        }
        // Comparing tags under a random key leaks nothing about the token through timing.
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| InvalidSecret::NoRandomness)?;
        let tag = hmac::sign(&key, token.as_bytes());
        Ok(Self { key, tag })
    }

    pub(super) fn is(&self, token: &str) -> bool {
        hmac::verify(&self.key, token.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for VerifyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const BODY: &[u8] = br#"{"object":"instagram","entry":[]}"#;

    fn verifies(secrets: &str, headers: &[&str], body: &[u8]) -> bool {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append("x-hub-signature-256", header.parse().unwrap());
        }
        let secrets = AppSecrets::parse(secrets).unwrap();
        let claimed = Signature::claimed(&map.get_all("x-hub-signature-256"));
        claimed.is_some_and(|signature| secrets.verify(signature, body))
    }

    /// The known answer of HMAC-SHA256 (RFC 4231, case 2): ours is the sender's algorithm.
    #[test]
    fn known_signature_verifies() {
        let header = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(verifies("Jefe", &[header], b"what do ya want for nothing?"));
    }

    /// Only one signature in the sender's own form, of these very bytes, counts.
    #[test]
    fn anything_but_one_exact_signature_is_refused() {
        let good = sign("s", BODY);
        assert!(verifies("s", &[&good], BODY));
        let mut flipped = BODY.to_vec();
        flipped[5] ^= 1;
        assert!(!verifies("s", &[&good], &flipped));
        assert!(!verifies("s", &[&good], &BODY[1..]));
        assert!(!verifies("other", &[&good], BODY));
        assert!(!verifies("s", &[], BODY));
        assert!(!verifies("s", &[&good, &good], BODY));
        let hex = good.strip_prefix("sha256=").unwrap();
        for header in [
            hex.to_owned(),
            format!("SHA256={hex}"),
            format!("sha1={hex}"),
            format!("sha256={}", hex.to_uppercase()),
            format!("sha256={}", &hex[2..]),
            format!("sha256={hex}00"),
            format!("sha256={hex},sha256={hex}"),
            format!("sha256={}zz", &hex[2..]),
            format!("sha256= {}", &hex[1..]),
            "sha256=".to_owned(),
            String::new(),
        ] {
            assert!(!verifies("s", &[&header], BODY), "{header}");
        }
        let zeros = format!("sha256={}", "0".repeat(64));
        assert!(!verifies("s", &[&zeros], BODY));
    }

    /// While a secret is replaced, the sender may sign with either.
    #[test]
    fn every_secret_of_the_list_counts() {
        for secret in ["old", "new"] {
            assert!(verifies("old, new", &[&sign(secret, BODY)], BODY));
        }
        assert!(!verifies("old, new", &[&sign("old, new", BODY)], BODY));
        for (text, error) in [
            ("", InvalidSecret::Missing),
            (" ", InvalidSecret::Missing),
            ("a,,b", InvalidSecret::EmptyPart),
            ("a,", InvalidSecret::EmptyPart),
        ] {
            assert_eq!(AppSecrets::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secrets = AppSecrets::parse("canary,canary2").unwrap();
        let token = VerifyToken::new("canary").unwrap();
        assert!(!format!("{secrets:?} {token:?}").contains("canary"));
        assert!(token.is("canary") && !token.is("canary ") && !token.is(""));
    }
}
