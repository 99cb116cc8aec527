//! Requests that share one run of the handler, in one process and over several.

use axum::Json;
use axum::body::Body;
use axum::body::to_bytes;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures::future::join_all;
use oxbull_testkit::RedisServer;
use oxbull_testkit::eventually;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{App, DEADLINE, TestResult, numbered, patient};

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
        eventually(DEADLINE, async || {
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
        let test = "http_cache::sharing::processes_run_the_handler_once_together";
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.args(["--exact", test]).env(SITE, &site);
        Ok(Process(
            command.stdout(std::process::Stdio::null()).spawn()?,
        ))
    };
    let mut processes = (0..3).map(start).collect::<TestResult<Vec<_>>>()?;
    let lines = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    eventually(DEADLINE, async || {
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
        let ended = eventually(DEADLINE, || {
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
            let open = eventually(DEADLINE, async || site.join("open").exists()).await;
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
    eventually(DEADLINE, async || {
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
    eventually(DEADLINE, async || app.runs() == 1).await?;
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
        eventually(DEADLINE, async || {
            server.int(&["EXISTS", key]).await.is_ok_and(|n| n == 1)
        })
        .await?;
        // A lease that is almost over is made whole again.
        server.cli(&["PEXPIRE", key, "400"]).await?;
        eventually(DEADLINE, async || {
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
