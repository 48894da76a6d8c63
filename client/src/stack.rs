//! What a call crosses between the loader and a replica.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use preheat_proto::{Code, Error as CallError};
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

use crate::{
    balance::drive::{Asked, Balancer},
    config::Config,
    endpoint::{Carrier, EncodeCall, EncodeReply},
    stats::Recorder,
};

/// How long a call may take with all its attempts, however busy the replicas are.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(1800);

/// The whole stack, as one service.
pub(crate) type EncodeStack = BoxCloneSyncService<EncodeCall, EncodeReply, CallError>;

/// Builds the stack, outermost layer first.
pub(crate) fn stack(balancer: Balancer, config: &Config, recorder: Recorder) -> EncodeStack {
    let service = ServiceBuilder::new()
        // Outermost, so that the boxed errors of the layers below become ours in one place.
        .map_err(unbox)
        // Above the balancer: it bounds the wait for a replica and all attempts.
        .timeout(CALL_DEADLINE)
        // Waiting, the choice of a replica, retries and hedges are one matter: what is tried again
        // must wait its turn and go elsewhere.
        .service(Balanced {
            balancer,
            carrier: Carrier::new(config, recorder),
            trainer: config.trainer().into(),
            weight: config.weight,
        });
    BoxCloneSyncService::new(service)
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
            balancer.call(&carrier, &asked, call).await
        })
    }
}

fn unbox(error: BoxError) -> CallError {
    match error.downcast::<CallError>() {
        Ok(ours) => *ours,
        Err(error) if error.is::<tower::timeout::error::Elapsed>() => CallError::new(
            Code::Deadline,
            format!("not served within {CALL_DEADLINE:?}: the replicas are too busy"),
        ),
        Err(error) => CallError::new(Code::Internal, error.to_string()),
    }
}
