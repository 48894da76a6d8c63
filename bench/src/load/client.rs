//! Calls through the connections of a real loader.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::{sleep, timeout};

use super::{
    drive::Caller,
    judge::{Answer, Verdict, judge},
    request::Prepared,
    target::Target,
};

/// How long this side waits for an answer, as a share of the deadline that the replica is told: the
/// end of a late answer shall still be seen.
const PATIENCE: f64 = 1.25;
/// Tries of a first call that finds the endpoint full: it may be in use.
const FIRST_TRIES: usize = 10;
/// The longest pause between them.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A target and what is asked of it.
pub(super) struct Client {
    pub(super) target: Target,
    /// Sent in turn. Never empty.
    pub(super) calls: Vec<Prepared>,
}

impl Client {
    async fn send(&self, prepared: &Prepared) -> Answer {
        let mut request = prepared.call();
        self.target.sign(&mut request);
        let patience = prepared.asked.timeout.mul_f64(PATIENCE);
        // Around the whole answer: tonic's own timer ends when its first bytes arrive.
        let answer = timeout(patience, self.target.connections.encode(request)).await;
        match answer {
            Ok(answer) => judge(prepared, answer, |status| self.target.lost(status)),
            Err(_) => Verdict::Deadline.into(),
        }
    }

    /// One call of every size, before anything is measured.
    ///
    /// # Errors
    /// In the replica's words, where it does not take them.
    pub(super) async fn try_all_sizes(&self) -> anyhow::Result<()> {
        let mut tried = Vec::new();
        for prepared in &self.calls {
            if !tried.contains(&prepared.size) {
                self.try_one(prepared).await?;
                tried.push(prepared.size);
            }
        }
        Ok(())
    }

    async fn try_one(&self, prepared: &Prepared) -> anyhow::Result<()> {
        let (uri, size, items) = (&self.target.uri, prepared.size, prepared.ids.len());
        for _ in 0..FIRST_TRIES {
            match self.send(prepared).await.verdict {
                Verdict::Whole => return Ok(()),
                Verdict::Partial(failed, why) => {
                    ensure!(
                        failed < items,
                        "{uri} cannot encode any of the photos: {why}"
                    );
                    return Ok(());
                }
                Verdict::Busy(pushback) => {
                    sleep(pushback.unwrap_or(FIRST_PAUSE).min(FIRST_PAUSE)).await;
                }
                Verdict::Deadline => bail!(
                    "{uri} did not encode {items} photos at {size} within {:?}: raise --timeout, \
                     or lower --items",
                    prepared.asked.timeout
                ),
                Verdict::Unavailable(why) => bail!("{uri} takes no calls: {why}"),
                Verdict::Lost(why) => bail!("{uri} hung up on the first call: {why}"),
                Verdict::Failed(why) => {
                    bail!("{uri} does not take {items} photos at {size}: {why}")
                }
            }
        }
        bail!("{uri} is full: a first call was refused {FIRST_TRIES} times. Is it in use?")
    }
}

impl Caller for Client {
    async fn call(&self, index: u64) -> Answer {
        let at = index % self.calls.len() as u64;
        self.send(&self.calls[at as usize]).await
    }
}
