//! `grpc.health.v1` for the fleet: as a replica answers for itself. The whole (""), the services, and
//! each model as `model:NAME` serve while at least one replica that is up serves them.

use std::collections::BTreeMap;

use http::{Request, Response};
use preheat_proto::{inference::grpc_inference_service_server as inference, v1::encoder_server};
use tokio::sync::watch;
use tonic::body::Body;
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::BoxCloneSyncService;

use super::seam::Serving;

/// Names that stand for all models.
const FIXED: [&str; 3] = ["", encoder_server::SERVICE_NAME, inference::SERVICE_NAME];

/// Models that are reported by name, at most: a replica that lists more is not one of ours.
const MAX_MODELS: usize = 1024;

/// The service, and what it says.
pub(super) struct Health {
    pub(super) service:
        BoxCloneSyncService<Request<Body>, Response<Body>, std::convert::Infallible>,
    pub(super) teller: Teller,
}

/// Says how the fleet is.
#[derive(Clone)]
pub(super) struct Teller {
    reporter: HealthReporter,
    /// What was last said, by name.
    said: BTreeMap<String, bool>,
}

impl Health {
    /// Nothing serves yet.
    pub(super) async fn new() -> Self {
        let (reporter, service) = tonic_health::server::health_reporter();
        let mut teller = Teller {
            reporter,
            said: BTreeMap::new(),
        };
        for name in FIXED {
            teller.say(name.to_owned(), false).await;
        }
        Self {
            service: BoxCloneSyncService::new(service),
            teller,
        }
    }
}

impl Teller {
    /// Follows the fleet for ever.
    pub(super) async fn follow(mut self, mut fleet: watch::Receiver<Serving>) {
        loop {
            let now = fleet.borrow_and_update().clone();
            self.tell(&now).await;
            if fleet.changed().await.is_err() {
                // The balancer is gone, and with it the program.
                return std::future::pending().await;
            }
        }
    }

    async fn tell(&mut self, fleet: &Serving) {
        let mut now: BTreeMap<String, bool> =
            self.said.keys().map(|name| (name.clone(), false)).collect();
        let models = fleet.iter().flat_map(|info| &info.models);
        for name in models.map(|model| format!("model:{}", model.name)) {
            if now.contains_key(&name) || now.len() < MAX_MODELS {
                now.insert(name, true);
            }
        }
        for name in FIXED {
            now.insert(name.to_owned(), !fleet.is_empty());
        }
        for (name, serves) in now {
            self.say(name, serves).await;
        }
    }

    /// Tells probes and balancers to look elsewhere, and ends their watches, which would otherwise
    /// keep connections open for ever.
    pub(super) async fn close(&mut self) {
        for name in std::mem::take(&mut self.said).into_keys() {
            self.reporter
                .set_service_status(&name, ServingStatus::NotServing)
                .await;
            self.reporter.clear_service_status(&name).await;
        }
    }

    async fn say(&mut self, name: String, serves: bool) {
        // Saying it again would wake every watch.
        if self.said.get(&name) == Some(&serves) {
            return;
        }
        let status = match serves {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        self.reporter.set_service_status(&name, status).await;
        self.said.insert(name, serves);
    }
}
