//! Deliveries that reach the gateway: which become jobs, and which are refused.

use std::time::Duration;

use oxbull_testkit::TestResult;

use super::{GatewayFixture, delivery, signature};
use crate::http::{TOKEN, WEBHOOKS, options, sign};
use crate::support::ACCOUNT;

/// A delivery without the one right signature gets one answer, whatever is wrong, and leaves
/// nothing.
#[tokio::test]
async fn unsigned_deliveries_leave_nothing() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let body = fixture.fresh("a");
    let right = sign(&body);
    let mut http = fixture.http().await?;
    let mut flipped = body.clone();
    flipped[20] ^= 1;
    let doubled = [signature(&right), signature(&right)].concat();
    for (headers, body) in [
        (vec![], &body),
        (signature(""), &body),
        (signature(&right[7..]), &body),
        (signature(&right.replace("sha256", "SHA256")), &body),
        (signature(&format!("sha256={}", "0".repeat(64))), &body),
        (vec![format!("x-hub-signature: {right}")], &body),
        (doubled, &body),
        (signature(&right), &flipped),
        (signature(&right), &body[..body.len() - 1].to_vec()),
    ] {
        let answer = http.post(&headers, body).await?;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, ""),
            "{headers:?}"
        );
    }
    assert_eq!(fixture.jobs().await?, 0);
    let keys = fixture.server.cli(&["KEYS", "webhook:*"]).await?.texts();
    assert!(keys.is_empty(), "{keys:?}");
    let metrics = http.get("/metrics").await?.body;
    assert!(
        metrics.contains("gateway_signatures_refused_total 9"),
        "{metrics}"
    );
    assert_eq!(http.deliver(&body).await?.status, 200);
    fixture.end().await;
    Ok(())
}

/// Without a signature that may be one, nothing of a body is read, however large: the answer comes before it,
/// and no room is taken. A wrong one of the right form is found out by reading.
#[tokio::test]
async fn body_without_a_well_formed_signature_is_not_read() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let begin = |headers: &str| {
        format!(
            "POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
             content-length: 4000000\r\n{headers}\r\n"
        )
    };
    let zeros = format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64));
    for headers in [
        String::new(),
        "x-hub-signature-256: \r\n".to_owned(),
        zeros.replace("sha256=00", "sha256="),
        zeros.replace("sha256=00", "sha256=zz"),
        zeros.replace("sha256", "sha1"),
        zeros.repeat(2),
    ] {
        let mut http = fixture.http().await?;
        http.send(begin(&headers).as_bytes()).await?;
        assert_eq!(http.receive().await?.status, 401, "{headers}");
    }
    let metrics = fixture.http().await?.get("/metrics").await?.body;
    assert!(
        metrics.contains("gateway_signatures_refused_total 6"),
        "{metrics}"
    );
    let mut http = fixture.http().await?;
    http.send(begin(&zeros).as_bytes()).await?;
    assert_eq!(http.receive().await?.status, 100);
    fixture.end().await;
    Ok(())
}

/// The signature is of the bytes as they came: whatever they escape and however they are cut.
#[tokio::test]
async fn bytes_are_taken_as_they_came() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let now = fixture.client.clock().now().as_millis();
    let body = format!(
        r#"{{ "object":"instagram", "n":12345678901234567890.10, "entry":[{{"id":"{ACCOUNT}","time":{now},"messaging":[{{"sender":{{"id":"5"}},"message":{{"mid":"m","text":"\u00e4\ud83d\ude00\/"}}}}]}}]}}"#
    );
    let mut http = fixture.http().await?;
    let head = format!(
        "POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\
         x-hub-signature-256: {}\r\n\r\n",
        sign(body.as_bytes())
    );
    http.send(head.as_bytes()).await?;
    for part in body.as_bytes().chunks(7) {
        http.send(format!("{:x}\r\n", part.len()).as_bytes())
            .await?;
        http.send(part).await?;
        http.send(b"\r\n").await?;
    }
    http.send(b"0\r\n\r\n").await?;
    assert_eq!(http.receive().await?.status, 200);
    let ids = fixture
        .server
        .cli(&["LRANGE", "bull:webhook-processing:wait", "0", "-1"]);
    let key = format!("bull:webhook-processing:{}", ids.await?.texts()[0]);
    let stored = fixture.server.text(&["HGET", &key, "data"]).await?;
    assert_eq!(stored.as_deref(), Some(body.as_str()));
    fixture.end().await;
    Ok(())
}

/// A repeat is the same job, before and after it was handled; other content is another.
#[tokio::test]
async fn repeated_delivery_is_one_job() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let (first, second) = (fixture.fresh("a"), fixture.fresh("b"));
    let mut senders = Vec::new();
    for _ in 0..8 {
        let mut http = fixture.http().await?;
        let body = first.clone();
        senders.push(async move { http.deliver(&body).await });
    }
    for answer in futures::future::join_all(senders).await {
        assert_eq!(answer?.status, 200);
    }
    assert_eq!(fixture.jobs().await?, 1);
    let mut http = fixture.http().await?;
    assert_eq!(http.deliver(&second).await?.status, 200);
    assert_eq!(fixture.jobs().await?, 2);
    let metrics = http.get("/metrics").await?.body;
    for line in [
        "gateway_deliveries_total{result=\"enqueued\"} 2",
        "gateway_deliveries_total{result=\"duplicate\"} 7",
        "gateway_requests_total{route=\"/instagram/webhooks\",status=\"200\"} 9",
        "oxbull_queue_jobs{queue=\"webhook-processing\",state=\"waiting\"} 2",
        "oxbull_redis_up 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    fixture.end().await;
    Ok(())
}

