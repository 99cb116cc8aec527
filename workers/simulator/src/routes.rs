//! The HTTP side of the simulator.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;

use super::breakpoints::Moment;
use super::fields::Fields;
use super::insights::PageQuery;
use super::replies;
use super::simulation::{Simulation, Treatment};
use super::store::NewContainer;
use super::{Counters, Fault, Operation, PublishedPost, VERSION};

type Shared = State<Arc<Simulation>>;

pub(super) fn router(simulation: Arc<Simulation>) -> Router {
    let api = Router::new()
        .route("/{id}", get(object))
        .route("/{id}/media", post(create_container).get(recent_media))
        .route("/{id}/media_publish", post(publish))
        .route("/{id}/content_publishing_limit", get(publishing_quota))
        .route("/{id}/stories", get(recent_stories))
        .route("/{id}/insights", get(insights));
    Router::new()
        .nest(&format!("/{VERSION}"), api)
        .route("/refresh_access_token", get(refresh_token))
        .route("/_simulator/faults", post(arm).delete(disarm))
        .route("/_simulator/counters", get(counters))
        .route("/_simulator/published", get(published))
        .with_state(simulation)
}

/// Who asks: the account, and whether the request is authorized as it should be.
struct Caller {
    account: String,
    token: Option<String>,
    token_in_url: bool,
}

impl Caller {
    fn new(account: String, headers: &HeaderMap, query: Option<&str>) -> Self {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .filter(|token| !token.is_empty());
        Self {
            account,
            token: token.map(str::to_owned),
            token_in_url: query.is_some_and(|query| query.contains("access_token")),
        }
    }
}

/// Runs one request of the API: pauses it at its breakpoint, checks the caller, applies faults and rates,
/// then does it.
async fn serve(
    simulation: &Simulation,
    operation: Operation,
    caller: Caller,
    act: impl FnOnce(&Treatment) -> Response,
) -> Response {
    let mut breakpoint = simulation.breakpoint(&caller.account);
    if let Some(breakpoint) = &mut breakpoint {
        breakpoint.pass(Moment::Before).await;
    }
    let response = answer(simulation, operation, caller, act).await;
    if let Some(breakpoint) = &mut breakpoint {
        breakpoint.pass(Moment::After).await;
    }
    response
}

async fn answer(
    simulation: &Simulation,
    operation: Operation,
    caller: Caller,
    act: impl FnOnce(&Treatment) -> Response,
) -> Response {
    if caller.token_in_url {
        return replies::error(400, 100, None, "tokens are accepted in the header only");
    }
    let Some(token) = &caller.token else {
        return replies::error(401, 190, None, "an access token is required");
    };
    let mut treatment = match simulation.admit(operation, &caller.account) {
        Ok(treatment) => treatment,
        Err(refusal) => return *refusal,
    };
    let checked = simulation.tokens(|tokens| tokens.check(&caller.account, token));
    if let Err(refusal) = checked {
        return *refusal;
    }
    if !treatment.slow.is_zero() {
        tokio::time::sleep(treatment.slow).await;
    }
    let mut response = act(&treatment);
    if treatment.lose_reply {
        return replies::lost();
    }
    if let Some((_, refusal)) = treatment.executed.take() {
        response = refusal;
    }
    Simulation::mark_usage(&mut response, &treatment, &caller.account);
    response
}

async fn create_container(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(content): Json<NewContainer>,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&simulation, Operation::CreateContainer, caller, |_| {
        simulation.create_container(&account, content)
    })
    .await
}

#[derive(Deserialize)]
struct Publication {
    creation_id: String,
}

async fn publish(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(publication): Json<Publication>,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&simulation, Operation::Publish, caller, |treatment| {
        let looks = treatment.executed.as_ref().map_or(0, |(looks, _)| *looks);
        simulation.publish(&account, &publication.creation_id, looks)
    })
    .await
}

/// A request for insights lists the posts that have them, earlier ones included.
async fn recent_media(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    Query(fields): Query<Fields>,
    Query(page): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    if fields.has("like_count") {
        return serve(&simulation, Operation::PostNumbers, caller, |_| {
            simulation.library(&account).page(&fields, &page)
        })
        .await;
    }
    serve(&simulation, Operation::RecentMedia, caller, |_| {
        simulation.latest(&account, false)
    })
    .await
}

async fn recent_stories(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&simulation, Operation::RecentStories, caller, |_| {
        simulation.latest(&account, true)
    })
    .await
}

async fn publishing_quota(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&simulation, Operation::PublishingQuota, caller, |_| {
        simulation.publishing_quota(&account)
    })
    .await
}

/// `GET /{id}` reads a container, a post or an account, whichever has the id.
async fn object(
    State(simulation): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    Query(fields): Query<Fields>,
    headers: HeaderMap,
) -> Response {
    let (operation, account) = match simulation.owner(&id) {
        (Operation::Profile, account) if fields.has("insights") || fields.has("media") => {
            (Operation::Overview, account)
        }
        owner => owner,
    };
    let caller = Caller::new(account, &headers, query.as_deref());
    serve(
        &simulation,
        operation,
        caller,
        |treatment| match operation {
            Operation::ContainerStatus => {
                simulation.container_status(&id, treatment.outcome.clone())
            }
            Operation::Permalink => simulation.media(&id),
            _ => simulation.library(&id).account(&fields),
        },
    )
    .await
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    metric: String,
}

async fn insights(
    State(simulation): Shared,
    Path(account): Path<String>,
    RawQuery(query): RawQuery,
    Query(metrics): Query<Metrics>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::new(account.clone(), &headers, query.as_deref());
    serve(&simulation, Operation::Insights, caller, |_| {
        let metrics: Vec<_> = metrics.metric.split(',').collect();
        simulation.library(&account).insights(&metrics)
    })
    .await
}

/// Needs no account: the token says whose it is.
async fn refresh_token(
    State(simulation): Shared,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let mut caller = Caller::new(String::new(), &headers, None);
    let token = simulation.tokens(|tokens| tokens.of_refresh(&query, caller.token.as_deref()));
    let Some(token) = token.filter(|_| query.contains("grant_type=ig_refresh_token")) else {
        return replies::error(400, 100, None, "Missing access_token or grant_type");
    };
    caller.token = Some(token.clone());
    if let Some(owner) = simulation.tokens(|tokens| tokens.owner(&token)) {
        caller.account = owner;
    }
    serve(&simulation, Operation::RefreshToken, caller, |_| {
        simulation.tokens(|tokens| tokens.refresh(&token))
    })
    .await
}

async fn arm(State(simulation): Shared, Json(fault): Json<Fault>) -> StatusCode {
    simulation.arm(fault);
    StatusCode::NO_CONTENT
}

async fn disarm(State(simulation): Shared) -> StatusCode {
    simulation.disarm();
    StatusCode::NO_CONTENT
}

async fn counters(State(simulation): Shared) -> Json<Counters> {
    Json(simulation.counters())
}

async fn published(State(simulation): Shared) -> Json<Vec<PublishedPost>> {
    Json(simulation.published())
}
