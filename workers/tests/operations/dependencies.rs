//! What each program compiles.

use std::collections::BTreeSet;
use std::process::Command;

use oxbull_testkit::TestResult;

/// The packages that a build with these features alone compiles.
fn packages(features: &str) -> TestResult<BTreeSet<String>> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "oxbull-workers"])
        .args(["-e", "normal,build", "--prefix", "none"])
        .args(["--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{errors}");
    let lines = String::from_utf8(tree.stdout)?;
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

/// No program carries what only tests, the demo or the generator of schemas need, and the worker
/// that never calls the Graph API has no client for it.
#[test]
fn programs_compile_only_what_they_need() -> TestResult {
    let never = [
        "oxbull-testkit",
        "oxbull-instagram-simulator",
        "oxbull-demo",
        "redis",
        "schemars",
    ];
    let graph = ["reqwest", "hyper-rustls", "webpki-roots", "chrono", "url"];
    for (program, without) in [
        ("webhook-processing", &graph[..]),
        ("post-publishing", &[]),
        ("analytics-refresh", &[]),
        ("gateway", &[]),
        ("graph-tokens", &[]),
    ] {
        let packages = packages(program)?;
        assert!(packages.contains("oxbull"), "{packages:?}");
        for name in never.iter().chain(without) {
            assert!(!packages.contains(*name), "{program} compiles {name}");
        }
    }
    Ok(())
}
