//! When to send a call again. Three failures are kept apart: being away or busy is waited out, a
//! refusal is final, and faults may be retried within a budget.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use preheat_proto::{Code, Error as CallError};
use tokio::time::{Instant, Sleep, sleep};
use tower::retry::{
    Policy,
    backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
    budget::{Budget, TpsBudget},
};
use tower::util::rng::{HasherRng, Rng};

use crate::{
    endpoint::{EncodeCall, EncodeReply},
    stats::Recorder,
};

/// First pause after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause after a failure: how late a returning replica may be noticed.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Random share added to a pause, so that calls that failed together do not return together.
const JITTER: f64 = 0.5;
/// Longest pause that a busy replica can ask for.
const MAX_PUSHBACK: Duration = Duration::from_secs(30);
/// Times that one call may meet a fault: a call that breaks replicas must not visit all of them.
const MAX_FAULTS: u32 = 3;
/// Faults may be retried for one in ten calls, and once a second at any rate.
const FAULT_BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.1);

/// What a failure says about the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It lives, and is full. Not a fault.
    Busy,
    /// It is gone, going, or silent.
    Away,
    /// It is broken.
    Fault,
    /// The call is wrong, and will be wrong everywhere.
    Refused,
}

fn outcome(code: Code) -> Outcome {
    match code {
        Code::Busy => Outcome::Busy,
        Code::Unavailable | Code::Deadline | Code::Cancelled => Outcome::Away,
        Code::Internal => Outcome::Fault,
        Code::BadRequest
        | Code::UnknownModel
        | Code::WrongFingerprint
        | Code::TooLarge
        | Code::Unauthenticated
        | Code::NotAReplica => Outcome::Refused,
    }
}

/// The policy. Every call starts from a clone, so the fields below the budget are its own.
#[derive(Clone)]
pub(super) struct Retrying {
    patience: Duration,
    recorder: Recorder,
    budget: Arc<TpsBudget>,
    backoff: Option<ExponentialBackoff>,
    away_since: Option<Instant>,
    faults: u32,
}

impl Retrying {
    pub(super) fn new(patience: Duration, recorder: Recorder) -> Self {
        let (ttl, per_second, share) = FAULT_BUDGET;
        Self {
            patience,
            recorder,
            budget: Arc::new(TpsBudget::new(ttl, per_second, share)),
            backoff: None,
            away_since: None,
            faults: 0,
        }
    }

    /// Whether to go on after a failure; if not, the error says how long it was tried.
    fn may_retry(&mut self, error: &mut CallError) -> bool {
        let now = Instant::now();
        match outcome(error.code) {
            Outcome::Refused => false,
            Outcome::Busy => {
                // A sign of life. Waiting for room is bounded by the deadline alone: a trainer
                // that is far ahead of a slow replica is in no trouble.
                self.away_since = None;
                true
            }
            Outcome::Away => {
                let since = *self.away_since.get_or_insert(now);
                if now - since < self.patience {
                    return true;
                }
                let gave_up = format!("; gave up after {:?}", now - since);
                error.message.push_str(&gave_up);
                false
            }
            Outcome::Fault => {
                self.away_since = None;
                self.faults += 1;
                if self.faults <= MAX_FAULTS && self.budget.withdraw() {
                    return true;
                }
                let gave_up = format!("; gave up after {} attempts", self.faults);
                error.message.push_str(&gave_up);
                false
            }
        }
    }

    fn pause(&mut self, pushback: Option<Duration>) -> Sleep {
        if let Some(after) = pushback {
            let share = 1.0 + JITTER * HasherRng::new().next_f64();
            return sleep(after.min(MAX_PUSHBACK).mul_f64(share));
        }
        let backoff = self.backoff.get_or_insert_with(|| {
            // Made here, not in `new`: clones of one generator would all draw the same jitter.
            ExponentialBackoffMaker::new(BACKOFF_MIN, BACKOFF_MAX, JITTER, HasherRng::new())
                .expect("the bounds are constants in order")
                .make_backoff()
        });
        backoff.next_backoff()
    }
}

