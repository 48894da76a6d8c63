//! A call from its first payload to its answer. Payloads go to the decode pool as they come, so that
//! the first frames of a clip are decoded while the last are on their way.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Engine, Refusal,
    clip::Clip,
    decode::Job,
    finish::Plan,
    generation::Generation,
    item::{Answer, Fault, FaultKind, Outcome, Source},
    schedule::Event,
};

/// A call that is being served. Dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Underway<'a> {
    pub(super) engine: &'a Engine,
    pub(super) model: Arc<Generation>,
    pub(super) plan: Plan,
    pub(super) deadline: Instant,
    /// Items of which payloads are missing.
    pub(super) clips: VecDeque<Arc<Clip>>,
    pub(super) replies: Vec<oneshot::Receiver<Outcome>>,
    /// Payloads that the items consume, and those that have come, of the first clip and of all.
    pub(super) expected: usize,
    pub(super) frame: usize,
    pub(super) fed: usize,
    /// Whichever way this ends, the batcher then looks for items that lost their caller.
    pub(super) _nudge: Nudge<'a>,
}

/// Wakes the scheduling thread on drop.
#[derive(Debug)]
pub(super) struct Nudge<'a>(pub(super) &'a flume::Sender<Event>);

impl Drop for Nudge<'_> {
    fn drop(&mut self) {
        // If the queue is full the thread is awake anyway.
        let _ = self.0.try_send(Event::Nudge);
    }
}

impl Underway<'_> {
    /// Takes the next payload in. Waits while the decode pool has more than it can do, and so holds
    /// back who sends.
    ///
    /// # Errors
    /// Where the items consume no more, or there is no room.
    pub(crate) async fn feed(&mut self, payload: Bytes) -> Result<(), Refusal> {
        let Some(clip) = self.clips.front().map(Arc::clone) else {
            let expected = self.expected;
            return Err(Refusal::BadRequest(format!(
                "items consume {expected} payloads, but more were sent"
            )));
        };
        let frame = self.frame;
        self.frame += 1;
        self.fed += 1;
        if self.frame == clip.recipe.payloads {
            clip.arrived(self.engine.queue.work());
            self.clips.pop_front();
            self.frame = 0;
        }
        let now = Instant::now();
        if !clip.is_wanted(now) {
            return Ok(());
        }
        let job = Job {
            bytes: self.engine.queue.bytes(payload.len())?,
            clip,
            frame,
            payload,
            since: now,
        };
        let jobs = match job.clip.recipe.source {
            Source::Video(_) => &self.engine.video_jobs,
            Source::Encoded | Source::Rgb8 => &self.engine.jobs,
        };
        let sent = jobs.send_async(job).await;
        sent.map_err(|_| Refusal::Stopped)
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// Why nothing in it can be served. Items that fail alone are in the [`Answer`].
    pub(crate) async fn answer(self) -> Result<Answer, Refusal> {
        if self.fed < self.expected {
            let Self { expected, fed, .. } = self;
            return Err(Refusal::BadRequest(format!(
                "items consume {expected} payloads, but {fed} were sent"
            )));
        }
        let mut outcomes = Vec::with_capacity(self.replies.len());
        for reply in self.replies {
            // An item vanishes without an answer when its deadline passes, when a device fails it,
            // or when the engine ends.
            let outcome = reply
                .await
                .map_err(|_| match Instant::now() < self.deadline {
                    true => Refusal::Stopped,
                    false => Refusal::Deadline,
                })?;
            if let Err(Fault {
                kind: FaultKind::Shape,
                message,
            }) = outcome
            {
                return Err(Refusal::BadRequest(message));
            }
            outcomes.push(outcome);
        }
        // Until here it was in use.
        self.model.touch();
        self.engine.finish(self.plan, outcomes).await
    }
}
