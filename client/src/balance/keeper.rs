//! One task a replica: asks what it serves, watches whether it lives, and tells the balancer.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use preheat_proto::{Code, Error as CallError, v1::InfoResponse};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tonic::Streaming;
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use super::{peer::Peer, types::ReplicaId};

/// How long a replica may take to say what it serves. One that takes longer serves nobody now.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often it is asked again although nothing seems to have changed: its models may have been
/// reloaded.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// Pause after a failure, ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... doubled by each further one, up to this: how late a replica that returns is noticed, besides
/// the time that it takes to answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The same for one that answers, but is not a replica: somebody has to do something about it.
const WRONG_PAUSE: Duration = Duration::from_secs(5);
/// A replica that was well for so long starts with the shortest pause again.
const WELL_AFTER: Duration = Duration::from_secs(5);

/// Who is told.
pub(super) trait Tells: Send + Sync + 'static {
    fn up(&self, id: ReplicaId, info: InfoResponse);
    fn away(&self, id: ReplicaId, trouble: CallError);
}

pub(super) struct Keeper<T> {
    id: ReplicaId,
    peer: Peer,
    /// Asks for a look at the replica, soon.
    probe: Arc<Notify>,
    tells: Weak<T>,
    /// What was last logged, so that it is logged once.
    said: String,
}

/// Why a watch has ended.
enum Change {
    /// Somebody wants to know how it is.
    Probed,
    /// It is time to ask again.
    Stale,
    /// It says so, or hung up.
    Away(&'static str),
}

impl<T: Tells> Keeper<T> {
    pub(super) const fn new(id: ReplicaId, peer: Peer, probe: Arc<Notify>, tells: Weak<T>) -> Self {
        Self {
            id,
            peer,
            probe,
            tells,
            said: String::new(),
        }
    }

    /// Until the balancer is gone.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = Instant::now();
            let wrong = match self.ask().await {
                Ok((info, health)) => {
                    let Some(tells) = self.tells.upgrade() else {
                        return;
                    };
                    self.log("is up");
                    tells.up(self.id, info);
                    drop(tells);
                    let change = self.watch(health).await;
                    if let Change::Away(reason) = change {
                        self.away(away(reason));
                    }
                    if matches!(change, Change::Stale) || asked.elapsed() >= WELL_AFTER {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    false
                }
                Err(error) => {
                    let wrong = matches!(error.code, Code::NotAReplica | Code::Unauthenticated);
                    self.away(error);
                    wrong
                }
            };
            if self.tells.strong_count() == 0 {
                return;
            }
            if wrong {
                // Somebody may have put it right, and wants to see that at once.
                let _ = timeout(WRONG_PAUSE, self.probe.notified()).await;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// What it serves, and the watch over its health, where it has one.
    async fn ask(
        &self,
    ) -> Result<(InfoResponse, Option<Streaming<HealthCheckResponse>>), CallError> {
        let silent = || away(&format!("no answer within {ANSWER_WITHIN:?}"));
        let info = match timeout(ANSWER_WITHIN, self.peer.info()).await {
            Ok(Ok(info)) => info,
            Ok(Err(error)) if error.code == Code::NotAReplica => {
                let what = "something answers there, but it is not a preheat replica";
                return Err(CallError::new(error.code, what));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(silent()),
        };
        let watch = timeout(ANSWER_WITHIN, self.peer.health()).await;
        // Without health it is watched by its calls alone.
        let Some(mut health) = watch.map_err(|_| silent())?.ok() else {
            return Ok((info, None));
        };
        let first = timeout(ANSWER_WITHIN, health.message()).await;
        match first.map_err(|_| silent())? {
            Ok(Some(status)) if status.status() == ServingStatus::NotServing => Err(away(DRAINS)),
            Ok(Some(_)) => Ok((info, Some(health))),
            _ => Ok((info, None)),
        }
    }

    async fn watch(&self, health: Option<Streaming<HealthCheckResponse>>) -> Change {
        let unwell = async {
            let Some(mut health) = health else {
                return std::future::pending().await;
            };
            loop {
                match health.message().await {
                    Ok(Some(status)) if status.status() == ServingStatus::NotServing => {
                        return Change::Away(DRAINS);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Change::Away("hung up"),
                }
            }
        };
        tokio::select! {
            change = unwell => change,
            () = self.probe.notified() => Change::Probed,
            () = sleep(ASK_EVERY) => Change::Stale,
        }
    }

    fn away(&mut self, trouble: CallError) {
        if let Some(tells) = self.tells.upgrade() {
            self.log(&trouble.message);
            tells.away(self.id, trouble);
        }
    }

    fn log(&mut self, what: &str) {
        if self.said != what {
            tracing::info!(replica = %self.peer.name, "{what}");
            what.clone_into(&mut self.said);
        }
    }
}

fn away(reason: &str) -> CallError {
    CallError::new(Code::Unavailable, reason)
}

const DRAINS: &str = "says that it does not serve now";
