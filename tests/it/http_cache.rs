//! The cache layer in axum routers, on real servers. Two clients stand for two processes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures::future::join_all;
use futures::stream;
use oxbull::Timestamp;
use oxbull::client::{Client, ClientConfig};
use oxbull::http::{CacheLayer, CacheOptions, CacheTags};
use oxbull_testkit::{Proxy, RedisServer, Rule, eventually};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tracing::Level;

use crate::logs::Logs;

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where the clocks of the tests stand.
const START: i64 = 1_795_647_600_000;
/// Bounds liveness only.
const SOON: Duration = Duration::from_secs(30);
/// An answer of Redis is waited for as long as it takes, but where a test is about that.
fn patient() -> CacheOptions {
    CacheOptions::default()
        .deadline(SOON)
        .wait(SOON)
        .lease(SOON)
}

/// Whom the tests' requests are from: a header, as nothing here logs anybody in.
fn by_header(head: &axum::http::request::Parts) -> Option<String> {
    Some(head.headers.get("x-user")?.to_str().ok()?.to_owned())
}

/// A process: a client, its cache layer, and how often its handler ran.
struct App {
    client: Client,
    layer: CacheLayer,
    router: Router,
    runs: Arc<AtomicUsize>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |v| v.to_str().unwrap_or("odd"))
    }

    fn cache(&self) -> &str {
        self.header("x-cache")
    }
}

impl App {
    /// A handler that answers every path; `handler` gets the number of its run.
    async fn start<F, Fut>(url: &str, options: CacheOptions, handler: F) -> TestResult<Self>
    where
        F: Fn(usize, Request<Body>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send,
    {
        let client = Client::connect(ClientConfig::from_url(url)?).await?;
        client.clock().set(Timestamp::from_millis(START));
        let layer = CacheLayer::new(&client.cache(), options)?;
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let handler = move |request: Request<Body>| {
            let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
            handler(run, request)
        };
        let router = Router::new()
            .route("/{*path}", get(handler.clone()).post(handler))
            .layer(layer.clone());
        Ok(Self {
            client,
            layer,
            router,
            runs,
        })
    }

    async fn send(&self, request: axum::http::request::Builder) -> TestResult<Answer> {
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty())?)
            .await?;
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec())?,
        })
    }

    async fn get(&self, url: &str) -> TestResult<Answer> {
        self.send(Request::get(url)).await
    }

    /// Moves the clock to so many seconds after the start.
    fn later(&self, seconds: i64) {
        let at = Timestamp::from_millis(START + seconds * 1_000);
        self.client.clock().set(at);
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// The number of the run, as JSON.
async fn numbered(run: usize, _: Request<Body>) -> Response {
    (
        [("etag", format!("\"{run}\""))],
        Json(json!({ "run": run })),
    )
        .into_response()
}

/// A cached endpoint is slow once and fast after, and its key is the one other clients compute.
#[tokio::test]
async fn second_request_is_answered_from_the_brief_key() -> TestResult {
    let server = RedisServer::start().await?;
    let app = App::start(&server.url(), patient().user(by_header), numbered).await?;
    let first = app.get("/api/overview/7?b=2&a=1").await?;
    assert_eq!((first.status, first.cache()), (StatusCode::OK, "miss"));
    assert_eq!(first.header("age"), "");
    let second = app.get("/api/overview/7?b=2&a=1").await?;
    assert_eq!((second.status, second.cache()), (StatusCode::OK, "hit"));
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("etag"), "\"1\"");
    assert_eq!(second.header("content-type"), "application/json");
    assert_eq!(second.header("age"), "0");
    assert_eq!(app.runs(), 1);

    let key = "api:GET:/api/overview/7?b=2&a=1:anonymous";
    let stored = server.text(&["GET", key]).await?;
    assert_eq!(
        stored.as_deref(),
        Some(r#"{"run":1}"#),
        "JSON.parse reads it"
    );
    let left = server.int(&["TTL", key]).await?;
    assert!((3_500..=3_600).contains(&left), "{left}");
    assert_eq!(
        server.int(&["DBSIZE"]).await?,
        2,
        "no lock and no copy stays"
    );

    // The query's order is part of the URL, as it is for other clients.
    assert_eq!(app.get("/api/overview/7?a=1&b=2").await?.cache(), "miss");
    app.later(90);
    assert_eq!(
        app.get("/api/overview/7?b=2&a=1").await?.header("age"),
        "90"
    );
    let stats = app.layer.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.stores, stats.errors),
        (2, 2, 2, 0)
    );
    Ok(())
}

