//! The HTTP side: queues webhook deliveries, reports its health, and serves cached numbers.
//!
//! | route | answer |
//! |---|---|
//! | `GET /instagram/webhooks` | the challenge, for the right `hub.verify_token`; else 403 |
//! | `POST /instagram/webhooks` | 200 once the delivery is stored, or was before |
//! | `GET /api/analytics/overview/{accountId}` | an account's numbers, through the API cache; 409 when it has to be connected again |
//! | `GET /health` | `{"redis":"up"}`, or 503 with `{"redis":"down"}`, also while Redis refuses writes |
//! | `GET /ready` | 200 while deliveries can be taken, else 503 |
//! | `GET /live` | 200 |
//! | `GET /metrics` | numbers, in the text format of Prometheus |
//!
//! A delivery goes through these steps, each of which may refuse it, and nothing of a refused one
//! is logged or stored:
//!
//! 1. whether it has one signature, of the right form: 401, and its body is not read;
//! 2. its size, while it is read, and the time that takes: 413, 408; compressed bodies: 415; without
//!    room for one more of those that are large: 503 with `Retry-After`;
//! 3. its signature over the bytes as they came, with any of the [`AppSecrets`]: 401, the same
//!    whether it is wrong, missing or given twice;
//! 4. whether it is JSON: 400;
//! 5. its age, by the time of its entries: 403 when older than
//!    [`GatewayOptions::max_age`], since repeats of a delivery are known for longer than that;
//! 6. storing it: 503 with `Retry-After` when Redis does not confirm it in time. Then either nothing of
//!    it is stored, or its job is in the queue and a repeat is a duplicate.
//!
//! The job's id is the hash of the body, so a repeat is never a second job. A
//! delivery that the worker cannot decode is queued all the same: its job fails with the reason.
//!
//! The API is cached for each user by the session in the cookie `__Host-session`, where the
//! gateway has [`sessions`](GatewayOptions::sessions) to verify it with, else for `anonymous`.
//! The numbers are the same for all users; authorisation is up to the proxy that exposes the route.
//!
//! `/metrics`, `/ready`, `/live` and the API are for the inner network: let the proxy in front of the
//! gateway pass `/instagram/webhooks` alone.

mod body;
mod health;
mod intake;
mod metrics;
mod options;
mod overview;
mod routes;
mod secrets;
mod server;
mod visitor;
mod webhooks;

pub use intake::job_id;
pub use options::GatewayOptions;
pub use overview::Overviews;
pub use secrets::{AppSecrets, InvalidSecret, VerifyToken, sign};
pub use server::{Gateway, GatewayError};