/// What is too large, too slow, compressed, too old or no JSON is refused and leaves nothing;
/// JSON of another shape is kept, for its job to say what is wrong.
#[tokio::test]
async fn what_is_out_of_bounds_is_refused() -> TestResult {
    let fixture = {
        let options = options().body_limit(1 << 20);
        GatewayFixture::with(options.read_timeout(Duration::from_millis(300))).await?
    };
    let now = fixture.client.clock().now().as_millis();
    let hour = 3_600_000;
    for (status, body) in [
        (400, b"{".to_vec()),
        (400, b"\xff".to_vec()),
        (400, Vec::new()),
        (403, delivery("old", now - 41 * hour)),
        (403, delivery("new", now + hour)),
    ] {
        let answer = fixture.http().await?.deliver(&body).await?;
        assert_eq!(answer.status, status, "{body:?}");
    }
    let body = fixture.fresh("a");
    let mut headers = signature(&sign(&body));
    headers.push("content-encoding: gzip".to_owned());
    assert_eq!(
        fixture.http().await?.post(&headers, &body).await?.status,
        415
    );

    // One byte too many: announced, and in a piece of no announced length.
    let zeros = "0".repeat(64);
    let head =
        format!("POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\nx-hub-signature-256: sha256={zeros}\r\n");
    let mut http = fixture.http().await?;
    let announced = format!("{head}content-length: {}\r\n\r\n", (1 << 20) + 1);
    http.send(announced.as_bytes()).await?;
    assert_eq!(http.receive().await?.status, 413);
    let mut http = fixture.http().await?;
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n100001\r\n");
    http.send(chunked.as_bytes()).await?;
    http.send(&vec![b' '; (1 << 20) + 1]).await?;
    assert_eq!(http.receive().await?.status, 413);

    // A body that stops coming, a head that does, and one that does not.
    let mut http = fixture.http().await?;
    let begun = format!("{head}content-length: 9\r\n\r\n{{");
    http.send(begun.as_bytes()).await?;
    assert_eq!(http.receive().await?.status, 408);
    let mut http = fixture.http().await?;
    http.send(head.as_bytes()).await?;
    assert!(http.is_closed().await?);
    let mut http = fixture.http().await?;
    let mut endless = format!("{head}x: ").into_bytes();
    endless.resize(16 << 10, b'x');
    http.send(&endless).await?;
    assert_eq!(http.receive().await?.status, 431);

    assert_eq!(fixture.jobs().await?, 0);
    let mut largest = b"[7]".to_vec();
    largest.resize(1 << 20, b' ');
    assert_eq!(fixture.http().await?.deliver(&largest).await?.status, 200);
    assert_eq!(fixture.http().await?.deliver(b"7").await?.status, 200);
    assert_eq!(fixture.jobs().await?, 2);
    fixture.end().await;
    Ok(())
}

/// Connections are bounded: one too many is served when another has ended.
#[tokio::test]
async fn connection_too_many_waits_for_another_to_end() -> TestResult {
    let fixture = GatewayFixture::with(options().connections(1)).await?;
    let mut first = fixture.http().await?;
    assert_eq!(first.get("/health").await?.status, 200);
    let mut second = fixture.http().await?;
    second
        .send(b"GET /elsewhere HTTP/1.1\r\nhost: h\r\n\r\n")
        .await?;
    for _ in 0..20 {
        let metrics = first.get("/metrics").await?.body;
        assert!(!metrics.contains("route=\"other\""), "{metrics}");
    }
    drop(first);
    assert_eq!(second.receive().await?.status, 404);
    fixture.end().await;
    Ok(())
}

/// The API learns that the address is ours only with the token.
#[tokio::test]
async fn challenge_is_returned_for_the_token() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let mut http = fixture.http().await?;
    let ask = |mode: &str, token: &str, challenge: &str| {
        format!("{WEBHOOKS}?hub.mode={mode}&hub.verify_token={token}&hub.challenge={challenge}")
    };
    let answer = http.get(&ask("subscribe", TOKEN, "1158201444")).await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1158201444"));
    assert!(
        answer.head.contains("content-type: text/plain\r\n"),
        "{}",
        answer.head
    );
    assert!(answer.head.contains("x-content-type-options: nosniff\r\n"));
    for query in [
        ask("subscribe", "wrong", "1"),
        ask("subscribe", "", "1"),
        ask("unsubscribe", TOKEN, "1"),
        ask("subscribe", TOKEN, ""),
        ask("subscribe", TOKEN, "a%20b"),
        ask("subscribe", TOKEN, &"1".repeat(257)),
        WEBHOOKS.to_owned(),
    ] {
        let answer = http.get(&query).await?;
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{query}");
    }
    fixture.end().await;
    Ok(())
}