/// What a NestJS interceptor stored is a hit here, also over our own older entry.
#[tokio::test]
async fn entries_of_other_clients_are_hits() -> TestResult {
    let server = RedisServer::start().await?;
    let app = App::start(&server.url(), patient(), numbered).await?;
    let key = "api:GET:/a:anonymous";
    server
        .cli(&["SETEX", key, "3600", r#"{"from":"node"}"#])
        .await?;
    let hit = app.get("/a").await?;
    assert_eq!(
        (hit.cache(), hit.body.as_str()),
        ("hit", r#"{"from":"node"}"#)
    );
    assert_eq!(hit.header("content-type"), "application/json");

    app.get("/b").await?;
    server
        .cli(&["SETEX", "api:GET:/b:anonymous", "3600", "[2]"])
        .await?;
    let hit = app.get("/b").await?;
    assert_eq!(
        (hit.cache(), hit.body.as_str(), hit.header("etag")),
        ("hit", "[2]", "")
    );

    // What cannot be an interceptor's is replaced, of whatever type it is.
    server
        .cli(&["SET", "api:GET:/c:anonymous", "{broken"])
        .await?;
    server.cli(&["RPUSH", "api:GET:/d:anonymous", "x"]).await?;
    for path in ["/c", "/d"] {
        assert_eq!(app.get(path).await?.cache(), "miss");
        assert_eq!(app.get(path).await?.cache(), "hit");
    }
    Ok(())
}

/// JSON.parse of an interceptor must never meet what is no JSON, or another request's variant.
#[tokio::test]
async fn bodies_that_others_cannot_read_stay_off_the_brief_key() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match request.uri().path() {
            "/text" => format!("run {run}").into_response(),
            "/lie" => ([("content-type", "application/json")], "{broken").into_response(),
            "/vary" => ([("vary", "accept")], Json(run)).into_response(),
            _ => ([("content-encoding", "br")], Json(run)).into_response(),
        }
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    for path in ["/text", "/lie", "/vary", "/packed"] {
        let key = format!("api:GET:{path}:anonymous");
        server.cli(&["SET", &key, "{older"]).await?;
        let first = app.get(path).await?;
        let second = app.get(path).await?;
        assert_eq!(second.cache(), "hit", "{path}");
        assert_eq!(second.body, first.body);
        assert_eq!(second.header("content-type"), first.header("content-type"));
        assert_eq!(server.int(&["EXISTS", &key]).await?, 0, "{path}");
    }
    let other = app
        .send(Request::get("/vary").header("accept", "text/html"))
        .await?;
    assert_eq!(other.cache(), "miss");
    let head = app.send(Request::head("/text")).await?;
    assert_eq!(head.cache(), "miss", "HEAD has entries of its own");
    let head = app.send(Request::head("/text")).await?;
    assert_eq!((head.cache(), head.body.as_str()), ("hit", ""));
    assert!(head.header("content-length") != "0");
    Ok(())
}

/// What is one user's is never another's, and never everybody's.
#[tokio::test]
async fn users_are_apart() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |_: usize, request: Request<Body>| async move {
        let user = request.headers().get("x-user").cloned();
        Json(user.map(|user| user.to_str().unwrap().to_owned())).into_response()
    };
    let app = App::start(&server.url(), patient().user(by_header), handler).await?;
    let by = |user: &str| Request::get("/me").header("x-user", user);
    for user in ["7", "8"] {
        assert_eq!(app.send(by(user)).await?.cache(), "miss");
        let hit = app.send(by(user)).await?;
        assert_eq!(hit.cache(), "hit");
        assert_eq!(hit.body, format!("\"{user}\""));
    }
    assert_eq!(app.get("/me").await?.body, "null");
    assert_eq!(
        server
            .int(&["EXISTS", "api:GET:/me:7", "api:GET:/me:anonymous"])
            .await?,
        2
    );

    let keys = server.int(&["DBSIZE"]).await?;
    for user in ["anonymous", "a:b", "{7}"] {
        assert_eq!(app.send(by(user)).await?.cache(), "bypass", "{user}");
    }
    for (name, value) in [("authorization", "Bearer t0ken"), ("cookie", "sid=t0ken")] {
        let answer = app.send(Request::get("/me").header(name, value)).await?;
        assert_eq!(answer.cache(), "bypass", "{name}");
    }
    let known = by("7").header("authorization", "Bearer t0ken");
    assert_eq!(app.send(known).await?.cache(), "hit");
    assert_eq!(server.int(&["DBSIZE"]).await?, keys);
    assert_eq!(app.layer.stats().bypassed, 5);
    Ok(())
}

/// Cookies, secrets, errors and other methods' answers are never stored.
#[tokio::test]
async fn responses_for_one_reader_are_not_stored() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        let json = Json(run);
        match request.uri().path() {
            "/cookie" => ([("set-cookie", "sid=t0ken")], json).into_response(),
            "/no-store" => ([("cache-control", "no-store")], json).into_response(),
            "/private" => ([("cache-control", "private, max-age=9")], json).into_response(),
            "/star" => ([("vary", "*")], json).into_response(),
            "/missing" => (StatusCode::NOT_FOUND, json).into_response(),
            "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, json).into_response(),
            _ => json.into_response(),
        }
    };
    let options = patient().methods([Method::GET]);
    let app = App::start(&server.url(), options, handler).await?;
    for path in [
        "/cookie",
        "/no-store",
        "/private",
        "/star",
        "/missing",
        "/broken",
    ] {
        let first = app.get(path).await?;
        let second = app.get(path).await?;
        assert_eq!((first.cache(), second.cache()), ("miss", "miss"), "{path}");
        assert_ne!(first.body, second.body, "{path}");
    }
    assert_eq!(app.send(Request::post("/x")).await?.cache(), "bypass");
    assert_eq!(app.send(Request::head("/x")).await?.cache(), "bypass");
    let part = Request::get("/x").header("range", "bytes=0-1");
    assert_eq!(app.send(part).await?.cache(), "bypass");
    let long = format!("/{}", "x".repeat(2_048));
    assert_eq!(app.get(&long).await?.cache(), "bypass");
    eventually(SOON, async || {
        server.int(&["DBSIZE"]).await.is_ok_and(|keys| keys == 0)
    })
    .await?;
    Ok(())
}

