//! The HTTP side of the simulator.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;

use super::fields::Fields;
use super::gates::Moment;
use super::insights::PageWish;
use super::replies;
use super::shelf::NewContainer;
use super::world::{Treatment, World};
use super::{Counters, Fault, Operation, PublishedPost, VERSION};

type Shared = State<Arc<World>>;

pub(super) fn router(world: Arc<World>) -> Router {
    let api = Router::new()
        .route("/{id}", get(object))
        .route("/{id}/media", post(create_container).get(recent_media))
        .route("/{id}/media_publish", post(publish))
        .route("/{id}/content_publishing_limit", get(publishing_quota))
        .route("/{id}/stories", get(recent_stories))
        .route("/{id}/insights", get(insights));
    Router::new()
        .nest(&format!("/{VERSION}"), api)
        .route("/_simulator/faults", post(arm).delete(disarm))
        .route("/_simulator/counters", get(counters))
        .route("/_simulator/published", get(published))
        .with_state(world)
}

/// Who asks: the account, and whether the request is authorized as it should be.
struct Caller {
    account: String,
    authorized: bool,
    token_in_url: bool,
}

impl Caller {
    fn new(account: String, headers: &HeaderMap, query: Option<&str>) -> Self {
        let authorized = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|token| !token.is_empty());
        Self {
            account,
            authorized,
            token_in_url: query.is_some_and(|query| query.contains("access_token")),
        }
    }
}

/// Runs one request of the API: holds it at its gate, checks the caller, applies faults and rates,
/// then does it.
async fn serve(
    world: &World,
    operation: Operation,
    caller: Caller,
    act: impl FnOnce(&Treatment) -> Response,
) -> Response {
    let mut gate = world.gate(&caller.account);
    if let Some(gate) = &mut gate {
        gate.pass(Moment::Before).await;
    }
    let response = answer(world, operation, caller, act).await;
    if let Some(gate) = &mut gate {
        gate.pass(Moment::After).await;
    }
    response
}

async fn answer(
    world: &World,
    operation: Operation,
    caller: Caller,
    act: impl FnOnce(&Treatment) -> Response,
) -> Response {
    if caller.token_in_url {
        return replies::error(400, 100, None, "tokens are accepted in the header only");
    }
    if !caller.authorized {
        return replies::error(401, 190, None, "an access token is required");
    }
    let treatment = match world.admit(operation, &caller.account) {
        Ok(treatment) => treatment,
        Err(refusal) => return *refusal,
    };
    if !treatment.slow.is_zero() {
        tokio::time::sleep(treatment.slow).await;
    }
    let mut response = act(&treatment);
    if treatment.lose_reply {
        return replies::lost();
    }
    World::mark_usage(&mut response, &treatment, &caller.account);
    response
}

async fn create_container(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(content): Json<NewContainer>,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&world, Operation::CreateContainer, caller, |_| {
        world.create_container(&account, content)
    })
    .await
}

#[derive(Deserialize)]
struct Publication {
    creation_id: String,
}

async fn publish(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(publication): Json<Publication>,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&world, Operation::Publish, caller, |_| {
        world.publish(&account, &publication.creation_id)
    })
    .await
}

/// Whoever asks for numbers gets the posts that have them, those of earlier times included.
async fn recent_media(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    Query(fields): Query<Fields>,
    Query(page): Query<PageWish>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    if fields.has("like_count") {
        return serve(&world, Operation::PostNumbers, caller, |_| {
            world.library(&account).page(&fields, &page)
        })
        .await;
    }
    serve(&world, Operation::RecentMedia, caller, |_| {
        world.latest(&account, false)
    })
    .await
}

async fn recent_stories(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&world, Operation::RecentStories, caller, |_| {
        world.latest(&account, true)
    })
    .await
}

async fn publishing_quota(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&world, Operation::PublishingQuota, caller, |_| {
        world.publishing_quota(&account)
    })
    .await
}

/// `GET /{id}` reads a container, a post or an account, whichever has the id.
async fn object(
    State(world): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    Query(fields): Query<Fields>,
    headers: HeaderMap,
) -> Response {
    let (operation, account) = match world.owner(&id) {
        (Operation::Profile, account) if fields.has("insights") || fields.has("media") => {
            (Operation::Overview, account)
        }
        owner => owner,
    };
    let caller = Caller::new(account, &headers, query.as_deref());
    serve(&world, operation, caller, |treatment| match operation {
        Operation::ContainerStatus => world.container_status(&id, treatment.fate.clone()),
        Operation::Permalink => world.media(&id),
        _ => world.library(&id).account(&fields),
    })
    .await
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    metric: String,
}

async fn insights(
    State(world): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    Query(metrics): Query<Metrics>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&world, Operation::Insights, caller, |_| {
        let metrics: Vec<_> = metrics.metric.split(',').collect();
        world.library(&account).insights(&metrics)
    })
    .await
}

async fn arm(State(world): Shared, Json(fault): Json<Fault>) -> StatusCode {
    world.arm(fault);
    StatusCode::NO_CONTENT
}

async fn disarm(State(world): Shared) -> StatusCode {
    world.disarm();
    StatusCode::NO_CONTENT
}

async fn counters(State(world): Shared) -> Json<Counters> {
    Json(world.counters())
}

async fn published(State(world): Shared) -> Json<Vec<PublishedPost>> {
    Json(world.published())
}
