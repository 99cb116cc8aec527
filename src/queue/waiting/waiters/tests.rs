//! What ends a wait, in any order of events and stored states.

use super::*;

fn job() -> JobId {
    JobId::existing("j")
}

fn at(sequence: u64) -> EventId {
    EventId::new(1, sequence)
}

fn done() -> JobOutcome<String> {
    JobOutcome::Completed("1".to_owned())
}

fn failed(reason: &str) -> JobOutcome<String> {
    JobOutcome::Failed {
        reason: reason.to_owned(),
    }
}

/// A waiter whose job is being looked up.
fn waiting() -> (Waiters, WaiterKey, oneshot::Receiver<Answer>) {
    let mut waiters = Waiters::new();
    let (number, ended) = waiters.add(&job());
    waiters.request_check((job(), number));
    let [key] = <[_; 1]>::try_from(waiters.take_unchecked(100)).unwrap();
    (waiters, key, ended)
}

/// A job that has ended before answers at once, and the place is free.
#[tokio::test]
async fn stored_end_is_the_answer() {
    let (mut waiters, key, ended) = waiting();
    waiters.record_states(at(5), [(key, StoredEnd::Ended(failed("boom")))]);
    assert_eq!(ended.await.unwrap().unwrap(), failed("boom"));
    assert!(waiters.is_empty() && !waiters.waits_for(&job()));
}

/// The reader may be behind: an end that it reports late was undone by a retry if the job is open.
#[tokio::test]
async fn end_older_than_an_open_state_does_not_count() {
    let (mut waiters, key, mut ended) = waiting();
    waiters.record_event(&job(), at(3), &Some(failed("first")));
    waiters.record_states(at(5), [(key, StoredEnd::Open)]);
    waiters.record_event(&job(), at(4), &Some(failed("second")));
    assert!(ended.try_recv().is_err());
    waiters.record_event(&job(), at(6), &Some(done()));
    assert_eq!(ended.await.unwrap().unwrap(), done());
}

/// The reader may be ahead of the look-up: what it saw meanwhile is not lost.
#[tokio::test]
async fn end_seen_during_the_look_up_counts_if_it_is_newer() {
    let (mut waiters, key, ended) = waiting();
    waiters.record_event(&job(), at(6), &Some(done()));
    waiters.record_states(at(5), [(key, StoredEnd::Open)]);
    assert_eq!(ended.await.unwrap().unwrap(), done());
}

/// A job that is gone may have ended: that is known only once the events up to the look-up are read.
#[tokio::test]
async fn missing_job_is_decided_when_the_events_are_read() {
    let (mut waiters, key, mut ended) = waiting();
    waiters.advance_to(at(2));
    waiters.record_states(at(5), [(key, StoredEnd::Missing)]);
    assert!(ended.try_recv().is_err());
    waiters.record_event(&job(), at(4), &Some(done()));
    waiters.advance_to(at(5));
    assert_eq!(ended.await.unwrap().unwrap(), done());

    let (mut waiters, key, ended) = waiting();
    waiters.advance_to(at(5));
    waiters.record_states(at(5), [(key, StoredEnd::Missing)]);
    assert!(matches!(ended.await.unwrap(), Err(Error::JobMissing(id)) if id == job()));
}

/// After a gap in the stream a job that was there and is not any more has been removed.
#[tokio::test]
async fn job_that_vanishes_in_a_gap_is_removed() {
    let (mut waiters, key, ended) = waiting();
    waiters.record_states(at(5), [(key, StoredEnd::Open)]);
    waiters.recheck_all();
    let again = waiters.take_unchecked(100).remove(0);
    waiters.advance_to(at(9));
    waiters.record_states(at(9), [(again, StoredEnd::Missing)]);
    assert!(matches!(ended.await.unwrap(), Err(Error::JobRemoved(id)) if id == job()));
}

/// Jobs whose look-up is under way are not looked up twice.
#[test]
fn recheck_requests_nothing_that_is_requested() {
    let (mut waiters, key, _ended) = waiting();
    waiters.recheck_all();
    assert!(!waiters.has_unchecked());
    waiters.request_checks(vec![key]);
    assert!(waiters.has_unchecked());
}

#[tokio::test]
async fn error_ends_every_wait() {
    let (mut waiters, _, ended) = waiting();
    let (_, second) = waiters.add(&JobId::existing("k"));
    waiters.fail_all(Error::Closed);
    for ended in [ended, second] {
        assert!(matches!(ended.await.unwrap(), Err(Error::Closed)));
    }
    assert!(waiters.idle_since().is_some());
}

/// A second waiter for the same job is not touched by the first one's leaving.
#[test]
fn waiters_leave_one_by_one() {
    let mut waiters = Waiters::new();
    let (first, _first) = waiters.add(&job());
    let (second, _second) = waiters.add(&job());
    drop(waiters.remove(&job(), first));
    assert!(waiters.waits_for(&job()) && waiters.idle_since().is_none());
    drop(waiters.remove(&job(), second));
    assert!(waiters.remove(&job(), second).is_none());
    assert!(waiters.idle_since().is_some());
}