/// The answer's own time is kept where it is shorter, and other codes where they are asked for.
#[tokio::test]
async fn options_say_what_is_kept_and_for_how_long() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match request.uri().path() {
            "/short" => ([("cache-control", "max-age=60")], Json(run)).into_response(),
            _ => (StatusCode::NOT_FOUND, Json(run)).into_response(),
        }
    };
    let options = patient()
        .ttl(Duration::from_secs(600))
        .statuses([StatusCode::OK, StatusCode::NOT_FOUND]);
    let app = App::start(&server.url(), options, handler).await?;
    app.get("/short").await?;
    app.get("/missing").await?;
    let hit = app.get("/missing").await?;
    assert_eq!((hit.cache(), hit.status), ("hit", StatusCode::NOT_FOUND));
    for (key, most) in [
        ("api:GET:/short:anonymous", 60),
        ("api:meta:GET:/short:anonymous", 60),
        ("api:meta:GET:/missing:anonymous", 600),
    ] {
        let left = server.int(&["TTL", key]).await?;
        assert!((1..=most).contains(&left), "{key}: {left}");
    }
    let odd = [
        CacheOptions::default().ttl(Duration::ZERO),
        CacheOptions::default().methods([Method::POST]),
        CacheOptions::default().statuses([StatusCode::BAD_GATEWAY]),
        CacheOptions::default().lease(Duration::ZERO),
    ];
    for options in odd {
        let refused = CacheLayer::new(&app.client.cache(), options);
        assert!(
            matches!(refused, Err(oxbull::Error::Invalid { .. })),
            "{refused:?}"
        );
    }
    Ok(())
}

/// A body over the limit, or one that fails half way, passes as it is and is not stored.
#[tokio::test]
async fn large_and_broken_bodies_pass_unstored() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |_: usize, request: Request<Body>| async move {
        let chunk = |letter: &str| Ok::<_, std::io::Error>(letter.repeat(400));
        let mut chunks = vec![chunk("a"), chunk("b")];
        match request.uri().path() {
            "/large" => chunks.push(chunk("c")),
            "/broken" => chunks.push(Err(std::io::Error::other("cut"))),
            "/known" => return "x".repeat(1_001).into_response(),
            _ => {}
        }
        Body::from_stream(stream::iter(chunks)).into_response()
    };
    let app = App::start(&server.url(), patient().body_limit(1_000), handler).await?;
    for _ in 0..2 {
        let large = app.get("/large").await?;
        assert_eq!((large.cache(), large.body.len()), ("miss", 1_200));
        assert_eq!(large.body.find('c'), Some(800));
        let broken = app
            .router
            .clone()
            .oneshot(Request::get("/broken").body(Body::empty())?);
        assert!(
            to_bytes(broken.await?.into_body(), usize::MAX)
                .await
                .is_err()
        );
        assert_eq!(app.get("/known").await?.body.len(), 1_001);
    }
    assert_eq!(app.get("/fits").await?.cache(), "miss");
    let fits = app.get("/fits").await?;
    assert_eq!((fits.cache(), fits.body.len()), ("hit", 800));
    Ok(())
}

