//! Compares Oxbull with other job queues. See `README.md` beside the workspace.

mod args;
mod contestant;
mod instructions;
mod markdown;
mod process;
mod proxy;
mod results;
mod session;
mod stats;
mod svg;
mod targets;
mod yardstick;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use compare_driver::{Failure, Kind, Workload};
use oxbull_testkit::RedisServer;

use args::{Args, USAGE};
use results::{Results, Run, Setting};
use session::{Outcome, Turn};

fn main() -> Result<(), Failure> {
    if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
        print!("{USAGE}");
        return Ok(());
    }
    let args = Args::parse(std::env::args().skip(1))?;
    if args.list {
        for workload in &args.workloads {
            println!("{:20} {}", workload.name, workload.what);
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare(&args))
}

async fn compare(args: &Args) -> Result<(), Failure> {
    let mut results = Results {
        setting: setting(args).await?,
        ..Results::default()
    };
    let name = if args.instructions {
        if !instructions::is_possible() {
            println!("skipped: valgrind and callgrind_control are needed to count instructions");
            return Ok(());
        }
        count(args, &mut results).await?;
        "instructions"
    } else {
        measure(args, &mut results).await?;
        "compare"
    };
    results.setting.load[1] = load();
    save(&results, &args.out, name)?;
    if args.smoke {
        let failed = results.runs.iter().find_map(|run| match &run.outcome {
            Outcome::Failed(why) => Some(format!("{}: {why}", run.workload)),
            _ => None,
        });
        return failed.map_or(Ok(()), |why| Err(why.into()));
    }
    Ok(())
}

async fn setting(args: &Args) -> Result<Setting, Failure> {
    let server = RedisServer::start().await?;
    let info = server.info("server").await?;
    let redis = info.get("redis_version").map(|it| it.trim().to_owned());
    drop(server);
    let loaded = args.workloads.iter().any(|it| it.kind == Kind::Load) && !args.instructions;
    let window = Duration::from_secs(if args.quick || args.smoke { 1 } else { 5 });
    let date = Command::new("date").args(["-u", "+%F"]).output()?.stdout;
    Ok(Setting {
        date: String::from_utf8_lossy(&date).trim().to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        redis: redis.unwrap_or_default(),
        rounds: args.rounds,
        yardstick: if loaded {
            yardstick::measure(window).await?
        } else {
            0.0
        },
        load: [load(), 0.0],
    })
}

/// The machine's load over the last minute; zero where it is not told.
fn load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

async fn measure(args: &Args, results: &mut Results) -> Result<(), Failure> {
    let began = Instant::now();
    for round in 1..=args.rounds {
        for workload in &args.workloads {
            for &contestant in &args.contestants {
                // What it cannot do, or not in time, is not tried again.
                if results.trouble(&workload.name, contestant).is_some() {
                    continue;
                }
                let rate = results.setting.yardstick * f64::from(workload.percent) / 100.0;
                let turn = Turn {
                    contestant,
                    workload,
                    jobs: size(args, workload, rate),
                    rate,
                    seed: args.seed,
                };
                let load = load();
                let outcome = turn.run(RedisServer::builder(), &mut ()).await;
                let run = Run {
                    workload: workload.name.clone(),
                    contestant,
                    round,
                    load,
                    outcome,
                };
                println!("{:5.0} s  {}", began.elapsed().as_secs_f64(), line(&run));
                results.runs.push(run);
            }
        }
    }
    Ok(())
}

/// How many jobs a driver is told to do.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "casts of floats saturate"
)]
fn size(args: &Args, workload: &Workload, rate: f64) -> usize {
    if let Some(jobs) = args.jobs {
        return jobs;
    }
    // A ramp is as long as its worker has slots.
    if workload.kind == Kind::Ramp {
        return workload.jobs;
    }
    let jobs = match workload.kind {
        Kind::Load => (workload.jobs as f64 * rate) as usize,
        _ => workload.jobs,
    };
    let jobs = if args.smoke {
        jobs.min(20)
    } else if args.quick {
        jobs / 10
    } else {
        jobs
    };
    jobs.max(1)
}

fn line(run: &Run) -> String {
    let what = match &run.outcome {
        Outcome::Done(it) => {
            let start = it.start.map(|it| format!(" start_p99_us={}", it.p99));
            format!(
                "jobs_per_s={:.0} redis_us={:.2} client_us={:.2} peak_kib={}{} seconds={:.3}",
                it.jobs_per_s,
                it.redis_us,
                it.client_us,
                it.peak_kib,
                start.unwrap_or_default(),
                it.seconds
            )
        }
        Outcome::Unsupported(why) => format!("- ({why})"),
        Outcome::Failed(why) => format!("FAILED: {why}"),
    };
    format!(
        "round {} load {:.1} {:18} {:15} {what}",
        run.round,
        run.load,
        run.workload,
        run.contestant.name()
    )
}

async fn count(args: &Args, results: &mut Results) -> Result<(), Failure> {
    for workload in &args.workloads {
        // A fixed rate, or a long queue, says nothing here that others do not.
        if matches!(
            workload.kind,
            Kind::Load | Kind::Delayed | Kind::Backlog | Kind::Ramp
        ) || workload.limit > 0
        {
            continue;
        }
        for &contestant in &args.contestants {
            let jobs = args.jobs.unwrap_or_else(|| instructions::jobs(workload));
            let count = instructions::count(contestant, workload, jobs, args.seed).await?;
            let said = match &count.instructions {
                Ok(count) => format!("{count:.0} instructions/job"),
                Err(why) => format!("- ({why})"),
            };
            println!("{:18} {:15} {said}", workload.name, contestant.name());
            results.counts.push(count);
        }
    }
    Ok(())
}

fn save(results: &Results, out: &Path, name: &str) -> Result<(), Failure> {
    fs::create_dir_all(out)?;
    let report = markdown::render(results);
    let mut raw = serde_json::to_string_pretty(results)?;
    raw.push('\n');
    fs::write(out.join(format!("{name}.json")), raw)?;
    fs::write(out.join(format!("{name}.md")), &report)?;
    if !results.runs.is_empty() {
        fs::write(out.join(format!("{name}.svg")), svg::render(results))?;
    }
    println!("\n{report}\nwritten to {}", out.display());
    Ok(())
}
