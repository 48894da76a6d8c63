//! What a call crosses between the loader and a replica.

mod retry;

use std::time::Duration;

use preheat_proto::{Code, Error as CallError};
use tower::{
    BoxError, ServiceBuilder, limit::ConcurrencyLimitLayer, retry::RetryLayer,
    util::BoxCloneSyncService,
};

use self::retry::Retrying;
use crate::{
    endpoint::{EncodeCall, EncodeReply, Endpoint},
    stats::Recorder,
};

/// How long a call may take with all its retries, however busy the replicas are.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(1800);
/// Calls under way at once: below the streams that a replica allows on a connection.
pub(crate) const MAX_CALLS: usize = 64;

/// The whole stack, as one service.
pub(crate) type EncodeStack = BoxCloneSyncService<EncodeCall, EncodeReply, CallError>;

/// Builds the stack, outermost layer first.
pub(crate) fn stack(endpoint: Endpoint, patience: Duration, recorder: Recorder) -> EncodeStack {
    let service = ServiceBuilder::new()
        // Outermost, so that the boxed errors of the layers below become ours in one place.
        .map_err(unbox)
        // Above the deadline: a call that waits for its turn is not late yet.
        .layer(ConcurrencyLimitLayer::new(MAX_CALLS))
        // Above the retries: it bounds their sum.
        .timeout(CALL_DEADLINE)
        // Above the choice of a replica: a retry may then be sent to another one.
        .layer(RetryLayer::new(Retrying::new(patience, recorder)))
        // The balancer's place. Today there is one replica.
        .service(endpoint);
    BoxCloneSyncService::new(service)
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