/// A hundred simultaneous misses in two processes run the handler once.
#[tokio::test]
async fn simultaneous_misses_run_the_handler_once() -> TestResult {
    let server = RedisServer::start().await?;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut apps = Vec::new();
    for _ in 0..2 {
        let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
        let handler = move |run: usize, _: Request<Body>| {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                drop(gate.acquire().await);
                Json(run).into_response()
            }
        };
        apps.push(App::start(&server.url(), patient(), handler).await?);
    }
    let calls = join_all((0..50).flat_map(|_| apps.iter().map(|app| app.get("/x"))));
    let open = async {
        // The other process has looked and found that it must wait.
        eventually(SOON, async || {
            let stats = server.info("commandstats").await.unwrap_or_default();
            let calls = stats
                .get("cmdstat_evalsha")
                .and_then(|stat| stat.split(['=', ',']).nth(1)?.parse::<u64>().ok());
            started.load(Ordering::SeqCst) == 1 && calls.unwrap_or(0) > 3
        })
        .await
        .map(|()| gate.add_permits(100))
    };
    let (answers, opened) = futures::join!(calls, open);
    opened?;
    for answer in answers {
        let answer = answer?;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "1"));
    }
    assert_eq!(apps[0].runs() + apps[1].runs(), 1);
    let (one, other) = (apps[0].layer.stats(), apps[1].layer.stats());
    assert_eq!((one.misses + other.misses, one.hits + other.hits), (1, 99));
    let stats = server.info("commandstats").await?;
    for never in ["cmdstat_keys", "cmdstat_scan"] {
        assert!(!stats.contains_key(never), "{never}");
    }
    Ok(())
}

/// The same in three processes that share nothing but the server.
#[tokio::test]
async fn processes_run_the_handler_once_together() -> TestResult {
    const SITE: &str = "OXBULL_CACHE_PROCESS";
    const REQUESTS: usize = 34;
    if let Ok(site) = std::env::var(SITE) {
        let (url, folder) = site.split_once(' ').ok_or("no site")?;
        return visit(url, folder.into(), REQUESTS).await;
    }
    let server = RedisServer::start().await?;
    let folder = tempfile::tempdir()?;
    let site = format!("{} {}", server.url(), folder.path().display());
    let start = |_| {
        let test = "http_cache::processes_run_the_handler_once_together";
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args(["--exact", test]).env(SITE, &site);
        Ok(Process(
            command.stdout(std::process::Stdio::null()).spawn()?,
        ))
    };
    let mut processes = (0..3).map(start).collect::<TestResult<Vec<_>>>()?;
    let lines = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    eventually(SOON, async || {
        // Every request has looked and found nothing; each claim of a lock looks once more.
        let stats = server.info("commandstats").await.unwrap_or_default();
        let calls = |name: &str| -> usize {
            let stat = stats
                .get(name)
                .and_then(|stat| stat.split(['=', ',']).nth(1));
            stat.and_then(|calls| calls.parse().ok()).unwrap_or(0)
        };
        let looks = calls("cmdstat_mget").saturating_sub(calls("cmdstat_evalsha"));
        looks >= 3 * REQUESTS && !lines("runs").is_empty()
    })
    .await?;
    std::fs::write(folder.path().join("open"), "")?;
    for process in &mut processes {
        let ended = eventually(SOON, || {
            let ended = process.0.try_wait().ok().flatten();
            std::future::ready(ended.ok_or("it runs"))
        });
        assert!(ended.await?.success());
    }
    assert_eq!(lines("runs"), "run\n");
    let answers = lines("answers");
    let misses = answers.lines().filter(|answer| *answer == "miss 1").count();
    let hits = answers.lines().filter(|answer| *answer == "hit 1").count();
    assert_eq!((misses, hits), (1, 3 * REQUESTS - 1), "{answers}");
    Ok(())
}

