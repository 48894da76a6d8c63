//! `grpc.health.v1`: the whole replica (""), the services, and each model as `model:NAME`.

use preheat_proto::{inference::grpc_inference_service_server as inference, v1::encoder_server};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::HealthReporter,
};

/// What health is reported for.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<String>,
    /// What was last said of each model, by its place in `names`.
    said: Vec<bool>,
}

/// Names that come before those of the models, and stand for all of them.
const FIXED: [&str; 3] = ["", encoder_server::SERVICE_NAME, inference::SERVICE_NAME];

impl Health {
    /// Everything serving. Names are registered at once because `Watch` refuses unknown ones.
    pub(crate) async fn new(
        models: impl Iterator<Item = String>,
    ) -> (Self, HealthServer<impl HealthApi>) {
        let (reporter, server) = tonic_health::server::health_reporter();
        let fixed = FIXED.into_iter().map(str::to_owned);
        let names: Vec<_> = fixed
            .chain(models.map(|name| format!("model:{name}")))
            .collect();
        let health = Self {
            reporter,
            said: vec![true; names.len()],
            names,
        };
        health.set(ServingStatus::Serving).await;
        (health, server)
    }

    /// Tells balancers and probes to look elsewhere, before anything is refused.
    pub(crate) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Says which models are served. What stands for all of them serves as long as any does.
    pub(crate) async fn follow(&mut self, models: impl Iterator<Item = bool>) {
        let models: Vec<_> = models.collect();
        let any = models.contains(&true);
        let all = [any; FIXED.len()].into_iter().chain(models);
        for ((name, said), serves) in self.names.iter().zip(&mut self.said).zip(all) {
            // Saying it again would wake every watch.
            if *said != serves {
                *said = serves;
                let status = match serves {
                    true => ServingStatus::Serving,
                    false => ServingStatus::NotServing,
                };
                self.reporter.set_service_status(name, status).await;
            }
        }
    }

    /// Ends every `Watch`, which would otherwise keep its connection open for ever.
    pub(crate) async fn close(&mut self) {
        for name in &self.names {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
