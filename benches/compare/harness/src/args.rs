//! The command line.

use std::path::PathBuf;

use compare_driver::{Failure, Workload, table};

use crate::contestant::{ALL, Contestant, folder};

/// How to use the program.
pub(crate) const USAGE: &str = "\
usage: compare [OPTION]... [WORKLOAD]...

Runs the contestants through the workloads in turn and writes a report. A WORKLOAD chooses those
whose names begin with it; without one, all are run.

  --contestants A,B   oxbull, bullmq-official, node, apalis; all by default
  --rounds N          rounds, 5 by default
  --quick             one round of a tenth of the jobs
  --smoke             one round of a handful of jobs, Oxbull only
  --instructions      count Redis' instructions per job instead, under Callgrind
  --jobs N            so many jobs instead of those of the table
  --seed N            what the jobs' data is made from, 1 by default
  --out DIR           where the report goes
  --list              name the workloads
";

/// What is to be done.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Args {
    /// The workloads.
    pub(crate) workloads: Vec<Workload>,
    /// Who takes part.
    pub(crate) contestants: Vec<Contestant>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// A tenth of the jobs.
    pub(crate) quick: bool,
    /// A handful of jobs.
    pub(crate) smoke: bool,
    /// Count instructions.
    pub(crate) instructions: bool,
    /// Only name the workloads.
    pub(crate) list: bool,
    /// Jobs, instead of the table's.
    pub(crate) jobs: Option<usize>,
    /// What data is made from.
    pub(crate) seed: u64,
    /// Where the report goes.
    pub(crate) out: PathBuf,
}

impl Args {
    /// Reads the command line.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut parsed = Self {
            workloads: Vec::new(),
            contestants: ALL.to_vec(),
            rounds: 0,
            quick: false,
            smoke: false,
            instructions: false,
            list: false,
            jobs: None,
            seed: 1,
            out: PathBuf::new(),
        };
        let mut contestants = None;
        let mut prefixes = Vec::new();
        let mut out = None;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--contestants" => contestants = Some(named(&value()?)?),
                "--rounds" => parsed.rounds = value()?.parse()?,
                "--quick" => parsed.quick = true,
                "--smoke" => parsed.smoke = true,
                "--instructions" => parsed.instructions = true,
                "--list" => parsed.list = true,
                "--jobs" => parsed.jobs = Some(value()?.parse()?),
                "--seed" => parsed.seed = value()?.parse()?,
                "--out" => out = Some(PathBuf::from(value()?)),
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}").into());
                }
                _ => prefixes.push(arg),
            }
        }
        let short = parsed.quick || parsed.smoke || parsed.instructions;
        if parsed.rounds == 0 {
            parsed.rounds = if short { 1 } else { 5 };
        }
        let partial = short && !parsed.instructions
            || parsed.smoke
            || parsed.quick
            || parsed.jobs.is_some()
            || contestants.is_some()
            || !prefixes.is_empty();
        if parsed.smoke {
            parsed.contestants = vec![Contestant::Oxbull];
        }
        parsed.contestants = contestants.unwrap_or(parsed.contestants);
        parsed.workloads = chosen(&prefixes)?;
        // Only whole runs replace the report in the repository.
        parsed.out = out.unwrap_or_else(|| {
            if partial {
                folder().join("target/results")
            } else {
                folder().join("../../docs/benchmarks")
            }
        });
        Ok(parsed)
    }
}

fn named(names: &str) -> Result<Vec<Contestant>, Failure> {
    names
        .split(',')
        .map(|name| {
            ALL.into_iter()
                .find(|contestant| contestant.name() == name)
                .ok_or_else(|| format!("there is no contestant {name}").into())
        })
        .collect()
}

fn chosen(prefixes: &[String]) -> Result<Vec<Workload>, Failure> {
    let mut table = table()?;
    for prefix in prefixes {
        if !table.iter().any(|it| it.name.starts_with(prefix)) {
            return Err(format!("there is no workload {prefix}").into());
        }
    }
    // `process-1` is not meant to choose `process-10`.
    table.retain(|workload| {
        prefixes.is_empty()
            || prefixes.iter().any(|prefix| {
                let exact = prefixes.contains(&workload.name);
                let names_one = *prefix == workload.name;
                exact || names_one || !is_name(prefix) && workload.name.starts_with(prefix)
            })
    });
    Ok(table)
}

fn is_name(prefix: &str) -> bool {
    compare_driver::named(prefix).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Failure> {
        Args::parse(line.split_whitespace().map(ToOwned::to_owned))
    }

    fn workloads(args: &Args) -> Vec<&str> {
        args.workloads.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn workloads_are_chosen_by_name_or_beginning() -> Result<(), Failure> {
        assert_eq!(workloads(&parse("process-1")?), ["process-1"]);
        assert_eq!(
            workloads(&parse("process add-one")?),
            ["add-one", "process-1", "process-10", "process-100"]
        );
        assert_eq!(parse("")?.workloads.len(), table()?.len());
        assert!(parse("procesz").is_err());
        Ok(())
    }

    #[test]
    fn only_whole_runs_go_to_the_repository() -> Result<(), Failure> {
        for whole in ["", "--rounds 7", "--instructions"] {
            assert!(parse(whole)?.out.ends_with("docs/benchmarks"), "{whole}");
        }
        for part in [
            "--quick",
            "add",
            "--contestants node",
            "--smoke",
            "--jobs 3",
        ] {
            assert!(parse(part)?.out.ends_with("target/results"), "{part}");
        }
        assert!(parse("--quick --out here")?.out.ends_with("here"));
        Ok(())
    }

    #[test]
    fn rounds_and_contestants_have_defaults() -> Result<(), Failure> {
        let args = parse("")?;
        assert_eq!((args.rounds, args.contestants.len()), (5, 4));
        let args = parse("--smoke")?;
        assert_eq!(args.contestants, [Contestant::Oxbull]);
        assert_eq!(args.rounds, 1);
        let args = parse("--quick --contestants node,oxbull --rounds 2")?;
        assert_eq!(args.contestants, [Contestant::Node, Contestant::Oxbull]);
        assert_eq!(args.rounds, 2);
        assert!(parse("--contestants bull").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--faster").is_err());
        Ok(())
    }
}
