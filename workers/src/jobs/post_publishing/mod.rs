//! Publishing a scheduled post: an image, a carousel, a reel or a story. A retry never publishes
//! twice: each container is written into the job's data before anything is done with it, each
//! job publishes at most one container, whose status shows whether it was published.
//!
//! Keys in Redis besides the queue's own, all with a time to live:
//!
//! | key | what it holds | by |
//! |---|---|---|
//! | `publish:container:{jobId}@{timestamp}` | the one container of the job that may be published | [`JobProgressStore`] |
//! | `publish:media:{mediaId}` | the job that has published this post of an account | [`JobProgressStore`] |
//! | `notified:{jobId}@{timestamp}:{published,failed}` | that the user was notified | [`Notifier`](crate::notify::Notifier) |
//! | `ratelimit:hold:graph.{account,publishing}.{accountId}`, `ratelimit:hold:graph.application` | that no request may be made until then | [`Cooldowns`](crate::graph::Cooldowns) |
//!
//! Each job is a post of its own: a backend that may add one twice gives it an id made of the
//! post's, such as `post-17`: while that job is kept, adding it again changes nothing.
//!
//! How it behaves where there is a choice:
//!
//! - **An expired token** (190) fails each of the account's posts at once, with one request each.
//!   There is no hold: it would delay the notices of the other posts, and publish them late once
//!   the account is connected again.
//! - **A missing token** postpones a post without using an attempt, for an hour by default: the seller may be
//!   connecting the account. So does a token that cannot be used for a reason of the operator's, such as one of
//!   the other login, for as long as limits may; no seller is asked to reconnect because of it.
//! - **Limits** postpone a post without using an attempt, for 24 hours at most, and hold its account for
//!   all workers; other accounts go on. The application's limit holds every account; a 429
//!   that does not name its limit holds the account of the request.
//! - **A request to publish without an answer, or refused although it may have been executed** (4/2207051,
//!   100/33, 506), puts the post in doubt. The container's status and the account's own posts are looked at first.
//!   Without an answer the request is repeated once it cannot be on its way any more; before a failed attempt or a
//!   refusal is final the post is looked for during 10 minutes. A post in the account is taken for this one if
//!   it is the only one with its caption since its container was made and no other job's; one with another
//!   caption leaves the doubt. So does a refusal of the repeated request, while the first is in doubt. What stays in doubt is told as
//!   `in_doubt`, never as refused. A crash of the worker uses no attempt.
//! - **A container that the API does not show** (100/33) is waited for during 2 minutes and then used without its
//!   status: publishing it says by itself that it is not ready or does not exist.
//! - **A container that is not found when it is published** (24/2207008) is published again after 30 and 60
//!   seconds, and then replaced by the next attempt.
//! - **The user** gets one notice per job that its post is published, and one that it has failed for
//!   good, on the channel `notify:{userId}`, as a [`PostNotice`]. One script
//!   claims and publishes it. A failure is stored in the job's data first, so that a run after a crash
//!   ends as the notice said. A worker that has lost the job's lock can neither store nor report a
//!   failure of it. [`watch_failures`] reports failures outside the handler.

mod error;
mod follow;
mod handler;
mod limits;
mod lookup;
mod notice;
mod plan;
mod post;
mod progress;
mod progress_store;
mod publish_step;
mod steps;

pub use error::PublishError;
pub use follow::watch_failures;
pub use handler::{Publisher, handle, options};
pub use limits::PublishLimits;
pub use notice::{NoticeCode, PostNotice};
pub use plan::{InvalidPost, Plan};
pub use post::{ChildMedia, MediaType, PostPublishing, PublishedPost};
pub use progress::{IfUnpublished, Publication, PublishRequest, TokenWait, Verdict};
pub use progress_store::{JobProgressStore, ProgressStore};
pub use steps::{Step, publish};

/// The queue's name.
pub const QUEUE: &str = "post-publishing";
