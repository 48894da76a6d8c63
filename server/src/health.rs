//! `grpc.health.v1`: the whole replica (""), the service, and each model as `model:NAME`.

use preheat_proto::v1::encoder_server::SERVICE_NAME;
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
}

impl Health {
    /// Everything serving. Names are registered at once because `Watch` refuses unknown ones.
    pub(crate) async fn new<'a>(
        models: impl Iterator<Item = &'a str>,
    ) -> (Self, HealthServer<impl HealthApi>) {
        let (reporter, server) = tonic_health::server::health_reporter();
        let fixed = [String::new(), SERVICE_NAME.to_owned()];
        let names = fixed
            .into_iter()
            .chain(models.map(|name| format!("model:{name}")))
            .collect();
        let health = Self { reporter, names };
        health.set(ServingStatus::Serving).await;
        (health, server)
    }

    /// Tells balancers and probes to look elsewhere, before anything is refused.
    pub(crate) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
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
