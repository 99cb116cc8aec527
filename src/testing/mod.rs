//! Tests of an application, without Redis (feature `testing`).
//!
//! Depend on the feature in tests only, so that nothing of this ships:
//!
//! ```toml
//! [dev-dependencies]
//! oxbull = { version = "0.1", features = ["testing"] }
//! ```
//!
//! The feature also lets tests set and move a client's [`Clock`](crate::Clock).

use crate::client::Client;

/// Makes a client without a server: its clock runs, and every request fails with
/// [`Error::Closed`](crate::Error::Closed), as after [`Client::close`]. It needs no runtime.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use oxbull::{Error, testing};
///
/// let client = testing::unconnected_client();
/// let answer = client.kv().get_text("greeting").await;
/// assert!(matches!(answer, Err(Error::Closed)));
/// # }
/// ```
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the default configuration is valid: this module's tests make such a client"
)]
pub fn unconnected_client() -> Client {
    Client::unconnected().expect("the default configuration is valid")
}
