//! The lists and sorted sets that hold the jobs of a state, read in bounded pieces.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::client::Repeat;
use crate::error::{Error, Result};
use crate::job::{JobId, JobRecord, JobState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

const WHAT: &str = "the jobs of a state";

/// How many ids are read at once: Redis takes some 100 us for them.
pub(super) const IDS_MAX: u64 = 1_000;
/// How many hashes are asked for at once, which bounds what their answers hold in memory.
pub(super) const HASHES_MAX: usize = 50;

/// A list or sorted set of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Wait,
    /// Where BullMQ 5 clients park waiting jobs during a pause.
    Paused,
    Active,
    Prioritized,
    Delayed,
    WaitingChildren,
    Completed,
    Failed,
}

impl Place {
    /// The places of a state, that of the jobs which run first at the front.
    pub(crate) fn of(state: JobState) -> &'static [Self] {
        match state {
            // A resume puts parked jobs in front of those that wait.
            JobState::Waiting => &[Self::Paused, Self::Wait],
            JobState::Active => &[Self::Active],
            JobState::Prioritized => &[Self::Prioritized],
            JobState::Delayed => &[Self::Delayed],
            JobState::WaitingChildren => &[Self::WaitingChildren],
            JobState::Completed => &[Self::Completed],
            JobState::Failed => &[Self::Failed],
        }
    }

    /// The suffix of its key.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Paused => "paused",
            Self::Active => "active",
            Self::Prioritized => "prioritized",
            Self::Delayed => "delayed",
            Self::WaitingChildren => "waiting-children",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether it is a list, whose head is its newest entry.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Wait | Self::Paused | Self::Active)
    }

    /// Whether old versions leave a wake-up signal in it.
    pub(super) fn may_hold_signals(self) -> bool {
        matches!(self, Self::Wait | Self::Paused)
    }
}

/// How many jobs a place holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PlaceSize {
    pub(crate) jobs: u64,
    /// Whether the entry at the tail is a wake-up signal of an old version, which is no job.
    pub(crate) signal: bool,
}

impl PlaceSize {
    /// Reads a length, and for lists the entry at the tail.
    pub(super) fn read(length: &Value, tail: Option<&Value>, what: &str) -> Result<Self> {
        let length = u64::try_from(reply::int(length, what)?).unwrap_or(0);
        let signal = matches!(tail, Some(Value::BulkString(id)) if is_signal(id));
        Ok(Self {
            jobs: length.saturating_sub(u64::from(signal)),
            signal,
        })
    }
}

/// Indexes of a place to be read, both included, counted in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) place: Place,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) ascending: bool,
}

impl Window {
    fn len(&self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }

    /// Cuts it into windows that can be read at once.
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        let mut from = Some(self.from).filter(|from| *from <= self.to);
        std::iter::from_fn(move || {
            let start = from?;
            let to = self.to.min(start.saturating_add(IDS_MAX - 1));
            from = (to < self.to).then(|| to + 1);
            Some(Self {
                from: start,
                to,
                ..self
            })
        })
    }

    pub(super) fn command(self, store: &Store) -> Command {
        let key = store.keys.key(self.place.suffix());
        let index = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        let (from, to) = (index(self.from), index(self.to));
        match (self.place.is_list(), self.ascending) {
            // The tail is first.
            (true, true) => Command::new("LRANGE").arg(key).arg(!to).arg(!from),
            (true, false) => Command::new("LRANGE").arg(key).arg(from).arg(to),
            (false, true) => Command::new("ZRANGE").arg(key).arg(from).arg(to),
            (false, false) => Command::new("ZREVRANGE").arg(key).arg(from).arg(to),
        }
    }

    /// Reads the ids in the order of reading.
    fn read(self, answer: Value) -> Result<Vec<JobId>> {
        let mut ids = reply::ids(answer, WHAT)?;
        if self.place.is_list() && self.ascending {
            ids.reverse();
        }
        Ok(ids)
    }
}

/// A member of a sorted set and its score.
pub(crate) type Member = (JobId, f64);

/// A sorted set that is read in one order.
pub(super) struct Ordered {
    pub(super) key: String,
    pub(super) ascending: bool,
}

impl Ordered {
    /// Whether a member comes behind `last`; members of one score are ordered by their bytes.
    fn is_behind(&self, (id, score): &Member, (last, last_score): &Member) -> bool {
        let order = score
            .partial_cmp(last_score)
            .unwrap_or(Ordering::Equal)
            .then_with(|| id.as_bytes().cmp(last.as_bytes()));
        if self.ascending {
            order.is_gt()
        } else {
            order.is_lt()
        }
    }

    fn behind(&self, mut members: Vec<Member>, last: &Member) -> Vec<Member> {
        members.retain(|member| self.is_behind(member, last));
        members
    }
}

/// What was found of a job.
#[derive(Debug)]
pub(crate) enum Found {
    Job(Box<JobRecord>),
    /// There is no hash.
    Missing,
    /// The key is no hash, as the record says.
    Unreadable(Box<JobRecord>),
}

