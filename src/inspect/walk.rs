//! Going through all jobs of some states in bounded steps, while they move.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::listing::{JobOrder, ListedJob, places};
use super::search::Filter;
use crate::error::{Error, Result};
use crate::job::{JobId, JobRecord, JobState};
use crate::store::{Found, Place, Store, Window, is_signal};

/// How many ids one step looks at.
const STEP: u64 = 500;
/// How many entries of a list are read again, to find where the step before ended.
const OVERLAP: u64 = 20;
/// How many of the last entries are remembered for that: some may leave meanwhile.
const ANCHORS: usize = 8;

/// How far a [`JobStream`](super::JobStream) has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// How many jobs it has looked at.
    pub scanned: u64,
    /// How many jobs there were when it began; with those that come meanwhile there may be more.
    pub total: u64,
    /// How many of the ids it has looked at are dangling.
    pub missing: u64,
    /// How many of the jobs cannot be judged: the hash is none, or the data that a condition asks for
    /// is not JSON. They are no match.
    pub unreadable: u64,
}

/// Where a [`JobStream`](super::JobStream) has come to, so that another can go on there. As text and
/// in JSON it is short, opaque, and fit for an address; it contains ids of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor(Position);

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Position {
    state: JobState,
    place: String,
    descending: bool,
    scanned: u64,
    spot: Spot,
}

/// Where in a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
enum Spot {
    #[default]
    Start,
    /// Behind this many entries of a list, the last of which are these.
    Entry(u64, Vec<JobId>),
    /// Behind this member of a sorted set, with its score.
    Member(JobId, String),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

/// Fails with [`Error::Invalid`] for text that no cursor has made.
impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let json = URL_SAFE_NO_PAD.decode(text).ok();
        json.and_then(|json| serde_json::from_slice(&json).ok())
            .map(Self)
            .ok_or_else(not_given)
    }
}

