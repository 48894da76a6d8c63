//! The body of a call on its way in: kept as the frames that it comes in, so that any number of
//! attempts can send it from its first byte while its tail still arrives. Nothing is copied but tiny
//! frames, and it is read as it comes, whether or not an attempt is under way: a body that waits in
//! HTTP/2's window would hold up the other calls of its connection.

mod budget;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::{Body as HttpBody, Frame};
use preheat_proto::{Code, Error as CallError, limits};
use tokio::{sync::Notify, task::AbortHandle};
use tonic::{Status, body::Body};

pub(super) use self::budget::Budget;

/// Bytes that one call may have here and still be sent again: a message with its prefix, and some.
/// A stream that is longer goes on, but cannot be sent again.
pub(super) const CALL_BYTES: usize = limits::MAX_MESSAGE_BYTES + 64 * 1024;
/// Once a call will not be sent again it only passes through, and needs no more than keeps both
/// sides busy.
const PASSING_BYTES: usize = 4 * 1024 * 1024;
/// Frames up to this are copied: a slice keeps the whole buffer alive that it was read into.
const COPY_UP_TO: usize = 4 * 1024;
/// What a frame costs beside its bytes, generously, so that tiny frames do not evade the bounds.
const FRAME_BYTES: usize = 128;

/// The body of a call. Dropping it ends the reading, and all attempts that still send it.
#[derive(Debug)]
pub(super) struct Inflow {
    shared: Arc<Shared>,
    pump: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    budget: Arc<Budget>,
    /// Told when the body breaks.
    broke: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// Frames that were here before those, and are gone.
    gone: usize,
    /// What `frames` count in the budget.
    held: usize,
    /// Bytes that have come.
    bytes: u64,
    end: Option<Result<(), CallError>>,
    readers: Vec<Reader>,
    /// No attempt will begin any more.
    passing: bool,
    /// The owner is gone.
    dropped: bool,
    next_reader: u64,
    /// Whoever waits for room.
    pump: Option<Waker>,
    /// Whoever looks at the first bytes.
    peeker: Option<Waker>,
}

#[derive(Debug)]
struct Reader {
    id: u64,
    /// Index of the frame that it sends next, those gone included.
    next: usize,
    waker: Option<Waker>,
}

