//! `docs/operations.md`: what it tells people to type is typed.

use crate::deployment::Deployment;
use crate::site::{TestResult, read};

#[derive(Debug, Default)]
struct Step {
    script: String,
    /// Lines of which each is part of the output.
    expected: Vec<String>,
}

/// The blocks marked `sh test`, each with the `text` block that follows it.
fn steps(manual: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut kind = None;
    for line in manual.lines() {
        match (line.strip_prefix("```"), kind) {
            (Some("sh test"), None) => {
                kind = Some("script");
                steps.push(Step::default());
            }
            (Some("text"), None) => kind = Some("expected"),
            (Some(""), Some(_)) => kind = None,
            (Some(_), None) => kind = Some("other"),
            (None, Some("script")) => {
                let step = steps.last_mut().unwrap();
                step.script.push_str(line);
                step.script.push('\n');
            }
            (None, Some("expected")) => steps.last_mut().unwrap().expected.push(line.to_owned()),
            _ => {}
        }
    }
    steps
}

/// An operator who follows the manual sees what it says, up to a backup.
#[tokio::test]
async fn manual_can_be_followed() -> TestResult {
    let manual = read("docs/operations.md")?;
    let mut steps = steps(&manual).into_iter();
    let prelude = steps.next().ok_or("no steps")?.script;
    let deployment = Deployment::start().await?;
    let mut followed = 0;
    for step in steps {
        let said = deployment
            .shell(&format!("{prelude}{}", step.script))
            .await?;
        for line in &step.expected {
            assert!(
                said.contains(line.as_str()),
                "{line} is not in:\n{said}\nof:\n{}",
                step.script
            );
        }
        followed += 1;
    }
    assert_eq!(followed, manual.matches("```sh test").count() - 1);
    // All seven steps of the customer's procedure are among them.
    assert!(followed >= 9, "{followed}");
    Ok(())
}