/// What each of the processes does: asks, and notes runs and answers in files of the folder.
async fn visit(url: &str, folder: std::path::PathBuf, requests: usize) -> TestResult {
    let note = |folder: &std::path::Path, file: &str, text: &str| {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(folder.join(file));
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
    };
    let site = folder.clone();
    let handler = move |run: usize, _: Request<Body>| {
        let site = site.clone();
        async move {
            let noted = note(&site, "runs", "run\n");
            let open = eventually(SOON, async || site.join("open").exists()).await;
            assert!(noted.is_ok() && open.is_ok());
            Json(run).into_response()
        }
    };
    let app = App::start(url, patient(), handler).await?;
    for answer in join_all((0..requests).map(|_| app.get("/x"))).await {
        let answer = answer?;
        let text = format!("{} {}\n", answer.cache(), answer.body);
        note(&folder, "answers", &text)?;
    }
    Ok(())
}

/// A process that ends with its test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Requests for what cannot be shared must neither wait for each other nor take locks.
#[tokio::test]
async fn requests_for_what_cannot_be_stored_run_side_by_side() -> TestResult {
    let server = RedisServer::start().await?;
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let handler = move |run: usize, _: Request<Body>| {
        let both = Arc::clone(&both);
        async move {
            if (2..4).contains(&run) {
                both.wait().await;
            }
            let control = if run < 4 { "no-store" } else { "public" };
            ([("cache-control", control)], Json(run)).into_response()
        }
    };
    let forever = Duration::from_secs(3_600);
    let app = App::start(&server.url(), patient().wait(forever), handler).await?;
    assert_eq!(app.get("/x").await?.body, "1");
    let scripts = || async {
        let stats = server.info("commandstats").await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stats.get("cmdstat_evalsha").cloned())
    };
    let calls = |stat: Option<String>| {
        stat.and_then(|stat| stat.split(['=', ',']).nth(1)?.parse::<u64>().ok())
    };
    // Giving the first lock up is waited for by nobody.
    let lock = ["EXISTS", "api:lock:GET:/x:anonymous"];
    eventually(SOON, async || {
        server.int(&lock).await.is_ok_and(|locks| locks == 0)
    })
    .await?;
    let before = calls(scripts().await?);
    let (one, other) = futures::join!(app.get("/x"), app.get("/x"));
    assert_eq!((one?.cache(), other?.cache()), ("miss", "miss"));
    assert_eq!(calls(scripts().await?), before);
    // Once it can be stored, it is.
    assert_eq!(app.get("/x").await?.body, "4");
    assert_eq!(app.get("/x").await?.cache(), "hit");
    Ok(())
}

/// The key has no body in it, so that a body must not decide what others are served.
#[tokio::test]
async fn requests_with_a_body_pass_by() -> TestResult {
    let server = RedisServer::start().await?;
    let echo = |_: usize, request: Request<Body>| async move {
        let body = to_bytes(request.into_body(), 99).await.unwrap_or_default();
        Json(String::from_utf8_lossy(&body).into_owned()).into_response()
    };
    let app = App::start(&server.url(), patient(), echo).await?;
    let request = Request::get("/x").body(Body::from("poison"))?;
    let response = app.router.clone().oneshot(request).await?;
    assert_eq!(response.headers()["x-cache"], "bypass");
    assert_eq!(app.get("/x").await?.body, "\"\"");
    Ok(())
}

/// A response that is nobody else's makes those who waited run the handler themselves.
#[tokio::test]
async fn waiting_requests_do_not_get_a_response_with_a_cookie() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, _: Request<Body>| async move {
        tokio::task::yield_now().await;
        ([("set-cookie", format!("sid={run}"))], Json(run)).into_response()
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    let answers = join_all((0..20).map(|_| app.get("/x"))).await;
    let mut cookies = BTreeSet::new();
    for answer in answers {
        cookies.insert(answer?.header("set-cookie").to_owned());
    }
    assert_eq!(cookies.len(), 20);
    Ok(())
}

/// A process that dies while it runs the handler holds the others up for its lease only.
#[tokio::test]
async fn others_go_on_after_the_lease_of_a_dead_process() -> TestResult {
    let server = RedisServer::start().await?;
    server
        .cli(&["SET", "api:lock:GET:/x:anonymous", "dead", "PX", "300"])
        .await?;
    let app = App::start(&server.url(), patient(), numbered).await?;
    assert_eq!(app.get("/x").await?.cache(), "miss");
    assert_eq!(app.get("/x").await?.cache(), "hit");
    // And one that lives too long holds nobody up for longer than the wait.
    server
        .cli(&["SET", "api:lock:GET:/y:anonymous", "stuck", "PX", "3600000"])
        .await?;
    let options = patient().wait(Duration::from_millis(20));
    let app = App::start(&server.url(), options, numbered).await?;
    assert_eq!(app.get("/y").await?.cache(), "miss");
    assert_eq!(app.get("/y").await?.cache(), "hit");
    Ok(())
}

