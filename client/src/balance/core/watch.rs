//! What happens by time alone: second attempts, replicas that are silent, patience that ends.

use std::time::Duration;

use preheat_proto::{Code, Error as CallError};

use super::{Core, Timer};
use crate::balance::{
    types::{Action, Outcome, ReplicaId, RequestId, Time, Verdict},
    view::Standing,
};

/// Pause before a hedge that the budget did not allow is thought of again.
const RECONSIDER: Duration = Duration::from_millis(250);

impl Core {
    /// An attempt has not been answered when it should have been.
    pub(super) fn look_after(&mut self, now: Time, id: RequestId, replica: ReplicaId) {
        let timeout = self.settings.attempt_timeout;
        let Some(flight) = self.flight(id, replica) else {
            return;
        };
        if now >= flight.sent + timeout {
            return self.give_up(now, id, replica);
        }
        let mut next = flight.sent + timeout;
        let stalled = self.watch_for_stall(now, id, replica, &mut next);
        self.consider_hedge(now, id, replica, (stalled, &mut next));
        let next = next.max(now + Duration::from_millis(1));
        if let Some(request) = self.requests.get_mut(&id)
            && let Some(flight) = request.flight(replica)
        {
            flight.alarm = next;
            self.timers.insert((next, Timer::Flight(id, replica)));
        }
    }

    /// Whether the replica counts as stopped; if it may soon, it is looked at then.
    fn watch_for_stall(
        &mut self,
        now: Time,
        id: RequestId,
        replica: ReplicaId,
        next: &mut Time,
    ) -> bool {
        let Some(flight) = self.flight(id, replica) else {
            return false;
        };
        let Some(known) = self.replica(replica) else {
            return false;
        };
        if known.standing == Standing::Stalled {
            return true;
        }
        let longest = flight.stall_at().saturating_sub(flight.sent);
        let sign = known.last_answer.max(flight.sent);
        if now < sign + longest {
            *next = (*next).min(sign + longest);
            return false;
        }
        let (calls, silent) = (known.aboard.len(), now.saturating_sub(sign));
        let reason = format!("has {calls} calls, and has answered nothing for {silent:.1?}");
        if !self.stall(now, replica, &reason) {
            // Where it is the only one, or too many seem to have stopped, what it has may just be slow.
            // That must not hold up what comes after.
            if let Some(known) = self.replica_mut(replica) {
                known.excuse(now);
            }
            self.relist(replica);
            *next = (*next).min(now + longest);
            return false;
        }
        // Whatever else it has is tried elsewhere at once.
        let aboard = self.replica(replica).map(|known| known.aboard.clone());
        for other in aboard.unwrap_or_default() {
            if other != id {
                self.hurry(now, other, replica);
            }
        }
        true
    }

    /// An attempt is to be looked at now.
    fn hurry(&mut self, now: Time, id: RequestId, replica: ReplicaId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if let Some(flight) = request.flight(replica) {
            self.timers
                .remove(&(flight.alarm, Timer::Flight(id, replica)));
            flight.alarm = now;
            self.timers.insert((now, Timer::Flight(id, replica)));
        }
    }

    /// A second attempt, if it is time for one, if there is another replica, and if the budget
    /// allows it: it always does where the replica is known to be stopped.
    fn consider_hedge(
        &mut self,
        now: Time,
        id: RequestId,
        replica: ReplicaId,
        (stalled, next): (bool, &mut Time),
    ) {
        let Some(flight) = self.flight(id, replica) else {
            return;
        };
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let group = &self.groups[usize::from(request.group)];
        if request.hedged || request.pressing || group.hopeful < 2 {
            return;
        }
        let elsewhere = Duration::from_secs_f64(group.cost(request.pixels));
        let at = flight.hedge_at(request.needed_at, elsewhere);
        if !stalled && now < at {
            *next = (*next).min(at);
            return;
        }
        if !stalled && !self.budget.spend(now) {
            self.totals.out_of_budget += 1;
            *next = (*next).min(now + RECONSIDER);
            return;
        }
        if let Some(request) = self.requests.get_mut(&id) {
            request.hedged = true;
            request.pressing = true;
            self.groups[usize::from(request.group)].first.push_back(id);
        }
    }

    /// An attempt took longer than any may.
    fn give_up(&mut self, now: Time, request: RequestId, replica: ReplicaId) {
        let waited = self.settings.attempt_timeout;
        let error = CallError::new(Code::Deadline, format!("no answer within {waited:?}"));
        let verdict = self.finished(now, request, replica, Outcome::Fault(error));
        self.pending.push(Action::Cancel { request, replica });
        if let Verdict::Fail(error) = verdict {
            self.pending.push(Action::Fail { request, error });
        }
    }

    pub(super) fn flight(
        &self,
        id: RequestId,
        replica: ReplicaId,
    ) -> Option<crate::balance::request::Flight> {
        let request = self.requests.get(&id)?;
        request
            .flights()
            .find(|flight| flight.replica == replica)
            .copied()
    }

    /// Whether requests of a group are answered sooner or later. If not, they are failed: at once
    /// where every replica has been asked, and else when patience ends.
    pub(super) fn check_hope(&mut self, now: Time, number: u16) {
        let patience = self.settings.patience;
        let group = &mut self.groups[usize::from(number)];
        if group.hopeful > 0 || !group.waits() {
            if let Some(since) = group.hopeless_since.take() {
                self.timers
                    .remove(&(since + patience, Timer::Hopeless(number)));
            }
            return;
        }
        if self.undecided == 0 && self.replicas.iter().any(Option::is_some) {
            return self.lose_hope(now, number, Duration::ZERO);
        }
        if group.hopeless_since.is_none() {
            group.hopeless_since = Some(now);
            self.timers
                .insert((now + patience, Timer::Hopeless(number)));
        }
    }

    pub(super) fn lose_patience(&mut self, now: Time, number: u16) {
        let group = &mut self.groups[usize::from(number)];
        group.hopeless_since = None;
        // One may have come back at this very moment.
        if group.hopeful > 0 {
            return;
        }
        let patience = self.settings.patience;
        self.lose_hope(now, number, patience);
    }
}