impl Store {
    /// Counts the jobs of places at one moment.
    pub(crate) async fn sizes(&self, places: &[Place]) -> Result<Vec<PlaceSize>> {
        let mut batch = Batch::new();
        for place in places {
            let key = self.keys.key(place.suffix());
            if place.may_hold_signals() {
                batch.push(Command::new("LINDEX").arg(&key).arg(-1));
            }
            let count = if place.is_list() { "LLEN" } else { "ZCARD" };
            batch.push(Command::new(count).arg(&key));
        }
        if batch.len() == 0 {
            return Ok(Vec::new());
        }
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let mut answer = || answers.next().ok_or_else(|| reply::unexpected(WHAT));
        let mut sizes = Vec::with_capacity(places.len());
        for place in places {
            let tail = place.may_hold_signals().then(&mut answer).transpose()?;
            sizes.push(PlaceSize::read(&answer()?, tail.as_ref(), WHAT)?);
        }
        Ok(sizes)
    }

    /// Reads the ids of each window. Up to a thousand ids are read at one moment.
    pub(crate) async fn ids(&self, windows: &[Window]) -> Result<Vec<Vec<JobId>>> {
        let mut ids: Vec<Vec<JobId>> = windows.iter().map(|_| Vec::new()).collect();
        let mut pieces = VecDeque::new();
        for (at, window) in windows.iter().enumerate() {
            pieces.extend(window.pieces().map(|piece| (at, piece)));
        }
        while !pieces.is_empty() {
            let mut batch = Batch::new();
            let mut asked = Vec::new();
            let mut room = IDS_MAX;
            while let Some((at, piece)) = pieces.pop_front() {
                if piece.len() > room {
                    pieces.push_front((at, piece));
                    break;
                }
                room -= piece.len();
                batch.push(piece.command(self));
                asked.push((at, piece));
            }
            let answers = self.snapshot(&batch, WHAT).await?;
            for ((at, piece), answer) in asked.into_iter().zip(answers) {
                if let Some(ids) = ids.get_mut(at) {
                    ids.extend(piece.read(answer)?);
                }
            }
        }
        Ok(ids)
    }

    /// Reads `count` members of a sorted set that come behind `last` in the order of reading, with
    /// their scores. Members that stay where they are are never passed over, whatever happens to
    /// those before.
    pub(crate) async fn members_after(
        &self,
        place: Place,
        last: Option<Member>,
        ascending: bool,
        count: u64,
    ) -> Result<Vec<Member>> {
        let set = Ordered {
            key: self.keys.key(place.suffix()),
            ascending,
        };
        match last {
            Some(last) => self.members_behind(&set, &last, count).await,
            None => self.by_score(&set, None, (0, count)).await,
        }
    }

    /// Reads `count` members that come behind `last`.
    pub(super) async fn members_behind(
        &self,
        set: &Ordered,
        last: &Member,
        count: u64,
    ) -> Result<Vec<Member>> {
        let mut skipped = 0;
        loop {
            let window = (skipped, count);
            let members = self.by_score(set, Some(last.1), window).await?;
            let full = members.len() as u64 >= count;
            let behind = set.behind(members, last);
            if !behind.is_empty() || !full {
                return Ok(behind);
            }
            // Very many members have the same score.
            if let Some(behind) = self.by_rank(set, last, count).await? {
                return Ok(behind);
            }
            skipped += count;
        }
    }

    /// Reads members from a score on.
    async fn by_score(
        &self,
        set: &Ordered,
        from: Option<f64>,
        (offset, count): (u64, u64),
    ) -> Result<Vec<Member>> {
        let (name, start, end) = if set.ascending {
            ("ZRANGEBYSCORE", "-inf", "+inf")
        } else {
            ("ZREVRANGEBYSCORE", "+inf", "-inf")
        };
        let start = from.map_or_else(|| start.to_owned(), |score| score.to_string());
        let command = Command::new(name)
            .arg(&set.key)
            .arg(start)
            .arg(end)
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(offset)
            .arg(count);
        scored(self.connection.request(command, Repeat::Safe).await?)
    }