/// A caller that goes away passes its duty on, within its process at once.
#[tokio::test]
async fn next_request_takes_over_from_a_caller_that_left() -> TestResult {
    let server = RedisServer::start().await?;
    let first = Arc::new(AtomicBool::new(true));
    let hanging = Arc::clone(&first);
    let handler = move |run: usize, _: Request<Body>| {
        let hang = hanging.swap(false, Ordering::SeqCst);
        async move {
            if hang {
                std::future::pending::<()>().await;
            }
            Json(run).into_response()
        }
    };
    let app = Arc::new(App::start(&server.url(), patient(), handler).await?);
    let calling = |app: &Arc<App>| {
        let app = Arc::clone(app);
        tokio::spawn(async move { app.get("/x").await })
    };
    let leaver = calling(&app);
    eventually(SOON, async || app.runs() == 1).await?;
    let waiting: Vec<_> = (0..5).map(|_| calling(&app)).collect();
    leaver.abort();
    for call in waiting {
        assert_eq!(call.await??.body, "2");
    }
    assert_eq!(app.runs(), 2);
    Ok(())
}

/// The lock is kept for as long as the handler runs, however short the lease.
#[tokio::test]
async fn lock_is_renewed_while_the_handler_runs() -> TestResult {
    let server = Arc::new(RedisServer::start().await?);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let handler = move |run: usize, _: Request<Body>| {
        let gate = Arc::clone(&held);
        async move {
            drop(gate.acquire().await);
            Json(run).into_response()
        }
    };
    let options = patient().lease(Duration::from_millis(900));
    let app = App::start(&server.url(), options, handler).await?;
    let key = "api:lock:GET:/x:anonymous";
    let call = app.get("/x");
    let check = async {
        eventually(SOON, async || {
            server.int(&["EXISTS", key]).await.is_ok_and(|n| n == 1)
        })
        .await?;
        // A lease that is almost over is made whole again.
        server.cli(&["PEXPIRE", key, "400"]).await?;
        eventually(SOON, async || {
            server
                .int(&["PTTL", key])
                .await
                .is_ok_and(|left| left > 400)
        })
        .await?;
        gate.add_permits(1);
        TestResult::Ok(())
    };
    let (answer, checked) = futures::join!(call, check);
    checked?;
    assert_eq!(answer?.cache(), "miss");
    assert_eq!(server.int(&["EXISTS", key]).await?, 0);
    Ok(())
}

/// When the handler fails, an old response is better than none; without one the failure shows.
#[tokio::test]
async fn old_response_stands_in_for_a_failing_handler() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match (request.uri().path(), run) {
            ("/strict", 1) => ([("cache-control", "must-revalidate")], Json(run)).into_response(),
            (_, 1) => ([("x-kept", "yes")], Json(run)).into_response(),
            ("/panics", _) => panic!("on purpose"),
            _ => StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    let options = || patient().stale_while_error(Duration::from_secs(600));
    for path in ["/fails", "/panics"] {
        let app = App::start(&server.url(), options(), handler).await?;
        app.get(path).await?;
        server
            .cli(&["DEL", &format!("api:GET:{path}:anonymous")])
            .await?; // it expires
        app.later(4_000);
        for answer in join_all((0..10).map(|_| app.get(path))).await {
            let answer = answer?;
            assert_eq!(
                (answer.status, answer.cache()),
                (StatusCode::OK, "stale"),
                "{path}"
            );
            assert_eq!(
                (answer.body.as_str(), answer.header("x-kept")),
                ("1", "yes")
            );
            assert_eq!(answer.header("age"), "4000");
            assert!(answer.header("warning").starts_with("111 "));
        }
        assert_eq!(app.layer.stats().stale, 10);
        let left = server
            .int(&["TTL", &format!("api:stale:GET:{path}:anonymous")])
            .await?;
        assert!((4_100..=4_200).contains(&left), "{left}");
    }
    let app = App::start(&server.url(), options(), handler).await?;
    app.get("/strict").await?;
    server.cli(&["DEL", "api:GET:/strict:anonymous"]).await?;
    assert_eq!(app.get("/strict").await?.status, StatusCode::BAD_GATEWAY);
    assert_eq!(app.get("/never").await?.status, StatusCode::BAD_GATEWAY);
    let panicking = Arc::new(app);
    let caller = Arc::clone(&panicking);
    let panicked = tokio::spawn(async move { caller.get("/panics").await.is_ok() });
    // "/panics" of an earlier process is still there: without it the panic is the caller's.
    assert!(panicked.await?);
    server
        .cli(&["DEL", "api:stale:GET:/panics:anonymous"])
        .await?;
    let caller = Arc::clone(&panicking);
    let panicked = tokio::spawn(async move { caller.get("/panics").await.is_ok() });
    assert!(panicked.await.is_err_and(|error| error.is_panic()));
    Ok(())
}

