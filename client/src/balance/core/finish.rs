//! What becomes of attempts, and of requests, at their end.

use std::time::Duration;

use preheat_proto::{Code, Error as CallError};

use super::{Core, Timer, unavailable};
use crate::balance::{
    request::Request,
    types::{Action, Outcome, ReplicaId, RequestId, Time, Verdict},
    view::Standing,
};

/// Faults of replicas that one request may meet.
const MAX_FAULTS: u32 = 3;
/// The longest that a full replica is left alone.
const MAX_PUSHBACK: Duration = Duration::from_secs(30);

impl Core {
    /// An attempt has ended. Not to be called for attempts that were cancelled.
    pub fn finished(
        &mut self,
        now: Time,
        request: RequestId,
        replica: ReplicaId,
        outcome: Outcome,
    ) -> Verdict {
        // It may be back by now: what was lost with its last end says nothing of it.
        let stale = self.flight(request, replica).is_none_or(|one| one.lost);
        if !stale && matches!(outcome, Outcome::Away { underway: true, .. }) {
            self.implicate(now, replica);
        }
        let answered = matches!(outcome, Outcome::Answered);
        let group = self.requests.get(&request).map(|one| one.group);
        if !self.land(now, request, replica, answered) {
            return Verdict::GoOn;
        }
        if let (true, Some(group)) = (answered, group) {
            self.judge_speed(now, replica, group);
        }
        if let (Outcome::Away { reason, .. }, false) = (&outcome, stale) {
            self.falls(now, replica, reason);
            self.pending.push(Action::Probe { replica });
        }
        let verdict = self.judge(now, request, replica, outcome);
        self.relist(replica);
        self.forget_if_left(replica);
        verdict
    }

    fn judge(
        &mut self,
        now: Time,
        request: RequestId,
        replica: ReplicaId,
        outcome: Outcome,
    ) -> Verdict {
        match outcome {
            Outcome::Answered => {
                self.overtaken(now, request);
                if self.requests.get(&request).is_some_and(Request::is_suspect) {
                    self.deaths.acquits(request);
                }
                self.end(now, request, false);
                self.totals.answered += 1;
                return Verdict::Deliver;
            }
            Outcome::Refused(error) => {
                self.end(now, request, true);
                return Verdict::Fail(error);
            }
            Outcome::Busy(pause) => {
                if let Some(replica) = self.replica_mut(replica) {
                    replica.overflows();
                }
                // A sign of life. Waiting for room is bounded by the caller alone: a trainer that is
                // far ahead of a slow replica is in no trouble.
                if let Some(request) = self.requests.get_mut(&request) {
                    request.away_since = None;
                }
                self.shut(now, replica, pause.min(MAX_PUSHBACK));
            }
            Outcome::Away { underway, reason } => {
                if let Some(error) = self.exhausted(now, request, &reason) {
                    self.end(now, request, true);
                    return Verdict::Fail(error);
                }
                if underway && let Some(error) = self.blamed(request, &reason) {
                    self.end(now, request, true);
                    return Verdict::Fail(error);
                }
            }
            Outcome::NotHere(error) => {
                self.strike(now, replica, &error.message);
                self.pending.push(Action::Probe { replica });
                let elsewhere = self.is_served_elsewhere(request, replica);
                let faults = self.blame(request, replica, error.clone());
                if faults > MAX_FAULTS || !elsewhere {
                    self.end(now, request, true);
                    return Verdict::Fail(error);
                }
            }
            Outcome::Fault(error) => {
                self.strike(now, replica, &error.message);
                let faults = self.blame(request, replica, error.clone());
                if faults > MAX_FAULTS || !self.budget.spend(now) {
                    self.totals.out_of_budget += u64::from(faults <= MAX_FAULTS);
                    self.end(now, request, true);
                    let message = format!("{}; gave up after {faults} attempts", error.message);
                    return Verdict::Fail(CallError { message, ..error });
                }
            }
        }
        self.again(request);
        Verdict::GoOn
    }