impl Inflow {
    /// Begins to read. Must be called inside a runtime.
    pub(super) fn new(body: Body, budget: Arc<Budget>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            budget,
            broke: Notify::new(),
        });
        // Most bodies of small calls are here already: they need no task.
        let mut pump = Box::pin(pump(body, Arc::clone(&shared)));
        let pump = match pump.as_mut().now_or_never() {
            Some(()) => None,
            None => Some(tokio::spawn(pump).abort_handle()),
        };
        Self { shared, pump }
    }

    /// The body from its first byte; `None` once that is gone.
    pub(super) fn replay(&self) -> Option<Replay> {
        let mut state = self.shared.lock();
        if state.gone > 0 || state.passing {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.push(Reader {
            id,
            next: 0,
            waker: None,
        });
        drop(state);
        Some(Replay {
            shared: Arc::clone(&self.shared),
            id,
        })
    }

    /// No attempt begins any more: what was sent need not be kept.
    pub(super) fn pass(&self) {
        let mut state = self.shared.lock();
        state.passing = true;
        self.shared.forget(&mut state);
    }

    /// Whether it has ended, and with how many bytes.
    pub(super) fn whole(&self) -> Option<u64> {
        let state = self.shared.lock();
        matches!(state.end, Some(Ok(()))).then_some(state.bytes)
    }

    /// Why it could not be read to its end, if so.
    pub(super) fn broken(&self) -> Option<CallError> {
        self.shared.lock().end.clone()?.err()
    }

    /// Waits until it breaks, for ever if it does not. For one waiter.
    pub(super) async fn breaks(&self) -> CallError {
        loop {
            self.shared.broke.notified().await;
            if let Some(error) = self.broken() {
                return error;
            }
        }
    }

    /// Waits until `look` makes something of the first bytes, up to `most`; it is told whether no
    /// more will come.
    pub(super) async fn peek<T>(
        &self,
        most: usize,
        mut look: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> Option<T> {
        let mut seen = usize::MAX;
        poll_fn(|context| {
            let mut state = self.shared.lock();
            let ended = state.end.is_some();
            if state.frames.len() != seen || ended {
                seen = state.frames.len();
                let mut head = Vec::new();
                for frame in &state.frames {
                    let part = frame.len().min(most - head.len());
                    head.extend_from_slice(&frame[..part]);
                }
                let all = ended || head.len() == most;
                let made = look(&head, all);
                if made.is_some() || all {
                    return Poll::Ready(made);
                }
            }
            state.peeker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
        let mut state = self.shared.lock();
        state.dropped = true;
        for reader in &mut state.readers {
            wake(&mut reader.waker);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops frames that nobody will read, if there are such.
    fn forget(&self, state: &mut State) {
        if !state.passing && state.held < CALL_BYTES {
            return;
        }
        let slowest = state.readers.iter().map(|reader| reader.next).min();
        // With nobody reading, an attempt may still begin, unless it may not.
        let Some(slowest) = slowest.or_else(|| state.passing.then_some(usize::MAX)) else {
            return;
        };
        while state.gone < slowest
            && let Some(frame) = state.frames.pop_front()
        {
            let counted = frame.len() + FRAME_BYTES;
            state.held -= counted;
            state.gone += 1;
            self.budget.give(counted);
        }
        if state.has_room() {
            wake(&mut state.pump);
        }
    }

    fn push(&self, frame: Bytes) -> Result<(), CallError> {
        let counted = frame.len() + FRAME_BYTES;
        self.budget.take(counted)?;
        let frame = match frame.len() {
            ..=COPY_UP_TO => Bytes::copy_from_slice(&frame),
            _ => frame,
        };
        let mut state = self.lock();
        state.held += counted;
        state.bytes += frame.len() as u64;
        state.frames.push_back(frame);
        state.wake();
        Ok(())
    }

    fn end(&self, end: Result<(), CallError>) {
        let broke = end.is_err();
        let mut state = self.lock();
        state.end = Some(end);
        state.wake();
        drop(state);
        if broke {
            // Kept for a waiter that is still to come.
            self.broke.notify_one();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.give(state.held);
    }
}

impl State {
    fn has_room(&self) -> bool {
        let bound = if self.passing {
            PASSING_BYTES
        } else {
            CALL_BYTES
        };
        self.held < bound
    }

    fn wake(&mut self) {
        wake(&mut self.peeker);
        for reader in &mut self.readers {
            wake(&mut reader.waker);
        }
    }
}

/// Reads the body to its end.
async fn pump(mut body: Body, shared: Arc<Shared>) {
    let end = loop {
        poll_fn(|context| {
            let mut state = shared.lock();
            if state.has_room() {
                return Poll::Ready(());
            }
            state.pump = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        match frame.await.map(|result| result.map(Frame::into_data)) {
            Some(Ok(Ok(data))) if data.is_empty() => {}
            Some(Ok(Ok(data))) => {
                if let Err(full) = shared.push(data) {
                    break Err(full);
                }
            }
            // A request of gRPC has no trailers.
            Some(Ok(Err(_))) => {}
            Some(Err(_)) => {
                let message = "the caller hung up before its request was whole";
                break Err(CallError::new(Code::Cancelled, message));
            }
            None => break Ok(()),
        }
    };
    shared.end(end);
}

/// The body once more, for one attempt.
pub(super) struct Replay {
    shared: Arc<Shared>,
    id: u64,
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.dropped {
            return Poll::Ready(Some(Err(given_up())));
        }
        let reader = state.readers.iter_mut().find(|one| one.id == self.id);
        let reader = reader.expect("it is registered until it is dropped");
        if let Some(frame) = state.frames.get(reader.next - state.gone) {
            let frame = frame.clone();
            reader.next += 1;
            self.shared.forget(state);
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(_)) => Poll::Ready(Some(Err(given_up()))),
            None => {
                reader.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Lets the last frame also be the end of the stream.
    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        let next = state.readers.iter().find(|reader| reader.id == self.id);
        next.is_some_and(|reader| {
            matches!(state.end, Some(Ok(()))) && reader.next == state.gone + state.frames.len()
        })
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.readers.retain(|reader| reader.id != self.id);
        self.shared.forget(&mut state);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Ends the stream to the replica with CANCEL.
fn given_up() -> Status {
    Status::from_error(Box::new(h2::Error::from(h2::Reason::CANCEL)))
}
