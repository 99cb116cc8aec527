//! Sessions behind the `tower-sessions` middleware, in an axum application.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::{Request, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use oxbull::kv::session::{SessionStore, Sessions, UserId};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_sessions::cookie::time;
use tower_sessions::session::{Id, Record};
use tower_sessions::{Expiry, Session, SessionManagerLayer};

use crate::vault::{keyring, rotated};

const HOUR: i64 = 3_600_000;

type Answer<T = String> = Result<T, StatusCode>;

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Counts the visits of any visitor.
async fn visit(session: Session) -> Answer {
    let visits = session
        .get::<u32>("visits")
        .await
        .map_err(failed)?
        .unwrap_or(0)
        + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    Ok(visits.to_string())
}

async fn login(session: Session, Path(user): Path<String>) -> Answer<()> {
    session.cycle_id().await.map_err(failed)?;
    session.insert("user_id", user).await.map_err(failed)
}

async fn who(session: Session) -> Answer {
    let user = session.get::<String>("user_id").await.map_err(failed)?;
    user.ok_or(StatusCode::UNAUTHORIZED)
}

async fn logout(session: Session) -> Answer<impl IntoResponse> {
    session.flush().await.map_err(failed)
}

fn app(store: SessionStore) -> Router {
    let expiry = Expiry::OnInactivity(time::Duration::hours(1));
    Router::new()
        .route("/visit", get(visit))
        .route("/login/{user}", get(login))
        .route("/who", get(who))
        .route("/logout", get(logout))
        .layer(SessionManagerLayer::new(store).with_expiry(expiry))
}

fn store(sessions: Sessions) -> SessionStore {
    SessionStore::new(sessions).user_field("user_id")
}

async fn start() -> TestResult<(Fixture, SessionStore)> {
    let fixture = Fixture::start().await?;
    let sessions = Sessions::builder(&fixture.client)
        .sealed_with(keyring())
        .build()?;
    Ok((fixture, store(sessions)))
}

/// A browser with one cookie.
struct Browser {
    app: Router,
    cookie: Option<String>,
}

impl Browser {
    fn new(store: &SessionStore) -> Self {
        Self {
            app: app(store.clone()),
            cookie: None,
        }
    }

    async fn get(&mut self, path: &str) -> TestResult<(StatusCode, String)> {
        let mut request = Request::get(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let response = self
            .app
            .clone()
            .oneshot(request.body(Body::empty())?)
            .await?;
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            let pair = set.to_str()?.split(';').next().unwrap_or_default();
            self.cookie = Some(pair.to_owned()).filter(|pair| !pair.ends_with('='));
        }
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 16).await?;
        Ok((status, String::from_utf8(body.to_vec())?))
    }
}

fn ok(body: &str) -> (StatusCode, String) {
    (StatusCode::OK, body.to_owned())
}

fn out() -> (StatusCode, String) {
    (StatusCode::UNAUTHORIZED, String::new())
}

/// A visitor's data comes with the cookie; Redis sees neither the cookie nor the data.
#[tokio::test]
async fn visitor_is_recognised_by_the_cookie() -> TestResult {
    let (fixture, store) = start().await?;
    let (mut one, mut two) = (Browser::new(&store), Browser::new(&store));
    assert_eq!(one.get("/visit").await?, ok("1"));
    assert_eq!(one.get("/visit").await?, ok("2"));
    assert_eq!(two.get("/visit").await?, ok("1"));

    let cookie = one.cookie.clone().ok_or("no cookie")?;
    let secret = cookie.split('=').nth(1).unwrap_or_default();
    let keys = fixture.shown(&["KEYS", "*"]).await?;
    assert!(
        keys.contains("session:web:") && !keys.contains(secret),
        "{keys}"
    );
    assert_eq!(fixture.calls("scan").await?, 0);
    Ok(())
}