    /// Looks for the members behind `last` among those of its score; `None` when they keep moving.
    async fn by_rank(
        &self,
        set: &Ordered,
        last: &Member,
        count: u64,
    ) -> Result<Option<Vec<Member>>> {
        let score = last.1.to_string();
        let beyond = format!("({score}");
        let before = if set.ascending {
            ["-inf", &beyond]
        } else {
            [&beyond, "+inf"]
        };
        for _ in 0..3 {
            let mut low = self.count(set, before).await?;
            let mut high = low + self.count(set, [&score, &score]).await?;
            while low < high {
                let middle = low.midpoint(high);
                let at = self.ranked(set, (middle, middle)).await?;
                if at.first().is_some_and(|at| !set.is_behind(at, last)) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            // One more in front shows whether they have moved since.
            let from = low.saturating_sub(1);
            let members = self.ranked(set, (from, from + count)).await?;
            if from == 0 || members.first().is_some_and(|one| !set.is_behind(one, last)) {
                return Ok(Some(set.behind(members, last)));
            }
        }
        Ok(None)
    }

    async fn count(&self, set: &Ordered, [from, to]: [&str; 2]) -> Result<u64> {
        let command = Command::new("ZCOUNT").arg(&set.key).arg(from).arg(to);
        let count = self.connection.request(command, Repeat::Safe).await?;
        Ok(u64::try_from(reply::int(&count, WHAT)?).unwrap_or(0))
    }

    /// Reads members by their numbers in the order of reading.
    pub(super) async fn ranked(
        &self,
        set: &Ordered,
        (from, to): (u64, u64),
    ) -> Result<Vec<Member>> {
        let name = if set.ascending { "ZRANGE" } else { "ZREVRANGE" };
        let command = Command::new(name)
            .arg(&set.key)
            .arg(from)
            .arg(to)
            .arg("WITHSCORES");
        scored(self.connection.request(command, Repeat::Safe).await?)
    }

    /// Reads jobs.
    pub(crate) async fn records(&self, ids: &[JobId]) -> Result<Vec<Found>> {
        self.hashes(
            ids,
            |key| Command::new("HGETALL").arg(key),
            |id, answer| {
                let fields = reply::fields(answer, "a job")?;
                Ok(decoded(id, fields))
            },
        )
        .await
    }

    /// Reads some fields of jobs; a hash that has none of them counts as missing.
    pub(crate) async fn record_fields(&self, ids: &[JobId], names: &[&str]) -> Result<Vec<Found>> {
        let command = |key| Command::new("HMGET").arg(key).args(names);
        self.hashes(ids, command, |id, answer| {
            let mut fields = Vec::new();
            for (name, value) in names.iter().zip(reply::items(answer, "a job")?) {
                if let Value::BulkString(value) = value {
                    fields.push((name.as_bytes().to_vec(), value));
                }
            }
            Ok(decoded(id, fields))
        })
        .await
    }

    async fn hashes(
        &self,
        ids: &[JobId],
        command: impl Fn(Vec<u8>) -> Command,
        read: impl Fn(&JobId, Value) -> Result<Found>,
    ) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(HASHES_MAX) {
            let mut batch = Batch::new();
            for id in ids {
                batch.push(command(self.keys.job(id)));
            }
            let answers = self.connection.pipeline(&batch, Repeat::Safe).await?;
            if answers.len() != ids.len() {
                return Err(reply::unexpected(WHAT));
            }
            for (id, answer) in ids.iter().zip(answers) {
                found.push(match answer {
                    Ok(answer) => read(id, answer)?,
                    // One key of the wrong type must not hide the others.
                    Err(Error::Server(error)) => {
                        let mut job = JobRecord::new(id.clone());
                        job.problems = vec![format!("hash: {error}")];
                        Found::Unreadable(Box::new(job))
                    }
                    Err(error) => return Err(error),
                });
            }
        }
        Ok(found)
    }
}

/// Whether an entry of a list is a wake-up signal of an old version: no job has such an id.
pub(crate) fn is_signal(id: &[u8]) -> bool {
    id.starts_with(b"0:")
}

fn decoded(id: &JobId, fields: Vec<(Vec<u8>, Vec<u8>)>) -> Found {
    if fields.is_empty() {
        return Found::Missing;
    }
    Found::Job(Box::new(wire::decode_record(id.clone(), fields)))
}

/// Reads members and their scores.
fn scored(answer: Value) -> Result<Vec<Member>> {
    let score = |value: &Value| value.as_float().ok_or_else(|| reply::unexpected(WHAT));
    let mut members = Vec::new();
    let mut items = reply::items(answer, WHAT)?.into_iter();
    while let Some(item) = items.next() {
        let (id, value) = match item {
            // RESP3 nests them.
            Value::Array(pair) => {
                let mut pair = pair.into_iter();
                (pair.next(), pair.next())
            }
            id => (Some(id), items.next()),
        };
        let (Some(id), Some(value)) = (id, value) else {
            return Err(reply::unexpected(WHAT));
        };
        members.push((reply::id(id, WHAT)?, score(&value)?));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However wide a window is, it is read a thousand ids at a time, each once.
    #[test]
    fn windows_are_read_in_pieces() {
        let window = |from, to| Window {
            place: Place::Wait,
            from,
            to,
            ascending: true,
        };
        let bounds = |wide: Window| -> Vec<_> {
            wide.pieces().map(|piece| (piece.from, piece.to)).collect()
        };
        assert_eq!(bounds(window(0, 0)), [(0, 0)]);
        assert_eq!(bounds(window(5, 1_004)), [(5, 1_004)]);
        assert_eq!(
            bounds(window(0, 2_000)),
            [(0, 999), (1_000, 1_999), (2_000, 2_000)]
        );
        assert_eq!(bounds(window(3, 2)), []);
    }
}