/// A change deletes all that was made from what it changed, and nothing else.
#[tokio::test]
async fn invalidation_deletes_the_entries_of_a_tag() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        let account = request
            .uri()
            .path()
            .split('/')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let tags = CacheTags::new([format!("account-{account}"), "all".to_owned()]).unwrap();
        (Extension(tags), Json(run)).into_response()
    };
    let options = patient().stale_while_error(Duration::from_secs(60));
    let app = App::start(&server.url(), options, handler).await?;
    for page in 0..450 {
        app.get(&format!("/7/{page}")).await?;
    }
    app.get("/8/0").await?;
    let left = server.int(&["PTTL", "api:tag:account-7"]).await?;
    assert!((3_500_000..=3_660_000).contains(&left), "{left}");
    server.cli(&["CONFIG", "RESETSTAT"]).await?;
    assert_eq!(app.layer.invalidate("account-7").await?, 450);
    let stats = server.info("commandstats").await?;
    let steps = stats
        .get("cmdstat_evalsha")
        .map(String::as_str)
        .unwrap_or_default();
    let texts = stats
        .get("cmdstat_eval")
        .map(String::as_str)
        .unwrap_or_default();
    assert!(
        steps.starts_with("calls=3,") && texts.starts_with("calls=1,"),
        "{steps} {texts}"
    );
    for never in ["cmdstat_keys", "cmdstat_scan"] {
        assert!(!stats.contains_key(never), "{never}");
    }
    assert_eq!(
        server
            .int(&[
                "EXISTS",
                "api:tag:account-7",
                "api:stale:GET:/7/0:anonymous"
            ])
            .await?,
        0
    );
    assert_eq!(app.get("/8/0").await?.cache(), "hit");
    app.later(1); // past the mark
    assert_eq!(app.get("/7/0").await?.cache(), "miss");
    assert_eq!(app.get("/7/0").await?.cache(), "hit");
    assert!(app.layer.invalidate("a:b").await.is_err());
    assert_eq!(app.layer.invalidate("unknown").await?, 0);
    Ok(())
}

