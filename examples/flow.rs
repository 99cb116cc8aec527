//! A job that waits for others: added as a flow, each child with what its failure means, and a handler
//! that adds children itself and steps back until they have ended.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example flow
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use oxbull::{
    ChildPolicy, Client, Context, FlowJob, FlowLimits, FlowNode, FlowProducer, Job, JobError,
    JobId, JobOptions, JobOutcome, JobResult, NewJob, Outcome, Queue,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Page {
    words: u64,
}

#[derive(Serialize, Deserialize)]
struct Rendered {
    words: u64,
}

async fn render(job: Job<Page>) -> JobResult<Rendered> {
    let words = job.data().words;
    if words == 0 {
        return Err(JobError::fatal("the page is empty")); // whatever `attempts` says
    }
    Ok(Outcome::Done(Rendered { words }))
}

/// Runs when its children have ended, and sees what they returned and why some failed.
async fn bind(job: Job<String>) -> JobResult<u64> {
    for (child, reason) in job.ignored_failures().await? {
        job.log(format!("without {child}: {reason}")).await?;
    }
    let pages = job.children_values::<Rendered>().await?.into_map()?;
    Ok(Outcome::Done(pages.values().map(|page| page.words).sum()))
}

#[derive(Clone, Serialize, Deserialize)]
struct Book {
    pages: Vec<u64>,
    split: bool,
}

/// Adds its children itself. It runs twice: until it waits for them, and from its beginning once they
/// have ended; the job's data says which of the two it is.
async fn split(job: Job<Book>, context: Context<Queue<Page>>) -> JobResult<u64> {
    if !job.data().split {
        let mut pages = Vec::new();
        for (n, words) in job.data().pages.iter().enumerate() {
            // Ids made from this job's: if the attempt is repeated, no page is added twice.
            let options = JobOptions::new().id(JobId::new(format!("{}-{n}", job.id()))?);
            pages.push(NewJob::new("page", Page { words: *words }).options(options));
        }
        let added = job.add_children(context.state(), ChildPolicy::FailParent, pages);
        added.await?.into_result()?;
        let next = Book {
            split: true,
            ..job.data().clone()
        };
        job.update_data(&next).await?;
        return Ok(Outcome::WaitForChildren);
    }
    let pages = job.children_values::<Rendered>().await?.into_map()?;
    Ok(Outcome::Done(pages.values().map(|page| page.words).sum()))
}

fn print(node: &FlowNode, indent: usize) {
    let name = node.job.as_ref().map_or("(removed)", |job| &job.name);
    let ended = node
        .kind
        .map_or(String::new(), |kind| format!(": {kind:?}"));
    println!("{:indent$}{name} of {}{ended}", "", node.key.queue_name());
    node.children
        .iter()
        .for_each(|child| print(child, indent + 2));
    if node.is_truncated() {
        println!("{:indent$}  {} children in all", "", node.counts.total());
    }
}

#[tokio::main]
async fn main() -> oxbull::Result<()> {
    let client = Client::from_env().await?;
    let reports: Queue<String> = Queue::open(&client, "example-flow-reports").await?;
    let books: Queue<Book> = Queue::open(&client, "example-flow-books").await?;
    let pages: Queue<Page> = Queue::open(&client, "example-flow-pages").await?;
    let workers = [
        pages.worker().concurrency(5).start(render).await?,
        reports.worker().start(bind).await?,
        books.worker().state(pages.clone()).start(split).await?,
    ];

    let page = |words| FlowJob::new("example-flow-pages", "page", &Page { words });
    let within = Duration::from_secs(10);
    let flows = FlowProducer::new(&client);
    for policy in [
        ChildPolicy::Ignore,
        ChildPolicy::Remove,
        ChildPolicy::FailParent,
    ] {
        let flow = FlowJob::new("example-flow-reports", "bind", &format!("{policy:?}"))
            .children(ChildPolicy::FailParent, [page(300), page(250)])
            .child(policy, page(0)); // this one fails
        let added = flows.add(&flow).await?;
        match reports.wait_for::<u64>(&added.id, within).await? {
            JobOutcome::Completed(words) => println!("{policy:?}: {words} words"),
            JobOutcome::Failed { reason } => println!("{policy:?}: {reason}"),
            _ => {}
        }
        // `depth(1)` is the job alone, as in BullMQ.
        let limits = FlowLimits::new().depth(2).max_children(10);
        if let Some(tree) = reports.flow(&added.id, limits).await? {
            print(&tree, 2);
        }
    }

    // Under `ChildPolicy::Wait`, BullMQ's default, a parent waits until somebody acts.
    let stuck =
        FlowJob::new("example-flow-reports", "bind", "Wait").child(ChildPolicy::Wait, page(0));
    let stuck = flows.add(&stuck).await?;
    for child in &stuck.children {
        pages.wait_for::<Rendered>(&child.id, within).await?;
    }
    let mut blocked = reports.blocked_parents();
    while let Some(parent) = blocked.next().await {
        for child in parent?.children {
            println!("a parent waits: its child has {:?}", child.reason);
            pages.remove_child_dependency(child.key.id()).await?;
        }
    }
    let words = reports.wait_for::<u64>(&stuck.id, within).await?;
    println!("released: {words:?}");

    let book = Book {
        pages: vec![100, 200],
        split: false,
    };
    let options = JobOptions::new();
    let words = books
        .add_and_wait::<u64>("split", &book, options, within)
        .await?;
    println!("children added by a handler: {words:?}");

    for worker in workers {
        worker.close().await;
    }
    client.close().await;
    Ok(())
}
