//! Requests that a replica had when it ended. No replica has two of them at a time, so that its end
//! tells which of them it was.

use preheat_proto::{Code, Error as CallError};

use super::Core;
use crate::balance::types::{ReplicaId, RequestId, Time};

impl Core {
    /// A replica ended. The first of its requests to say so speaks for all: any of them may be the
    /// cause, and none shall go elsewhere as if it could not be.
    pub(super) fn implicate(&mut self, now: Time, replica: ReplicaId) {
        let Some(gone) = self.replica_mut(replica) else {
            return;
        };
        gone.lost();
        let mut aboard = gone.aboard.clone();
        // Of what was lost with an earlier end nobody may have said so yet.
        aboard.retain(|&id| self.flight(id, replica).is_some_and(|one| !one.lost));
        self.deaths.record(now, &aboard);
        for id in aboard {
            let Some(request) = self.requests.get_mut(&id) else {
                continue;
            };
            request.deaths.push(replica);
            if let Some(flight) = request.flight(replica) {
                flight.lost = true;
            }
            self.keep_apart(now, id);
        }
    }

    /// Where a request is under way already that is suspect from now on: beside another suspect its
    /// attempt is called back, to be made again elsewhere.
    fn keep_apart(&mut self, now: Time, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let mut flights = request.flights.iter_mut().flatten();
        let Some(flight) = flights.find(|one| !one.lost && !one.suspect) else {
            return;
        };
        match &mut self.replicas[flight.replica.slot()] {
            Some(alone) if alone.suspects == 0 => {
                alone.suspects = 1;
                flight.suspect = true;
            }
            _ => {
                let replica = flight.replica;
                self.call_back(now, id, replica);
            }
        }
    }

    /// Why a request is not tried again, if replicas have ended while they had it and nothing else
    /// explains that.
    pub(super) fn blamed(&mut self, id: RequestId, reason: &str) -> Option<CallError> {
        let ended = self.requests.get(&id)?.deaths.clone();
        if !self.deaths.blames(&ended) {
            return None;
        }
        self.deaths.explained(id);
        let names = ended
            .iter()
            .filter_map(|&one| Some(&*self.replica(one)?.name));
        let names: Vec<_> = names.collect();
        Some(CallError::new(
            Code::Internal,
            format!(
                "replicas ended while they had it: {} ({reason}); it is not tried on another one",
                names.join(", ")
            ),
        ))
    }
}
