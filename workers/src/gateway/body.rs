//! Reading bodies, whose memory is bounded.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The longest body that is always read, in bytes. The number of connections bounds those.
pub(super) const SMALL: usize = 64 << 10;

/// Memory is taken in steps of so many bytes.
const STEP: usize = 64 << 10;

/// The memory for what bodies have beyond a small one. Nobody has shown a signature while a body is read,
/// so it is taken for bytes that have come, not for those that were announced.
#[derive(Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

/// A body, and the memory it holds.
#[derive(Debug)]
pub(super) struct ReadBody {
    pub(super) bytes: Vec<u8>,
    pub(super) held: Option<OwnedSemaphorePermit>,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than any may be.
    TooLong,
    /// Others have the memory.
    NoRoom,
    /// It ended early.
    CutOff,
}

impl BodyMemory {
    /// Memory of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Reads a body of up to `limit` bytes.
    pub(super) async fn read(&self, mut body: Body, limit: usize) -> Result<ReadBody, Unread> {
        let mut read = ReadBody {
            bytes: Vec::new(),
            held: None,
        };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::CutOff)?.into_data() else {
                continue;
            };
            let length = read.bytes.len() + data.len();
            if length > limit {
                return Err(Unread::TooLong);
            }
            if length > SMALL {
                self.hold(&mut read, length)?;
            }
            read.bytes.extend_from_slice(&data);
        }
        Ok(read)
    }

    /// Takes what is missing for a body of this length, which is more than small.
    fn hold(&self, read: &mut ReadBody, length: usize) -> Result<(), Unread> {
        let has = read
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if length <= SMALL + has {
            return Ok(());
        }
        let size = (length - SMALL).next_multiple_of(STEP);
        let missing = u32::try_from(size - has).map_err(|_| Unread::TooLong)?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(missing);
        let permit = permit.map_err(|error: TryAcquireError| {
            tracing::debug!(%error, "no memory for a body");
            Unread::NoRoom
        })?;
        match &mut read.held {
            Some(held) => held.merge(permit),
            None => read.held = Some(permit),
        }
        read.bytes.reserve_exact(SMALL + size - read.bytes.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = SMALL + 16 * STEP;

    async fn read(memory: &BodyMemory, length: usize) -> Result<ReadBody, Unread> {
        memory.read(Body::from(vec![b' '; length]), LIMIT).await
    }

    /// Large bodies share the memory until they are dropped; small ones need none of it.
    #[tokio::test]
    async fn memory_is_bounded_and_small_bodies_need_none() {
        let memory = BodyMemory::new(3 * STEP);
        let first = read(&memory, SMALL + STEP + 1).await.unwrap();
        assert_eq!(first.bytes.len(), SMALL + STEP + 1);
        let second = read(&memory, SMALL + 1).await.unwrap();
        assert_eq!(read(&memory, SMALL + 1).await.unwrap_err(), Unread::NoRoom);
        assert_eq!(read(&memory, SMALL).await.unwrap().bytes.len(), SMALL);
        drop(second);
        read(&memory, SMALL + STEP).await.unwrap();
        drop(first);
        read(&memory, SMALL + 3 * STEP).await.unwrap();
        let refused = read(&memory, LIMIT + 1).await;
        assert_eq!(refused.unwrap_err(), Unread::TooLong);
        // Those that were refused hold nothing.
        read(&memory, SMALL + 3 * STEP).await.unwrap();
    }

    /// Many bodies of a byte more than a small one leave room for a genuine large one: each takes a
    /// 64 KiB step, so it takes as many connections as there may be to fill the memory.
    #[tokio::test]
    async fn bodies_that_are_hardly_large_leave_room_for_large_ones() {
        let memory = BodyMemory::new(4 << 20);
        let mut strangers = Vec::new();
        for _ in 0..32 {
            strangers.push(read(&memory, (64 << 10) + 1).await.unwrap());
        }
        read(&memory, 1 << 20).await.unwrap();
    }
}
