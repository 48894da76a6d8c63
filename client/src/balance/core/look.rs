//! What there is to see.

use super::Core;
use crate::balance::{
    types::Time,
    view::{Desired, QueueView, View},
};

impl Core {
    /// Everything that is shown of a balancer, at this moment.
    pub fn view(&self, now: Time) -> View {
        let replicas = self.replicas.iter().flatten();
        let mut replicas: Vec<_> = replicas
            .map(|replica| (replica.id.life(), replica.view()))
            .collect();
        replicas.sort_unstable_by_key(|&(life, _)| life);
        View {
            replicas: replicas.into_iter().map(|(_, view)| view).collect(),
            trainers: self.trainers.view(now),
            queue: self.queue_view(now),
            desired: Desired::default(),
            pixels_per_second: self
                .groups
                .iter()
                .map(|group| group.rate())
                .fold(0.0, f64::max),
            totals: self.totals,
        }
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
