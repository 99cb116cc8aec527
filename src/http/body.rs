//! The response body of the layers.

#[cfg(feature = "http-cache")]
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A response body: the inner service's, or one that a layer made or has read already.
pub struct LayerBody<B: Body>(Kind<B>);

enum Kind<B: Body> {
    /// Everything is here.
    Whole(Option<Bytes>),
    Inner(Pin<Box<B>>),
    /// Read in part: what was read, and what comes after it.
    #[cfg(feature = "http-cache")]
    Begun {
        read: VecDeque<Frame<Bytes>>,
        rest: Rest<B>,
    },
}

#[cfg(feature = "http-cache")]
enum Rest<B: Body> {
    Body(Pin<Box<B>>),
    Failed(Option<Box<B::Error>>),
}

impl<B: Body> LayerBody<B> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    pub(super) fn inner(body: B) -> Self {
        Self(Kind::Inner(Box::pin(body)))
    }
}

impl<B: Body> fmt::Debug for LayerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerBody").finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes>> Body for LayerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Inner(body) => body.as_mut().poll_frame(cx),
            #[cfg(feature = "http-cache")]
            Kind::Begun { read, rest } => match (read.pop_front(), rest) {
                (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
                (None, Rest::Body(body)) => body.as_mut().poll_frame(cx),
                (None, Rest::Failed(error)) => Poll::Ready(error.take().map(|error| Err(*error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Inner(body) => body.is_end_stream(),
            #[cfg(feature = "http-cache")]
            Kind::Begun { read, rest } => {
                read.is_empty()
                    && match rest {
                        Rest::Body(body) => body.is_end_stream(),
                        Rest::Failed(error) => error.is_none(),
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Inner(body) => body.size_hint(),
            #[cfg(feature = "http-cache")]
            Kind::Begun { read, rest } => {
                let here = read.iter().filter_map(Frame::data_ref);
                let here: u64 = here.map(|bytes| bytes.len() as u64).sum();
                let mut hint = SizeHint::new();
                if let Rest::Body(body) = rest {
                    let rest = body.size_hint();
                    hint.set_lower(here.saturating_add(rest.lower()));
                    if let Some(upper) = rest.upper() {
                        hint.set_upper(here.saturating_add(upper));
                    }
                }
                hint
            }
        }
    }
}

/// Reads a body of at most `limit` bytes. One that is longer, fails or has trailers comes back
/// as if nothing had been read from it.
#[cfg(feature = "http-cache")]
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, LayerBody<B>>
where
    B: Body<Data = Bytes>,
{
    use std::future::poll_fn;

    if body.size_hint().lower() > limit as u64 {
        return Err(LayerBody::inner(body));
    }
    let mut body = Box::pin(body);
    let mut read = VecDeque::new();
    let mut size = 0_usize;
    let rest = loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return Ok(join(read)),
            Some(Err(error)) => break Rest::Failed(Some(Box::new(error))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map(Bytes::len);
                read.push_back(frame);
                size = size.saturating_add(length.unwrap_or(0));
                if length.is_none() || size > limit {
                    break Rest::Body(body);
                }
            }
        }
    };
    Err(LayerBody(Kind::Begun { read, rest }))
}

#[cfg(feature = "http-cache")]
fn join(read: VecDeque<Frame<Bytes>>) -> Bytes {
    let mut chunks: Vec<Bytes> = read
        .into_iter()
        .filter_map(|frame| frame.into_data().ok())
        .collect();
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.pop().unwrap_or_default(),
        _ => chunks.concat().into(),
    }
}