/// The id that a visitor had before the login is worth nothing after it.
#[tokio::test]
async fn login_changes_the_cookie() -> TestResult {
    let (_stage, store) = start().await?;
    let mut browser = Browser::new(&store);
    browser.get("/visit").await?;
    let mut planted = Browser {
        app: app(store.clone()),
        cookie: browser.cookie.clone(),
    };
    browser.get("/login/7").await?;
    assert_ne!(browser.cookie, planted.cookie);
    assert_eq!(browser.get("/who").await?, ok("7"));
    assert_eq!(browser.get("/visit").await?, ok("2"));
    assert_eq!(planted.get("/who").await?, out());

    browser.get("/logout").await?;
    assert_eq!(browser.get("/who").await?, out());
    let mut made_up = Browser {
        app: app(store),
        cookie: Some("id=AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
    };
    assert_eq!(made_up.get("/visit").await?, ok("1"));
    assert_ne!(
        made_up.cookie.as_deref(),
        Some("id=AAAAAAAAAAAAAAAAAAAAAA"),
        "never adopted"
    );
    Ok(())
}

/// Logging out everywhere, listing and the limit hold for the middleware's sessions too.
#[tokio::test]
async fn user_of_the_middleware_is_known_by_the_index() -> TestResult {
    let fixture = Fixture::start().await?;
    let two = NonZeroU32::new(2).ok_or("two")?;
    let sessions = Sessions::builder(&fixture.client)
        .sealed_with(keyring())
        .max_per_user(two)
        .build()?;
    let store = store(sessions);
    let user = UserId::new("7")?;
    let mut browsers = [
        Browser::new(&store),
        Browser::new(&store),
        Browser::new(&store),
    ];
    for browser in &mut browsers {
        browser.get("/login/7").await?;
        fixture.client.clock().advance(Duration::from_secs(1));
    }
    assert_eq!(
        browsers[0].get("/who").await?,
        out(),
        "the third made it leave"
    );
    assert_eq!(browsers[1].get("/who").await?, ok("7"));
    let listed = store.sessions().list(&user).await?;
    assert_eq!(listed.len(), 2);
    assert!(store.end(listed[0].id()).await?);
    assert_eq!(store.sessions().list(&user).await?.len(), 1);

    let mut other = Browser::new(&store);
    other.get("/login/8").await?;
    assert_eq!(store.sessions().destroy_all(&user).await?, 1);
    assert_eq!(browsers[1].get("/who").await?, out());
    assert_eq!(browsers[2].get("/who").await?, out());
    assert_eq!(other.get("/who").await?, ok("8"));

    let mut odd = Browser::new(&store);
    assert_eq!(
        odd.get("/login/a:b").await?.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    Ok(())
}

/// The index follows what the session says about its user.
#[tokio::test]
async fn index_follows_the_user() -> TestResult {
    use tower_sessions::SessionStore as _;
    let (_stage, store) = start().await?;
    let mut record = record(&[]);
    store.create(&mut record).await?;
    let (seven, eight) = (UserId::new("7")?, UserId::new("8")?);
    for (user, listed) in [(Some("7"), (1, 0)), (Some("8"), (0, 1)), (None, (0, 0))] {
        record.data.insert("user_id".to_owned(), json!(user));
        store.save(&record).await?;
        let sevens = store.sessions().list(&seven).await?.len();
        assert_eq!(
            (sevens, store.sessions().list(&eight).await?.len()),
            listed,
            "{user:?}"
        );
    }
    assert!(store.load(&record.id).await?.is_some());
    Ok(())
}

/// A session that the middleware is about to store, for an hour.
fn record(data: &[(&str, Value)]) -> Record {
    let data = data
        .iter()
        .map(|(field, value)| ((*field).to_owned(), value.clone()));
    Record {
        id: Id::default(),
        data: data.collect(),
        expiry_date: time::OffsetDateTime::now_utc() + time::Duration::hours(1),
    }
}

/// A request that was on its way does not bring a destroyed session back.
#[tokio::test]
async fn late_save_does_not_revive() -> TestResult {
    use tower_sessions::SessionStore as _;
    let (fixture, store) = start().await?;
    let mut record = record(&[("user_id", json!("7"))]);
    store.create(&mut record).await?;
    assert_eq!(
        store.load(&record.id).await?.map(|found| found.data),
        Some(record.data.clone())
    );
    assert_eq!(store.sessions().destroy_all(&UserId::new("7")?).await?, 1);
    store.save(&record).await?;
    assert!(store.load(&record.id).await?.is_none());
    assert_eq!(
        fixture.server.int(&["DBSIZE"]).await?,
        1,
        "the queue's settings only"
    );
    Ok(())
}

/// The middleware decides when an unused session ends; no use brings it past the absolute end.
#[tokio::test]
async fn session_of_the_middleware_ends() -> TestResult {
    use tower_sessions::SessionStore as _;
    let (fixture, store) = start().await?;
    let now = fixture.client.clock().now();
    let mut record = record(&[("visits", json!(1))]);
    store.create(&mut record).await?;
    fixture
        .client
        .clock()
        .advance(Duration::from_secs(3600 - 30));
    assert!(store.load(&record.id).await?.is_some());
    record.expiry_date += time::Duration::days(30);
    store.save(&record).await?;
    let loaded = store.load(&record.id).await?.ok_or("no session")?;
    let ends = i128::from(now.as_millis() + 12 * HOUR);
    let at = loaded.expiry_date.unix_timestamp_nanos() / 1_000_000;
    assert!((ends..ends + 30_000).contains(&at), "{at} {ends}");
    fixture
        .client
        .clock()
        .advance(Duration::from_secs(12 * 3600));
    assert!(store.load(&record.id).await?.is_none());
    Ok(())
}

/// A rotation of keys leaves a session where it is, in the index too.
#[tokio::test]
async fn session_of_the_middleware_moves_to_the_active_key() -> TestResult {
    let (fixture, old) = start().await?;
    let mut browser = Browser::new(&old);
    browser.get("/login/7").await?;
    let sessions = Sessions::builder(&fixture.client)
        .sealed_with(rotated())
        .build()?;
    browser.app = app(store(sessions.clone()));
    assert_eq!(browser.get("/who").await?, ok("7"));
    let listed = sessions.list(&UserId::new("7")?).await?;
    let key = format!(
        "session:web:{}",
        listed.first().ok_or("not in the index")?.id()
    );
    let data = fixture.server.text(&["HGET", &key, "data"]).await?;
    assert!(data.is_some_and(|data| data.starts_with("v1.k2.")));
    assert_eq!(sessions.destroy_all(&UserId::new("7")?).await?, 1);
    assert_eq!(browser.get("/who").await?, out());
    Ok(())
}

/// Without Redis the application answers with an error, and lets nobody in.
#[tokio::test]
async fn missing_server_lets_nobody_in() -> TestResult {
    let (fixture, store) = start().await?;
    let mut browser = Browser::new(&store);
    browser.get("/login/7").await?;
    fixture.server.kill_hard();
    assert_eq!(
        browser.get("/who").await?.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    Ok(())
}
