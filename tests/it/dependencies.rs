//! What a user of the library compiles.

use std::collections::BTreeSet;
use std::process::Command;

use oxbull_testkit::TestResult;

/// A producer needs no more than this, the library itself included.
const MOST: usize = 70;

/// Returns the packages that a user with these flags compiles.
fn packages(flags: &[&str]) -> TestResult<BTreeSet<String>> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "oxbull"])
        .args(["-e", "normal,build", "--prefix", "none"])
        .args(flags)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{errors}");
    let lines = String::from_utf8(tree.stdout)?;
    Ok(lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect())
}

/// A job queue must not cost its users a build of a hundred crates.
#[test]
fn default_dependencies_are_few() -> TestResult {
    let packages = packages(&[])?;
    assert!(packages.len() > 20, "{packages:?}");
    assert!(packages.len() <= MOST, "{}: {packages:?}", packages.len());
    Ok(())
}

/// A build without TLS compiles none of it, and no C.
#[test]
fn tls_is_optional() -> TestResult {
    let packages = packages(&["--no-default-features"])?;
    for name in ["ring", "rustls", "cc"] {
        let found = packages.iter().find(|package| {
            package
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        assert_eq!(found, None);
    }
    Ok(())
}
