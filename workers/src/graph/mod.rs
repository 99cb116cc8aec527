//! The Instagram Graph API as this application uses it: typed requests, typed failures.
//!
//! A [`GraphClient`] holds the connections; [`GraphClient::account`] narrows it to one account and
//! its token, and has one method per request. Every request has a deadline. The token travels in
//! the `Authorization` header only: it is in no URL, no log line and no `Debug` output.
//!
//! ```no_run
//! use oxbull_workers::graph::{AccessToken, AccountId, GraphClient, GraphOptions, NewContainer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = GraphClient::new(&GraphOptions::new("https://graph.instagram.com/v23.0"))?;
//! let account = AccountId::new("17841400000000001")?;
//! let token = AccessToken::new("secret");
//! let container = graph
//!     .account(&account, &token)
//!     .create_container(&NewContainer::image("https://cdn.example/shoes.jpg"))
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod codes;
mod cooldowns;
mod decision;
mod error;
mod ids;
mod insights;
mod login;
mod media;
#[cfg(feature = "analytics")]
mod refusal;
mod settings;
mod token;
mod token_file;
mod token_store;
mod tokens;
mod usage;

pub use client::{AccountApi, GraphClient, GraphOptions, RefreshedToken, SetupError};
pub use codes::decision_table;
pub use cooldowns::Cooldowns;
pub(crate) use cooldowns::{BLOCK_PAUSE, DEFAULT_COOLDOWN, SHORTEST_COOLDOWN};
pub use decision::{Decision, Pause, Remedy, Stage};
pub use error::{ApiError, Failure, GraphError, LimitScope};
pub use ids::{AccountId, ContainerId, InvalidId, MediaId};
pub use insights::{
    AccountOverview, Insights, LARGEST_PAGE, PostPage, PostQuery, PostRecord, Profile,
};
pub use login::GraphLogin;
pub use media::{ContainerState, ContainerStatus, Media, NewContainer, PublishingQuota};
#[cfg(feature = "analytics")]
pub(crate) use refusal::Refused;
pub use settings::{GraphSettings, GraphSettingsError, HostSettings, TokenSources};
pub use token::{AccessToken, TokenKind};
pub use token_file::{TokenFile, TokenFileError};
pub use token_store::{StoredToken, TokenEntry, TokenStore, TokenStoreError, UnreadableToken};
pub(crate) use tokens::wait_for_token;
pub use tokens::{AccessTokens, TokenError};
pub use usage::{Throttle, UsageMeter};
