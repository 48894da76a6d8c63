//! Who is loaded: an endpoint that runs anyway, or a replica started for it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use preheat_client::{Bearer, wire, wire::Connections};
use preheat_proto::{
    Code, META_VERSION,
    v1::{InfoRequest, InfoResponse, Limits, Model},
};
use tokio::time::timeout;
use tonic::{Request, Status};

use super::judge;
use crate::{replica::Replica, secrets::Secrets};

/// How long an endpoint may take to be connected, ...
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// ... and then to say what it serves: a host that stands still for some seconds is no reason to give up.
const INFO_TIMEOUT: Duration = Duration::from_secs(20);
/// What a replica of ours calls its model.
const MODEL: &str = "vae";

/// Where to, and how to show who we are.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("to").required(true).args(["endpoint", "start"])))]
pub(super) struct Where {
    /// A replica or a balancer that runs already: http://host:port or https://host:port.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Start a replica with this model and stop it afterwards: a directory in the diffusers layout,
    /// `builtin:tiny`, or `synthetic[:key=value,...]`.
    #[arg(long, value_name = "SOURCE")]
    start: Option<String>,
    /// An option of the replica that is started, as `preheat-server` takes it; may be repeated:
    /// --replica-option=--queue-pixels=1000000
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        conflicts_with = "endpoint"
    )]
    replica_option: Vec<String>,
    /// Which of the endpoint's models [default: its first].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Connections, at most; made as calls overlap.
    #[arg(long, value_name = "N", default_value_t = wire::DEFAULT_CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(wire::MAX_CONNECTIONS)))]
    connections: u32,
    #[command(flatten)]
    secrets: Secrets,
}

/// An endpoint that has said what it serves.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: String,
    pub(super) model: Model,
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    tls: bool,
    bearer: Option<Bearer>,
}

impl Where {
    /// The replica to load, where none runs yet.
    ///
    /// # Errors
    /// Where it cannot start.
    pub(super) fn start(&self) -> anyhow::Result<Option<Replica>> {
        let Some(source) = &self.start else {
            return Ok(None);
        };
        let model = format!("{MODEL}={source}");
        let mut options = vec!["--model", &model, "--listen", "127.0.0.1:0"];
        options.extend(self.replica_option.iter().map(String::as_str));
        Replica::start(&options).map(Some)
    }

    /// Asks the endpoint what it serves, and picks the model.
    ///
    /// # Errors
    /// Within seconds, where it cannot be reached, is no replica, or does not serve the model.
    pub(super) async fn target(&self, replica: Option<&Replica>) -> anyhow::Result<Target> {
        let uri = replica.map(Replica::endpoint).or(self.endpoint.clone());
        let uri = uri.context("give --endpoint or --start")?;
        let security = self.secrets.security();
        let endpoint = wire::endpoint(&uri, &security)?.connect_timeout(CONNECT_TIMEOUT);
        let mut target = Target {
            tls: endpoint.uri().scheme_str() == Some("https"),
            connections: Connections::lazy(endpoint, self.connections),
            bearer: security.bearer()?,
            model: Model::default(),
            limits: Limits::default(),
            uri,
        };
        let info = target.info().await?;
        target.limits = info.limits.unwrap_or_default();
        target.model = choose(info.models, self.model.as_deref())
            .map_err(|error| anyhow::anyhow!("{}: {error}", target.uri))?;
        Ok(target)
    }
}

impl Target {
    async fn info(&self) -> anyhow::Result<InfoResponse> {
        let mut request = Request::new(InfoRequest {});
        self.sign(&mut request);
        let uri = &self.uri;
        let answer = timeout(INFO_TIMEOUT, self.connections.info(request)).await;
        let Ok(answer) = answer else {
            bail!("{uri} accepted the connection and then said nothing for {INFO_TIMEOUT:?}");
        };
        let info = answer.map_err(|status| self.explain(&status))?;
        ensure!(
            info.meta_version == META_VERSION,
            "{uri} (release {}) speaks meta version {}, and this program {META_VERSION}: use the \
             same release of both",
            info.version,
            info.meta_version
        );
        Ok(info)
    }

    /// Shows who we are.
    pub(super) fn sign<T>(&self, request: &mut Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.sign(request);
        }
    }

    /// A failure of the connection in words; `None` for what the replica itself has answered.
    pub(super) fn lost(&self, status: &Status) -> Option<String> {
        wire::failure(status, self.tls).map(|error| error.message)
    }

    fn explain(&self, status: &Status) -> anyhow::Error {
        let uri = &self.uri;
        if judge::by_our_clock(status) {
            return anyhow::anyhow!("{uri} was not connected within {CONNECT_TIMEOUT:?}");
        }
        if let Some(why) = self.lost(status) {
            return anyhow::anyhow!("{uri} cannot be reached: {why}: does a replica listen there?");
        }
        let why = status.message();
        match Code::from(status.code()) {
            Code::Unauthenticated if self.bearer.is_none() => {
                anyhow::anyhow!("{uri} wants a token: give --token-file ({why})")
            }
            Code::Unauthenticated => anyhow::anyhow!("{uri} does not take the token: {why}"),
            Code::Unavailable => anyhow::anyhow!("{uri} takes no calls: {why}"),
            _ => anyhow::anyhow!("{uri} answers, but is not a preheat replica: {why}"),
        }
    }
}

fn choose(models: Vec<Model>, wanted: Option<&str>) -> anyhow::Result<Model> {
    let served: Vec<String> = models.iter().map(|m| format!("`{}`", m.name)).collect();
    let fits = |model: &Model| wanted.is_none_or(|wanted| model.name == wanted);
    let Some(model) = models.into_iter().find(fits) else {
        match wanted {
            _ if served.is_empty() => bail!("it serves no model"),
            wanted => bail!(
                "it serves no model `{}`: --model takes one of {}",
                wanted.unwrap_or_default(),
                served.join(", ")
            ),
        }
    };
    let numbers = [model.latent_channels, model.spatial_compression];
    ensure!(
        !numbers.contains(&0),
        "it describes the model `{}` incompletely",
        model.name
    );
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_chosen_by_name_or_first() {
        let model = |name: &str| Model {
            name: name.into(),
            latent_channels: 4,
            spatial_compression: 8,
            ..Model::default()
        };
        let models = || vec![model("a"), model("b")];
        assert_eq!(choose(models(), None).unwrap().name, "a");
        assert_eq!(choose(models(), Some("b")).unwrap().name, "b");
        let said = choose(models(), Some("c")).unwrap_err().to_string();
        assert!(said.contains("`c`") && said.contains("`a`, `b`"), "{said}");
        assert!(choose(vec![], None).is_err());
    }
}
