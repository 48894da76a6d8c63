//! Change of a model without downtime. The new weights are opened and tried beside the old ones,
//! which serve meanwhile; only when all is well do new calls get them.

use std::{convert::Infallible, sync::Arc, thread, time::Duration};

use anyhow::{Context, anyhow, bail};
use preheat_models::Fingerprint;
use tokio::{
    sync::oneshot,
    time::{Instant, interval, timeout_at},
};

use crate::{
    engine::{Engine, Generation},
    metrics::Reloads,
    models::{Again, Found},
};

/// Reloads that wait while one is under way. One, because it will see what later ones would.
const WAITING: usize = 1;

/// Before a reload: how long calls may take to let go of the weights that the one before retired.
/// With that, a model never has more than three sets of weights in memory.
const LET_GO: Duration = Duration::from_secs(30);

/// How often to look.
const LOOK: Duration = Duration::from_millis(20);

/// A model that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub model: String,
    /// What it was.
    pub old: Fingerprint,
    /// What new calls get.
    pub new: Fingerprint,
}

type Ask = oneshot::Sender<anyhow::Result<Vec<Change>>>;

/// Reloads that were asked for.
pub(crate) type Asks = flume::Receiver<Ask>;

/// Asks a replica to read the sources of its models again.
#[derive(Clone, Debug)]
pub struct Reloader(flume::Sender<Ask>);

impl Reloader {
    pub(crate) fn new() -> (Self, Asks) {
        let (asks, asked) = flume::bounded(WAITING);
        (Self(asks), asked)
    }

    /// Opens all models again and serves those that changed, all or none of them. Returns when
    /// they are served; the list is empty where nothing changed.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn reload(&self) -> anyhow::Result<Vec<Change>> {
        let (ask, answer) = oneshot::channel();
        self.0.try_send(ask).map_err(|error| match error {
            flume::TrySendError::Full(_) => {
                anyhow!("a reload is under way and the next is waiting: that one will do")
            }
            flume::TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> anyhow::Error {
    anyhow!("the replica stops: nothing was reloaded")
}

/// Does what is asked for, for ever. Dropped in the middle, it changes nothing.
pub(crate) async fn answer(asks: Asks, again: Option<Again>, engine: &Engine) -> Infallible {
    let metrics = Reloads::new();
    while let Ok(ask) = asks.recv_async().await {
        let result = match &again {
            Some(again) => reload(again, engine).await,
            None => Err(anyhow!(
                "these models were made in code: there is nothing to read again"
            )),
        };
        match &result {
            Ok(changes) if changes.is_empty() => {
                metrics.unchanged.increment(1);
                tracing::info!("reloaded: no model has changed");
            }
            Ok(changes) => {
                metrics.changed.increment(1);
                for Change { model, old, new } in changes {
                    tracing::info!(%old, %new, "reloaded: model `{model}` has new weights");
                }
            }
            Err(error) => {
                metrics.failed.increment(1);
                tracing::error!("nothing was reloaded, the models serve as before: {error:#}");
            }
        }
        // Whoever asked may have gone.
        let _ = ask.send(result);
    }
    // Only if every sender is gone; then nobody can ask any more.
    std::future::pending().await
}

async fn reload(again: &Again, engine: &Engine) -> anyhow::Result<Vec<Change>> {
    let gone = timeout_at(Instant::now() + LET_GO, async {
        let mut pace = interval(LOOK);
        while engine.catalogue().leaving() > 0 {
            pace.tick().await;
        }
    });
    if gone.await.is_err() {
        bail!("calls still hold weights that an earlier reload retired: try again later");
    }
    // Held until the end, so that nothing that may be brought back is retired meanwhile.
    let served = engine.catalogue().list();
    let mut swaps = Vec::new();
    for (all, found) in served.iter().zip(look(again, &served).await?) {
        let old = all[0].spec.fingerprint;
        let new = match &found {
            Found::Known(fingerprint) if *fingerprint == old => continue,
            Found::Known(fingerprint) => *fingerprint,
            Found::New(model) => model.fingerprint(),
        };
        let model = all[0].name.clone();
        swaps.push((Change { model, old, new }, found));
    }
    let swap = |(change, found): (Change, Found)| {
        match found {
            Found::Known(fingerprint) => {
                engine.catalogue().bring_back(&change.model, fingerprint);
            }
            Found::New(model) => engine.replace(model),
        }
        change
    };
    Ok(swaps.into_iter().map(swap).collect())
}

/// What the source of each model holds. On a thread of its own, which does not hold up the end of
/// the process.
async fn look(again: &Again, served: &[Vec<Arc<Generation>>]) -> anyhow::Result<Vec<Found>> {
    let again = again.clone();
    let known = |all: &Vec<Arc<Generation>>| {
        // One that a device has lost is opened again.
        let whole = all.iter().filter(|generation| generation.is_whole());
        let prints = whole.map(|generation| generation.spec.fingerprint);
        (all[0].name.clone(), prints.collect())
    };
    let known: Vec<(String, Vec<Fingerprint>)> = served.iter().map(known).collect();
    let (found, answer) = oneshot::channel();
    let look = move || {
        let look = |(name, known): &(String, Vec<_>)| again.look(name, known);
        // If nobody waits the replica is going away.
        let _ = found.send(known.iter().map(look).collect());
    };
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(look)
        .context("cannot start a thread to reload on")?;
    answer
        .await
        .context("opening the models panicked: see the log")?
}
