//! From an endpoint to a fleet, and to the model that it serves.

use crate::{
    balance::{Discovery, Settings, Sources, drive::Balancer, peer::Calling},
    config::Config,
    error::Error,
    loader::Background,
    model::Model,
};

/// Chunks that wait for a replica at once: more than any window has in it.
const MAX_QUEUED: usize = 1 << 22;

/// Finds the replicas and waits for one that serves the model.
///
/// # Errors
/// Nobody at the endpoint, or a model that is not there or cannot do what is asked.
pub(crate) fn reach(config: &Config, runtime: &Background) -> Result<(Balancer, Model), Error> {
    let sources = Sources::parse("endpoint", [&config.endpoint])?;
    let calling = Calling::new(&config.security, config.connections, config.connect_timeout)?;
    let settings = Settings {
        // What the window admits, the queue has to take.
        max_queued: MAX_QUEUED,
        patience: config.patience,
        attempt_timeout: config.attempt_timeout,
        scale_to_zero: false,
    };
    let searching = config.clone();
    runtime.wait(async move {
        let discovery = Discovery::start(sources).await;
        let balancer = Balancer::start(settings, calling, &discovery);
        let model = Model::pin(&balancer, &searching).await?;
        Ok((balancer, model))
    })?
}
