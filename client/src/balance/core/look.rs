//! What there is to see.

use super::{Core, URGENT};
use crate::balance::{
    desire::Demand,
    group::Group,
    types::Time,
    view::{Desired, QueueView, View},
};

impl Core {
    /// Everything that is shown of a balancer, at this moment.
    pub fn view(&mut self, now: Time) -> View {
        let desired = self.desired(now);
        let replicas = self.replicas.iter().flatten();
        let mut replicas: Vec<_> = replicas
            .map(|replica| (replica.id.life(), replica.view()))
            .collect();
        replicas.sort_unstable_by_key(|&(life, _)| life);
        View {
            replicas: replicas.into_iter().map(|(_, view)| view).collect(),
            trainers: self.trainers.view(now),
            queue: self.queue_view(now),
            desired,
            pixels_per_second: self
                .groups
                .iter()
                .map(|group| group.rate())
                .fold(0.0, f64::max),
            totals: self.totals,
        }
    }

    /// Output pixels a second that the replicas can do which are up, and output pixels that wait or
    /// are under way.
    pub fn load(&self) -> (f64, f64) {
        let rate = self.groups.iter().map(Group::rate).fold(0.0, f64::max);
        let queued: u64 = self.groups.iter().map(|one| one.queue.pixels()).sum();
        let aboard: u64 = self.replicas.iter().flatten().map(|one| one.pixels).sum();
        (rate, (queued + aboard) as f64)
    }

    /// How many replicas there should be. To be called about once a second.
    pub fn desired(&mut self, now: Time) -> Desired {
        let up = (self.there - self.ejected) as u32;
        let urgent = |group: &Group| group.cost(group.queue.urgent_pixels());
        let demand = Demand {
            up,
            // Work is counted in seconds of the replica that did it.
            capacity: f64::from(up),
            work: self.work.rate(now),
            urgent: self.groups.iter().map(urgent).sum(),
            starving: self.trainers.any_starves(URGENT),
            asked: self.totals.submitted != self.desired_at || !self.requests.is_empty(),
        };
        self.desired_at = self.totals.submitted;
        self.desire.update(now, &demand)
    }

    fn queue_view(&self, now: Time) -> QueueView {
        let mut view = QueueView::default();
        for group in &self.groups {
            view.requests += group.queue.len() as u64;
            view.pixels += group.queue.pixels();
            view.urgent_pixels += group.queue.urgent_pixels();
            for waiting in group.queue.all() {
                let needed_at = self.requests.get(&waiting.request).map(|one| one.needed_at);
                let slack = needed_at.unwrap_or(now).saturating_sub(now);
                let class = QueueView::SLACK.iter().position(|bound| slack <= *bound);
                view.by_slack[class.unwrap_or(QueueView::SLACK.len())] += 1;
            }
        }
        view
    }
}
