//! What the programs say about themselves.

use oxbull_testkit::TestResult;
use tokio::process::Command;

/// The help opens with the program's own title and purpose, not with the package's description.
#[tokio::test]
async fn help_opens_with_what_the_program_does() -> TestResult {
    for (program, title, purpose) in [
        (
            env!("CARGO_BIN_EXE_gateway"),
            "Instagram webhook gateway",
            "Queues Instagram's webhook deliveries",
        ),
        (
            env!("CARGO_BIN_EXE_post-publishing"),
            "Worker of the queue post-publishing",
            "Publishes scheduled posts",
        ),
        (
            env!("CARGO_BIN_EXE_webhook-processing"),
            "Worker of the queue webhook-processing",
            "Handles the events of Instagram's webhook deliveries",
        ),
        (
            env!("CARGO_BIN_EXE_analytics-refresh"),
            "Worker of the queue analytics-refresh",
            "Reads the insights of Instagram accounts",
        ),
        (
            env!("CARGO_BIN_EXE_graph-tokens"),
            "Access tokens of Instagram accounts",
            "Puts accounts' access tokens into the sealed store",
        ),
        (
            env!("CARGO_BIN_EXE_healthcheck"),
            "Health check of a program in its container",
            "Requests a path",
        ),
    ] {
        let output = Command::new(program).arg("--help").output().await?;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{program}: {text}");
        let opening = format!("{title}\n\n{purpose}");
        assert!(text.starts_with(&opening), "{text}");
    }
    Ok(())
}