    /// A hedge has answered. A replica that was late with the request, and has answered nothing
    /// else since it got it, is slower than was thought, which cannot be seen once the call is
    /// cancelled; or it is stopped, if it was known how fast it is.
    fn overtaken(&mut self, now: Time, id: RequestId) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let (group, pixels) = (request.group, request.pixels);
        for flight in request.flights.into_iter().flatten() {
            let Some(replica) = self.replica_mut(flight.replica) else {
                continue;
            };
            if now <= flight.due || replica.last_answer >= flight.sent {
                continue;
            }
            let Some((before, after)) = replica.is_overtaken(now, group, pixels) else {
                continue;
            };
            self.groups[usize::from(group)].measure(before, after);
            if before > 0.0 {
                let waited = now.saturating_sub(flight.sent);
                let reason = format!("has answered nothing for {waited:.1?}, others did its work");
                self.stall(now, flight.replica, &reason);
            }
        }
    }

    /// A replica was away: whether the request has met nothing else for longer than its patience.
    fn exhausted(&mut self, now: Time, id: RequestId, reason: &str) -> Option<CallError> {
        let patience = self.settings.patience;
        let request = self.requests.get_mut(&id)?;
        let waited = now.saturating_sub(*request.away_since.get_or_insert(now));
        let message = || format!("{reason}; gave up after {waited:?}");
        (waited >= patience).then(|| unavailable(message()))
    }

    /// Whether there is another replica for a request than this one.
    fn is_served_elsewhere(&self, request: RequestId, than: ReplicaId) -> bool {
        let group = self.requests.get(&request).map(|one| one.group);
        group.is_some_and(|group| {
            let here = self.replica(than);
            let here = here.is_some_and(|one| one.lanes.iter().any(|lane| lane.group == group));
            self.groups[usize::from(group)].hopeful > u32::from(here) || self.undecided > 0
        })
    }

    /// Notes where a request failed, and how often now.
    fn blame(&mut self, request: RequestId, replica: ReplicaId, error: CallError) -> u32 {
        let Some(request) = self.requests.get_mut(&request) else {
            return 0;
        };
        request.avoid = Some(replica);
        request.faults += 1;
        request.trouble = Some(Box::new(error));
        request.faults
    }

    /// Another attempt, before everything that waits, unless there is still one under way.
    pub(super) fn again(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if request.flights().next().is_none() && !request.pressing && request.turn.is_none() {
            request.pressing = true;
            // What comes next is an attempt like the first, and may be hedged again.
            request.hedged = false;
            self.groups[usize::from(request.group)].first.push_back(id);
            self.totals.retries += 1;
        }
    }

    /// Takes an attempt off its replica. Whether it was there.
    pub(super) fn land(
        &mut self,
        now: Time,
        id: RequestId,
        from: ReplicaId,
        answered: bool,
    ) -> bool {
        let Some(request) = self.requests.get_mut(&id) else {
            return false;
        };
        let Some(flight) = request.land(from) else {
            return false;
        };
        self.timers.remove(&(flight.alarm, Timer::Flight(id, from)));
        let (pixels, group) = (request.pixels, request.group);
        if answered {
            self.totals.hedges_won += u64::from(flight.hedge);
            self.work.add(now, flight.seconds);
            let late = now > request.needed_at;
            self.trainers.answered(request.trainer, now, pixels, late);
        }
        let Some(replica) = self.replicas[from.slot()].as_mut() else {
            return true;
        };
        if answered {
            let before = replica.measured(group);
            replica.answers(now, group, pixels);
            let after = replica.measured(group);
            self.groups[usize::from(group)].measure(before, after);
        }
        replica.lays_down(now, id, pixels, flight.seconds);
        replica.suspects -= u32::from(flight.suspect);
        true
    }

    /// A request is over, however. Attempts that are still under way are cancelled.
    pub(super) fn end(&mut self, now: Time, id: RequestId, failed: bool) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let (trainer, pixels) = (request.trainer, request.pixels);
        for flight in request.flights.into_iter().flatten() {
            self.call_back(now, id, flight.replica);
        }
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        let trainer = self.trainers.get(trainer);
        trainer.requests = trainer.requests.saturating_sub(1);
        if let Some(waiting) = request.waiting() {
            self.groups[usize::from(request.group)]
                .queue
                .remove(waiting);
            self.queued -= 1;
            trainer.queued = trainer.queued.saturating_sub(pixels);
        } else {
            trainer.outstanding = trainer.outstanding.saturating_sub(pixels);
        }
        self.totals.failed += u64::from(failed);
    }

    /// Cancels an attempt that is under way.
    pub(super) fn call_back(&mut self, now: Time, request: RequestId, replica: ReplicaId) {
        self.land(now, request, replica, false);
        self.relist(replica);
        self.forget_if_left(replica);
        self.pending.push(Action::Cancel { request, replica });
    }

    /// There is no replica for a group, nor will there be soon.
    pub(super) fn lose_hope(&mut self, now: Time, group: u16, waited: Duration) {
        let slot = usize::from(group);
        let waiting: Vec<RequestId> = self.groups[slot]
            .queue
            .all()
            .map(|one| one.request)
            .collect();
        let first = std::mem::take(&mut self.groups[slot].first);
        let pressing = first
            .into_iter()
            .filter(|id| self.requests.contains_key(id));
        let all: Vec<RequestId> = pressing.chain(waiting).collect();
        if all.is_empty() {
            return;
        }
        let mut error = self.hopeless(group);
        if !waited.is_zero() {
            let gave_up = format!("; gave up after {waited:?}");
            error.message.push_str(&gave_up);
        }
        for id in all {
            self.fail(now, id, error.clone());
        }
    }

    /// Why nobody serves a group: what its replicas say, or what else there is.
    fn hopeless(&self, group: u16) -> CallError {
        let group = &self.groups[usize::from(group)];
        let listed: Vec<_> = self.replicas.iter().flatten().collect();
        if listed.is_empty() {
            return unavailable("no replica is listed".to_owned());
        }
        let away = listed.iter().filter(|one| one.standing == Standing::Away);
        let away: Vec<_> = away
            .map(|one| format!("{}: {}", one.name, one.reason))
            .take(3)
            .collect();
        let served = listed.iter().filter_map(|one| one.served.as_deref());
        let named = served.flat_map(|served| &served.models);
        let mut seen: Vec<&str> = named
            .clone()
            .filter(|(model, _)| *model == group.model)
            .flat_map(|(_, fingerprints)| fingerprints.iter().map(String::as_str))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        let mut models: Vec<&str> = named.map(|(model, _)| model.as_str()).collect();
        models.sort_unstable();
        models.dedup();
        let away = if away.is_empty() {
            String::new()
        } else {
            format!("; {}", away.join("; "))
        };
        let (model, pinned) = (&group.model, &group.fingerprint);
        match (models.is_empty(), seen.is_empty()) {
            (true, _) => unavailable(format!("no replica answers{away}")),
            (_, true) => CallError::new(
                Code::UnknownModel,
                format!(
                    "no replica serves a model named `{model}`; they serve {}{away}",
                    models.join(", ")
                ),
            ),
            (_, false) if !seen.contains(&pinned.as_str()) && !pinned.is_empty() => CallError::new(
                Code::WrongFingerprint,
                format!(
                    "no replica serves `{model}` with fingerprint {pinned}; seen: {}{away}",
                    seen.join(", ")
                ),
            ),
            _ => unavailable(format!("every replica that serves `{model}` is away{away}")),
        }
    }
}
