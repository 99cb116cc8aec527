//! The posts of an account while they are read.

use crate::graph::{PostPage, PostRecord};

/// Metrics that were left out of the request for a page, because some of its posts lack them.
#[derive(Debug)]
pub(super) struct Search<'m> {
    pub(super) metrics: Vec<&'m str>,
    /// Where the page begins, and how many posts it has.
    pub(super) after: Option<String>,
    pub(super) posts: usize,
    /// Whether the page was refused for the sake of just these metrics.
    pub(super) refused: bool,
}

impl<'m> Search<'m> {
    pub(super) fn of(metrics: Vec<&'m str>, refused: bool) -> Self {
        Self {
            metrics,
            after: None,
            posts: 0,
            refused,
        }
    }
}

/// The posts read so far.
#[derive(Debug)]
pub(super) struct Posts {
    pub(super) read: Vec<PostRecord>,
    /// How many more are to be read, if there are so many.
    pub(super) wanted: usize,
    /// Where to go on.
    pub(super) next: Option<String>,
    pub(super) complete: bool,
}

impl Posts {
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            read: Vec::new(),
            wanted,
            next: None,
            complete: false,
        }
    }

    /// Adds the insights of posts that were read before.
    pub(super) fn merge(&mut self, page: PostPage) {
        for post in page.posts {
            if let Some(known) = self.read.iter_mut().find(|known| known.id == post.id) {
                known.insights.add(post.insights);
            }
        }
    }

    pub(super) fn add(&mut self, page: PostPage) {
        // A page may be short although others follow; an empty one would lead nowhere.
        self.wanted = match &page.next {
            Some(_) if !page.posts.is_empty() => self.wanted.saturating_sub(page.posts.len()),
            _ => 0,
        };
        self.next = page.next;
        self.read.extend(page.posts);
    }
}
