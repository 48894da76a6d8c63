//! Bodies on their way in and out: watched for peers that stop talking, and counted as open until
//! they are through.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use metrics::Histogram;
use preheat_proto::{Code, Error};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use tonic::{Status, body::Body};

/// How long a request may stand still before it is given up, whatever its deadline: the peer holds
/// a place, and up to a whole message of memory, by having sent five bytes. Longer than a network
/// takes to recover from a lost link, shorter than anybody waits.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Gives the request up when no byte of its body comes for [`BODY_TIMEOUT`]. `seconds` learns how
/// long the body took.
pub(crate) fn watched(request: Request<Body>, seconds: Option<Histogram>) -> Request<Body> {
    let now = Instant::now();
    request.map(|body| {
        Body::new(Arriving {
            body,
            seconds,
            start: now,
            waiting: Some(now),
            alarm: Box::pin(tokio::time::sleep(BODY_TIMEOUT)),
        })
    })
}

/// Keeps the permit of a call until its answer is sent or dropped: until then it takes memory, and
/// draining waits for it.
pub(crate) fn held(response: Response<Body>, permit: OwnedSemaphorePermit) -> Response<Body> {
    response.map(|body| {
        let _permit = permit;
        Body::new(Leaving { body, _permit })
    })
}

struct Arriving {
    body: Body,
    /// Taken when the body is through.
    seconds: Option<Histogram>,
    start: Instant,
    /// Since when the reader has been waiting for the peer; nothing while the peer waits for the reader.
    waiting: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = pin!(&mut self.body).poll_frame(cx) {
            let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            match &frame {
                // An empty frame is no progress.
                Some(Ok(frame)) if is_empty(frame) => {}
                Some(_) => self.waiting = None,
                None => {}
            }
            if (frame.is_none() || self.body.is_end_stream())
                && let Some(seconds) = self.seconds.take()
            {
                seconds.record(self.start.elapsed());
            }
            return Poll::Ready(frame);
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        // Armed again only when it rings, so that a frame costs no more than a look at the clock.
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let until = since + BODY_TIMEOUT;
            if until <= Instant::now() {
                return Poll::Ready(Some(Err(stalled())));
            }
            self.alarm.as_mut().reset(until);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn stalled() -> Status {
    let message = format!(
        "no byte of the request came for {BODY_TIMEOUT:?}: send it again, or end the stream \
         after the message"
    );
    Error::new(Code::Deadline, message).into()
}

struct Leaving {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        pin!(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// Sends a byte so often, then nothing.
    fn trickle(bytes: usize, every: Duration) -> Body {
        let frames = futures::stream::unfold(0, move |sent| async move {
            if sent == bytes {
                return std::future::pending().await;
            }
            tokio::time::sleep(every).await;
            let frame = Frame::data(Bytes::from_static(b"."));
            Some((Ok::<_, Status>(frame), sent + 1))
        });
        Body::new(StreamBody::new(frames))
    }

    async fn read(body: Body) -> (usize, Option<Status>, Duration) {
        let start = tokio::time::Instant::now();
        let mut body = watched(Request::new(body), None).into_body();
        let mut bytes = 0;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.into_data().unwrap().len(),
                Some(Err(status)) => return (bytes, Some(status), start.elapsed()),
                None => return (bytes, None, start.elapsed()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up() {
        let (bytes, status, took) = read(trickle(0, Duration::ZERO)).await;
        assert_eq!((bytes, took), (0, BODY_TIMEOUT));
        let status = status.unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("30s"), "{status}");
    }

    /// While the decode pool has more than it can do, nothing is read.
    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_the_peers_fault() {
        let every = Duration::from_secs(1);
        let mut body = watched(Request::new(trickle(3, every)), None).into_body();
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
            tokio::time::sleep(2 * BODY_TIMEOUT).await;
        }
        let start = tokio::time::Instant::now();
        let end = body.frame().await.unwrap().unwrap_err();
        assert_eq!(end.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_not() {
        let every = BODY_TIMEOUT - Duration::from_secs(1);
        let (bytes, status, took) = read(trickle(5, every)).await;
        assert_eq!(bytes, 5);
        assert!(status.is_some());
        assert_eq!(took, 5 * every + BODY_TIMEOUT);
        let (bytes, status, _) = read(Body::new(http_body_util::Full::from("whole"))).await;
        assert!((bytes, status.is_none()) == (5, true));
    }
}