/// An answer made before a change must not be stored after it.
#[tokio::test]
async fn answer_made_during_an_invalidation_is_not_stored() -> TestResult {
    let server = RedisServer::start().await?;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let handler = move |run: usize, _: Request<Body>| {
        let gate = Arc::clone(&held);
        async move {
            drop(gate.acquire().await);
            (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
        }
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    let call = app.get("/x");
    let change = async {
        eventually(SOON, async || app.runs() == 1).await?;
        app.layer.invalidate("t").await?;
        gate.add_permits(9);
        TestResult::Ok(())
    };
    let (answer, changed) = futures::join!(call, change);
    changed?;
    assert_eq!(answer?.cache(), "miss");
    assert_eq!(
        server
            .int(&[
                "EXISTS",
                "api:GET:/x:anonymous",
                "api:lock:GET:/x:anonymous"
            ])
            .await?,
        0
    );
    Ok(())
}

/// Sets of tags lose what has expired, so that they cannot grow for ever.
#[tokio::test]
async fn tags_lose_expired_entries() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, _: Request<Body>| async move {
        (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    for page in 0..150 {
        app.get(&format!("/{page}")).await?;
    }
    assert_eq!(server.int(&["ZCARD", "api:tag:t"]).await?, 150);
    app.later(3_700);
    for (path, left) in [("/a", 51), ("/b", 2)] {
        app.get(path).await?;
        assert_eq!(server.int(&["ZCARD", "api:tag:t"]).await?, left);
    }
    Ok(())
}

/// An entry that cannot be stored leaves no lock behind, which others would wait for.
#[tokio::test]
async fn lock_is_given_up_when_storing_fails() -> TestResult {
    let server = RedisServer::start().await?;
    server.cli(&["SET", "api:tag:t", "no set"]).await?;
    let handler = |run: usize, _: Request<Body>| async move {
        (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    let answer = app.get("/x").await?;
    assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "miss"));
    let stats = app.layer.stats();
    assert_eq!((stats.stores, stats.errors), (0, 1));
    // Nothing is left but the odd key: refused before the first write.
    let left = || server.int(&["DBSIZE"]);
    eventually(SOON, async || left().await.is_ok_and(|keys| keys == 1)).await?;
    Ok(())
}

/// Whatever is wrong with Redis, requests are answered by the handler, never with an error.
#[tokio::test]
async fn broken_redis_is_a_miss() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let options = CacheOptions::default().deadline(Duration::from_millis(20));
    let app = App::start(&proxy.url(), options, numbered).await?;
    let errors = || app.layer.stats().errors;
    let miss = async |what: &str| -> TestResult {
        let before = errors();
        let answers = join_all((0..20).map(|_| app.get("/x"))).await;
        for answer in answers {
            let answer = answer?;
            assert_eq!(answer.status, StatusCode::OK, "{what}");
            assert!(["miss", "hit"].contains(&answer.cache()), "{what}");
        }
        assert!(errors() > before, "{what}");
        Ok(())
    };
    server.freeze()?;
    miss("frozen").await?;
    server.thaw()?;
    proxy.half_open();
    miss("silent").await?;
    proxy.pass().await?;
    proxy.refuse().await?;
    proxy.kill_all();
    miss("refused").await?;
    proxy.pass().await?;
    server.kill_hard();
    miss("dead").await?;
    server.restart_with(&["maxmemory 1"]).await?;
    // It answers again, and refuses every write.
    eventually(SOON, async || {
        let before = app.layer.stats().errors;
        app.get("/x").await.is_ok_and(|a| a.cache() == "miss") && app.layer.stats().errors > before
    })
    .await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    eventually(SOON, async || {
        app.get("/x").await.is_ok_and(|a| a.cache() == "hit")
    })
    .await?;
    Ok(())
}

/// Redis that dies while the handler runs costs the entry, not the answer.
#[tokio::test]
async fn redis_that_dies_during_the_handler_costs_nothing_but_the_entry() -> TestResult {
    let server = Arc::new(RedisServer::start().await?);
    let killed = Arc::clone(&server);
    let handler = move |run: usize, _: Request<Body>| {
        let killed = Arc::clone(&killed);
        async move {
            killed.kill_hard();
            Json(run).into_response()
        }
    };
    let options = CacheOptions::default();
    let app = App::start(&server.url(), options, handler).await?;
    let answer = app.get("/x").await?;
    assert_eq!(
        (answer.status, answer.cache(), answer.body.as_str()),
        (StatusCode::OK, "miss", "1")
    );
    let stats = app.layer.stats();
    assert_eq!((stats.stores, stats.errors >= 1), (0, true));
    Ok(())
}

/// A lost answer to storing is asked for again and leaves the same entry.
#[tokio::test]
async fn lost_answers_are_asked_for_again() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let app = App::start(&proxy.url(), patient(), numbered).await?;
    app.get("/warm").await?; // the scripts are known
    proxy.add(Rule::drop_reply(|c| c.is("MGET")).nth(1));
    proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).times(2));
    assert_eq!(app.get("/x").await?.cache(), "miss");
    assert_eq!(app.get("/x").await?.cache(), "hit");
    assert_eq!(
        server.int(&["EXISTS", "api:lock:GET:/x:anonymous"]).await?,
        0
    );
    assert_eq!(app.layer.stats().errors, 0);
    Ok(())
}

/// Neither what is printed nor what is logged shows a user, a URL or a body.
#[tokio::test]
async fn nothing_secret_is_shown() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::start().await?;
    let options = patient().user(by_header);
    let app = App::start(&server.url(), options, |_, _| async {
        Json(Value::from("s3cret-body")).into_response()
    })
    .await?;
    let request = || Request::get("/x?token=s3cret-url").header("x-user", "s3cret-user");
    app.send(request()).await?;
    app.send(request()).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    app.send(request().header("x-user", "s3cret-other")).await?;
    let failing = Request::get("/y?token=s3cret-url").header("x-user", "s3cret-user");
    app.send(failing).await?;
    assert_eq!(logs.of(Level::DEBUG, "cache=Hit").len(), 2);
    assert_eq!(logs.of(Level::WARN, "without redis").len(), 1);
    for shown in [logs.all(), format!("{:?}", app.layer)] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    Ok(())
}
