//! `docs/operations.md`: what it tells people to type is typed.

use std::collections::BTreeMap;
use std::process::Command;

use crate::deployment::Deployment;
use crate::fixture::read;
use oxbull_testkit::TestResult;

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

const WORKERS: [&str; 3] = ["post-publishing", "webhook-processing", "analytics-refresh"];

/// The variables of each program with their defaults.
type Settings = BTreeMap<(String, String), Option<String>>;

/// The table of the manual.
fn documented(manual: &str) -> Settings {
    let section = manual.split("## Settings").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut settings = Settings::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, variable, default, programs, _, _] = cells[..] else {
            panic!("not four cells: {row}");
        };
        let programs = match programs {
            "all" => [&["gateway"], &WORKERS[..]].concat(),
            "workers" => WORKERS.to_vec(),
            named => named.split(", ").collect(),
        };
        let default = Some(default.trim_matches('`')).filter(|default| *default != "–");
        for program in programs {
            let setting = (program.to_owned(), variable.trim_matches('`').to_owned());
            let before = settings.insert(setting, default.map(str::to_owned));
            assert_eq!(before, None, "twice: {row}");
        }
    }
    settings
}

/// What the program itself says.
fn helped(program: &str, path: &str) -> TestResult<Settings> {
    let output = Command::new(path).arg("--help").env_clear().output()?;
    let help = String::from_utf8(output.stdout)?;
    let mut settings = Settings::new();
    let mut add = |variable: &str, default: Option<String>| {
        settings.insert((program.to_owned(), variable.to_owned()), default);
    };
    for option in help.split("\n      --").skip(1) {
        // The heading of the next group is no part of the option.
        let lines = option.lines().enumerate();
        let lines =
            lines.take_while(|(n, line)| *n == 0 || line.is_empty() || line.starts_with(' '));
        let option: String = lines.flat_map(|(_, line)| [line, "\n"]).collect();
        let within = |mark: &str| {
            let rest = option.split_once(mark)?.1;
            Some(rest.split(']').next()?.to_owned())
        };
        if let Some(variable) = within("[env: ") {
            // A default that refers to another variable is a sentence of the manual.
            let default = within("[default: ").filter(|default| !default.contains('`'));
            add(variable.trim_end_matches('='), default);
        }
    }
    // Secrets are named in headings and at the end.
    for line in help.lines().filter(|line| line.contains("nvironment only")) {
        let words =
            line.split(|character: char| !character.is_ascii_uppercase() && character != '_');
        for variable in words.filter(|word| word.contains('_') && word.len() > 3) {
            add(variable, None);
        }
    }
    add("RUST_LOG", Some("info".to_owned()));
    Ok(settings)
}

/// The manual names every variable of every program with its default, and no other.
#[test]
fn table_of_settings_is_that_of_the_programs() -> TestResult {
    let mut settings = Settings::new();
    for (program, path) in [
        ("gateway", env!("CARGO_BIN_EXE_gateway")),
        ("post-publishing", env!("CARGO_BIN_EXE_post-publishing")),
        (
            "webhook-processing",
            env!("CARGO_BIN_EXE_webhook-processing"),
        ),
        ("analytics-refresh", env!("CARGO_BIN_EXE_analytics-refresh")),
    ] {
        settings.extend(helped(program, path)?);
    }
    assert!(settings.len() > 60, "{settings:?}");
    let documented = documented(&read("docs/operations.md")?);
    for (setting, default) in &settings {
        assert_eq!(documented.get(setting), Some(default), "{setting:?}");
    }
    for setting in documented.keys() {
        assert!(
            settings.contains_key(setting),
            "{setting:?} is read by no program"
        );
    }
    Ok(())
}