impl Policy<EncodeCall, EncodeReply, CallError> for Retrying {
    type Future = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

    fn retry(
        &mut self,
        call: &mut EncodeCall,
        result: &mut Result<EncodeReply, CallError>,
    ) -> Option<Self::Future> {
        let Err(error) = result else {
            self.budget.deposit();
            return None;
        };
        if !self.may_retry(error) {
            return None;
        }
        tracing::debug!(code = ?error.code, error = %error, items = call.ids.len(), "retrying");
        self.recorder.retried();
        Some(Box::pin(self.pause(error.retry_after)))
    }

    fn clone_request(&mut self, call: &EncodeCall) -> Option<EncodeCall> {
        Some(call.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use preheat_proto::{DType, Posterior, Scale, v1::EncodeRequest};
    use tower::{Service, ServiceExt, retry::Retry, service_fn};

    use super::*;
    use crate::endpoint::Expected;

    fn call() -> EncodeCall {
        EncodeCall {
            request: EncodeRequest::default(),
            ids: Arc::from([1]),
            expected: Arc::new(Expected {
                shape: vec![4, 8, 8],
                dtype: DType::F32,
                posterior: Posterior::Mode,
                scale: Scale::Raw,
            }),
            cost_pixels: 1,
            needed_at: Instant::now(),
        }
    }

    /// Fails as `script` says, attempt by attempt; returns the times of the attempts, and the error.
    async fn attempts(
        patience: Duration,
        script: impl Fn(usize) -> CallError + Clone,
    ) -> (Vec<Duration>, CallError) {
        let start = Instant::now();
        let times = Arc::new(Mutex::new(Vec::new()));
        let replica = service_fn({
            let times = times.clone();
            move |_: EncodeCall| {
                let mut times = times.lock().unwrap();
                times.push(start.elapsed());
                std::future::ready(Err::<EncodeReply, _>(script(times.len())))
            }
        });
        let policy = Retrying::new(patience, Recorder::new());
        let error = Retry::new(policy, replica)
            .ready()
            .await
            .unwrap()
            .call(call())
            .await;
        let times = times.lock().unwrap().clone();
        (times, error.unwrap_err())
    }

    fn failing(code: Code) -> impl Fn(usize) -> CallError + Clone {
        move |_| CallError::new(code, "why")
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_final() {
        for code in Code::ALL
            .into_iter()
            .filter(|&code| outcome(code) == Outcome::Refused)
        {
            let (times, error) = attempts(Duration::from_secs(60), failing(code)).await;
            assert_eq!((times.len(), error.code), (1, code));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn absence_is_waited_out_with_patience() {
        let (times, error) = attempts(Duration::from_secs(60), failing(Code::Unavailable)).await;
        let last = *times.last().unwrap();
        assert!(
            last >= Duration::from_secs(60) && last < Duration::from_secs(64),
            "{last:?}"
        );
        assert!((20..60).contains(&times.len()), "{} attempts", times.len());
        assert!(error.message.contains("gave up after 6"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_replica_is_not_away() {
        let script = |attempt| match attempt {
            1..=100 => CallError::busy("full", Duration::from_secs(1)),
            _ => CallError::new(Code::BadRequest, "enough"),
        };
        let (times, error) = attempts(Duration::from_secs(5), script).await;
        assert_eq!((times.len(), error.code), (101, Code::BadRequest));
        for pair in times.windows(2) {
            let pause = pair[1] - pair[0];
            assert!((1000..1502).contains(&pause.as_millis()), "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_retried_a_few_times() {
        let (times, error) = attempts(Duration::from_secs(60), failing(Code::Internal)).await;
        assert_eq!(times.len(), 1 + MAX_FAULTS as usize);
        assert!(
            error.message.contains("gave up after 4 attempts"),
            "{error}"
        );
    }
}