fn not_given() -> Error {
    Error::invalid("cursor", "is none that a search has given")
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The ids that were seen, as 128 random bits each: a million of them take some 30 MB.
#[derive(Default)]
struct Seen {
    hashers: [RandomState; 2],
    ids: HashSet<[u64; 2]>,
}

impl Seen {
    /// Adds an id; says whether it is new.
    fn add(&mut self, id: &JobId) -> bool {
        let [one, two] = &self.hashers;
        let id = id.as_bytes();
        self.ids.insert([one.hash_one(id), two.hash_one(id)])
    }

    fn forget(&mut self, ids: &[JobId]) {
        let [one, two] = &self.hashers;
        for id in ids {
            let id = id.as_bytes();
            self.ids.remove(&[one.hash_one(id), two.hash_one(id)]);
        }
    }
}

/// The state of a walk between two steps.
pub(super) struct Walk {
    store: Store,
    filter: Filter,
    order: JobOrder,
    places: Vec<(JobState, Place)>,
    /// The place that is being read; behind the last when the walk is over.
    at: usize,
    spot: Spot,
    seen: Seen,
    pub(super) progress: Progress,
    counted: bool,
}

impl Walk {
    /// Starts at the beginning.
    pub(super) fn new(
        store: Store,
        filter: Filter,
        (states, order): (&[JobState], JobOrder),
    ) -> Self {
        Self {
            store,
            filter,
            order,
            places: places(states, order),
            at: 0,
            spot: Spot::Start,
            seen: Seen::default(),
            progress: Progress::default(),
            counted: false,
        }
    }

    /// Goes on where another walk was.
    pub(super) fn resume(&mut self, Cursor(cursor): Cursor) -> Result<()> {
        let same = |(state, place): &(JobState, Place)| {
            *state == cursor.state && place.suffix() == cursor.place
        };
        let order = cursor.descending == (self.order == JobOrder::Descending);
        let at = self.places.iter().position(same).filter(|_| order);
        self.at = at.ok_or_else(|| {
            let problem = "belongs to a search of other states or in another order";
            Error::invalid("cursor", problem)
        })?;
        // A cursor may have come from outside.
        let fits = self
            .places
            .get(self.at)
            .is_some_and(|(_, place)| match &cursor.spot {
                Spot::Start => true,
                Spot::Entry(..) => place.is_list(),
                Spot::Member(_, score) => {
                    let score = score.parse::<f64>();
                    !place.is_list() && score.is_ok_and(|score| !score.is_nan())
                }
            });
        if !fits {
            return Err(not_given());
        }
        self.spot = cursor.spot;
        self.progress.scanned = cursor.scanned;
        Ok(())
    }

    /// Where the walk is; `None` when it is over.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        let (state, place) = self.places.get(self.at)?;
        Some(Cursor(Position {
            state: *state,
            place: place.suffix().to_owned(),
            descending: self.order == JobOrder::Descending,
            scanned: self.progress.scanned,
            spot: self.spot.clone(),
        }))
    }

    /// Looks at the next ids. When it fails, the walk is where it was.
    pub(super) async fn step(&mut self) -> Result<Vec<ListedJob>> {
        if !self.counted {
            let places: Vec<Place> = self.places.iter().map(|(_, place)| *place).collect();
            let sizes = self.store.sizes(&places).await?;
            self.progress.total = sizes.iter().map(|size| size.jobs).sum();
            if let (Spot::Entry(offset, _), Some(size)) = (&mut self.spot, sizes.get(self.at)) {
                // What was behind has left; the signal is the one entry that is no job.
                *offset = (*offset).min(size.jobs + 1);
            }
            self.counted = true;
        }
        let Some(&(state, place)) = self.places.get(self.at) else {
            return Ok(Vec::new());
        };
        if let Some(id) = self.filter.id() {
            let found = self.find(id.clone()).await?;
            self.at = self.places.len();
            return Ok(found);
        }
        let (ids, next) = if place.is_list() {
            self.entries(place).await?
        } else {
            self.members(place).await?
        };
        let fresh: Vec<JobId> = ids
            .into_iter()
            .filter(|id| !is_signal(id.as_bytes()) && self.seen.add(id))
            .collect();
        let mut progress = self.progress;
        let found = match self.judge(state, &fresh, &mut progress).await {
            Ok(found) => found,
            Err(error) => {
                // They have not been given, so they are new once more.
                self.seen.forget(&fresh);
                return Err(error);
            }
        };
        self.progress = progress;
        if let Some(spot) = next {
            self.spot = spot;
        } else {
            self.at += 1;
            self.spot = Spot::Start;
        }
        Ok(found)
    }

    /// Whether there is nothing left to look at.
    pub(super) fn is_over(&self) -> bool {
        self.at >= self.places.len()
    }

    /// Looks one job up, wherever it is.
    async fn find(&mut self, id: JobId) -> Result<Vec<ListedJob>> {
        let state = self.store.state(&id).await?;
        let state = state.filter(|state| self.places.iter().any(|(of, _)| of == state));
        let Some(state) = state else {
            return Ok(Vec::new());
        };
        let mut progress = Progress {
            total: 1,
            ..Progress::default()
        };
        let found = self.judge(state, &[id], &mut progress).await?;
        self.progress = progress;
        Ok(found)
    }

    /// Reads jobs and returns those that match.
    async fn judge(
        &self,
        state: JobState,
        ids: &[JobId],
        progress: &mut Progress,
    ) -> Result<Vec<ListedJob>> {
        progress.scanned = progress.scanned.saturating_add(ids.len() as u64);
        let fields = self.filter.fields();
        let mut candidates = Vec::new();
        let ids = if fields.is_empty() {
            ids
        } else {
            // Of most jobs only these fields are needed.
            let found = self.store.record_fields(ids, &fields).await?;
            for (id, found) in ids.iter().zip(found) {
                if self.matches(found, progress).is_some() {
                    candidates.push(id.clone());
                }
            }
            &candidates
        };
        let mut jobs = Vec::new();
        for found in self.store.records(ids).await? {
            // A job may have changed since.
            let found = if fields.is_empty() {
                match found {
                    Found::Job(job) | Found::Unreadable(job) => Some(job),
                    Found::Missing => {
                        progress.missing += 1;
                        None
                    }
                }
            } else {
                self.matches(found, progress)
            };
            jobs.extend(found.map(|job| ListedJob { state, job: *job }));
        }
        Ok(jobs)
    }

    fn matches(&self, found: Found, progress: &mut Progress) -> Option<Box<JobRecord>> {
        match found {
            Found::Missing => progress.missing += 1,
            Found::Unreadable(_) => progress.unreadable += 1,
            Found::Job(job) => match self.filter.matches(&job) {
                Some(true) => return Some(job),
                Some(false) => {}
                None => progress.unreadable += 1,
            },
        }
        None
    }

    /// Reads the next entries of a list, from both ends of which others take and add.
    async fn entries(&self, place: Place) -> Result<(Vec<JobId>, Option<Spot>)> {
        let (offset, anchors) = match &self.spot {
            Spot::Entry(offset, anchors) => (*offset, anchors.as_slice()),
            _ => (0, [].as_slice()),
        };
        let mut from = offset.saturating_sub(OVERLAP);
        loop {
            let window = Window {
                place,
                from,
                to: from + STEP - 1,
                ascending: self.order == JobOrder::Ascending,
            };
            let mut ids = self.store.ids(&[window]).await?.pop().unwrap_or_default();
            let read = ids.len() as u64;
            let ends = read < STEP;
            let known = ids.iter().rposition(|id| anchors.contains(id));
            match known {
                // Nothing in front of the last that is known is new, whatever has left or come there.
                Some(at) if at + 1 == ids.len() && !ends => {
                    from += read - 1;
                    continue;
                }
                Some(_) => {}
                None if from == 0 => {}
                // What was in front has left, so that the next ones have moved up.
                None => {
                    from = from.saturating_sub(STEP - OVERLAP);
                    continue;
                }
            }
            let last = ids.len().saturating_sub(ANCHORS);
            let anchors = ids.get(last..).unwrap_or_default().to_vec();
            ids.drain(..known.map_or(0, |at| at + 1));
            return Ok((ids, (!ends).then_some(Spot::Entry(from + read, anchors))));
        }
    }

    /// Reads the next members of a sorted set.
    async fn members(&self, place: Place) -> Result<(Vec<JobId>, Option<Spot>)> {
        let last = match &self.spot {
            Spot::Member(id, score) => score.parse().ok().map(|score| (id.clone(), score)),
            _ => None,
        };
        let ascending = self.order == JobOrder::Ascending;
        let members = self
            .store
            .members_after(place, last, ascending, STEP)
            .await?;
        let next = members
            .last()
            .map(|(id, score)| Spot::Member(id.clone(), score.to_string()));
        Ok((members.into_iter().map(|(id, _)| id).collect(), next))
    }
}
