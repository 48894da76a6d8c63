//! What a call crosses between the loader and a replica.

use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use preheat_proto::{Code, Error as CallError};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Service, util::BoxCloneSyncService};

use crate::{
    balance::drive::{Asked, Balancer},
    config::Config,
    endpoint::{Carrier, EncodeCall, EncodeReply},
    stats::Recorder,
};

/// How long a call may take with all its attempts, from the first: that it waits for its turn is no
/// fault, in a deep window and with few replicas not for hours either.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(1800);

/// The whole stack, as one service.
pub(crate) type EncodeStack = BoxCloneSyncService<EncodeCall, EncodeReply, CallError>;

/// Builds the stack.
pub(crate) fn stack(balancer: Balancer, config: &Config, recorder: Recorder) -> EncodeStack {
    // Waiting, the choice of a replica, retries and hedges are one matter: what is tried again
    // must wait its turn and go elsewhere.
    BoxCloneSyncService::new(Balanced {
        balancer,
        carrier: Carrier::new(config, recorder),
        trainer: config.trainer().into(),
        weight: config.weight,
    })
}

/// The balancer as a service.
#[derive(Clone)]
struct Balanced {
    balancer: Balancer,
    carrier: Carrier,
    trainer: Arc<str>,
    weight: f64,
}

impl Service<EncodeCall> for Balanced {
    type Response = EncodeReply;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<EncodeReply, CallError>>;

    /// Always: where a call goes, and when, depends on what it costs.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: EncodeCall) -> Self::Future {
        let Self {
            balancer,
            carrier,
            trainer,
            weight,
        } = self.clone();
        Box::pin(async move {
            let asked = Asked {
                model: call.request.model.clone(),
                fingerprint: call.request.fingerprint.clone(),
                trainer,
                weight,
                pixels: call.cost_pixels,
                needed_at: call.needed_at,
                ready: Some(carrier.ready_batches()),
            };
            let first_sent = call.first_sent.clone();
            tokio::select! {
                reply = balancer.call(&carrier, &asked, call) => reply,
                () = overdue(&first_sent) => Err(CallError::new(
                    Code::Deadline,
                    format!("not answered within {CALL_DEADLINE:?}, with all attempts"),
                )),
            }
        })
    }
}

/// Returns when a call that was first sent then has had its time.
async fn overdue(first_sent: &OnceLock<Instant>) {
    loop {
        match first_sent.get() {
            Some(&sent) => return sleep_until(sent + CALL_DEADLINE).await,
            None => sleep(CALL_DEADLINE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_has_its_time_from_when_it_was_first_sent() {
        let first_sent = Arc::new(OnceLock::new());
        let sender = first_sent.clone();
        let start = Instant::now();
        tokio::spawn(async move {
            sleep(CALL_DEADLINE * 5 / 2).await;
            let _ = sender.set(Instant::now());
        });
        overdue(&first_sent).await;
        assert!(start.elapsed() >= CALL_DEADLINE * 7 / 2);
        assert!(start.elapsed() <= CALL_DEADLINE * 9 / 2);
    }
}
