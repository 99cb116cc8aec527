//! `graph-tokens` as people type it.

use super::*;

/// A command without a problem prints its answer and nothing else.
#[tokio::test]
async fn command_logs_nothing_while_all_is_well() -> TestResult {
    let redis = RedisFixture::start().await?;
    let commands: [(&[&str], &str); 5] = [
        (&["put", ACCOUNT], "IGone"),
        (&["list"], ""),
        (&["list", "--json"], ""),
        (&["rotate"], ""),
        (&["remove", ACCOUNT, "--yes"], ""),
    ];
    for (arguments, input) in commands {
        let (code, said, log) = tokens_command(&redis, K1, arguments, input).await?;
        assert_eq!((code, log.as_str()), (Some(0), ""), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (code, _, log) = tokens_command(&redis, K1, &["remove", ACCOUNT, "--yes"], "").await?;
    assert_eq!(code, Some(1));
    assert!(log.contains("there is no token"), "{log}");
    Ok(())
}

/// `graph-tokens list | head -0` is no error.
#[tokio::test]
async fn output_that_nobody_reads_is_no_error() -> TestResult {
    let redis = RedisFixture::start().await?;
    tokens_command(&redis, K1, &["put", ACCOUNT], "IGone").await?;
    for arguments in [["list"].as_slice(), &["rotate"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_graph-tokens"))
            .args(arguments)
            .env_clear()
            .env("REDIS_URL", redis.server.url())
            .env("ENCRYPTION_KEYS", K1)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()
            .await?;
        let log = String::from_utf8(output.stderr)?;
        assert_eq!((output.status.code(), log.as_str()), (Some(0), ""));
    }
    Ok(())
}

/// A key is replaced in the manual's four steps: at each of them every program reads every token, and at the end
/// the old key opens none. A token that cannot be read is named, and fails the list after the others.
#[tokio::test]
async fn key_is_replaced_step_by_step() -> TestResult {
    let redis = RedisFixture::start().await?;
    tokens_command(&redis, K1, &["put", ACCOUNT], "IGone").await?;
    let [behind, first] = [format!("{K1},{K2}"), format!("{K2},{K1}")];
    // While programs are restarted, some have the former order.
    for keys in [K1, &behind, &first] {
        let (code, said, _) = tokens_command(&redis, keys, &["list"], "").await?;
        assert_eq!(code, Some(0), "{said}");
    }
    tokens_command(&redis, &first, &["put", OTHER], "IGother").await?;
    for keys in [&behind, &first] {
        let (code, said, _) = tokens_command(&redis, keys, &["list"], "").await?;
        assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}");
    }
    // Too early: the first one still has the old key.
    let (code, said, log) = tokens_command(&redis, K2, &["list"], "").await?;
    assert_eq!(code, Some(1));
    let lines: Vec<_> = said.lines().collect();
    let is_readable = |account: &str| {
        let line = lines.iter().find(|line| line.starts_with(account));
        line.map(|line| !line.contains("unreadable"))
    };
    assert_eq!(is_readable(ACCOUNT), Some(false), "{said}");
    assert_eq!(is_readable(OTHER), Some(true), "{said}");
    assert!(log.contains("1 of 2 tokens cannot be read"), "{log}");

    let (code, said, _) = tokens_command(&redis, &first, &["rotate"], "").await?;
    assert_eq!(code, Some(0));
    assert_eq!(said, "1 sealed anew with key k2, 1 had it, 0 unreadable\n");
    let (code, said, _) = tokens_command(&redis, K2, &["list"], "").await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said, _) = tokens_command(&redis, K1, &["list", "--json"], "").await?;
    assert_eq!((code, said.matches("problem").count()), (Some(1), 2));
    Ok(())
}
