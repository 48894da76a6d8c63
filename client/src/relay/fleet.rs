//! The balancer as the relay sees it.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use preheat_proto::Error as CallError;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Call, Config, Reply,
    admin::Source,
    seam::{Asked, CONNECT_TIME, Dispatch, Load, Replica, Serving, Undecoded},
};
use crate::balance::{Discovery, Listing, View, drive, drive::Balancer, peer::Calling};

/// How often the load of the fleet is added up. Callers steer by it over seconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the fleet does in this time should be under way here: only what waits here can be ordered, and
/// a slow replica takes part only where there is more to do than the fast ones do in the meantime.
const WINDOW: Duration = Duration::from_secs(4);

/// See the module.
pub struct Fleet {
    balancer: Balancer,
    discovery: Discovery,
    serving: watch::Receiver<Serving>,
    load: watch::Receiver<Load>,
    _follow: [AbortOnDropHandle<()>; 2],
}

impl Fleet {
    /// Looks for the replicas. Must be called inside a runtime.
    ///
    /// # Errors
    /// A token file that cannot be read.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let calling = Calling::new(&config.security, config.connections, CONNECT_TIME)?;
        let discovery = Discovery::start(config.sources.clone()).await;
        let balancer = Balancer::start(config.settings.clone(), calling, &discovery);
        let (say, serving) = watch::channel(Serving::from([]));
        let (tell, load) = watch::channel(Load::default());
        let follow = [
            tokio::spawn(follow(balancer.clone(), say)),
            tokio::spawn(weigh(balancer.clone(), tell)),
        ];
        Ok(Self {
            balancer,
            discovery,
            serving,
            load,
            _follow: follow.map(AbortOnDropHandle::new),
        })
    }

    /// What the status page shows, until `draining` is cancelled, and then that.
    pub(super) fn looks(&self, draining: CancellationToken) -> Looks {
        Looks {
            balancer: self.balancer.clone(),
            listing: self.discovery.listing(),
            draining,
        }
    }

    /// Reads the list of replicas again.
    pub fn reload(&self) {
        self.discovery.reload();
    }
}

/// See [`Fleet::looks`].
pub(super) struct Looks {
    balancer: Balancer,
    listing: watch::Receiver<Arc<Listing>>,
    draining: CancellationToken,
}

impl Source for Looks {
    fn view(&self) -> View {
        self.balancer.view().0
    }

    fn listing(&self) -> Arc<Listing> {
        self.listing.borrow().clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

async fn follow(balancer: Balancer, say: watch::Sender<Serving>) {
    let mut changes = balancer.changes();
    loop {
        changes.borrow_and_update();
        let up = balancer
            .known()
            .into_iter()
            .filter(|one| one.trouble.is_none());
        let now: Serving = up.filter_map(|one| one.info).collect();
        say.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn weigh(balancer: Balancer, tell: watch::Sender<Load>) {
    let mut pace = interval(LOOK_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let (pixels_per_second, queued_pixels) = balancer.load();
        tell.send_replace(Load {
            pixels_per_second,
            queued_pixels,
            window_pixels: pixels_per_second * WINDOW.as_secs_f64(),
        });
    }
}

impl Dispatch for Fleet {
    fn call(&self, asked: Asked, call: Call) -> BoxFuture<'static, Result<Reply, CallError>> {
        let balancer = self.balancer.clone();
        Box::pin(async move {
            let asked = drive::Asked {
                model: asked.model,
                fingerprint: asked.fingerprint,
                trainer: Arc::from(asked.trainer),
                weight: asked.weight,
                pixels: asked.pixels,
                needed_at: Instant::now() + asked.needed_in,
                ready: asked.ready,
            };
            balancer.call(&Undecoded, &asked, call).await
        })
    }

    fn any(&self, model: &str) -> Option<Replica> {
        let (peer, heard) = self.balancer.any(model)?;
        Some(Replica { peer, heard })
    }

    fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.clone()
    }

    fn load(&self) -> Load {
        *self.load.borrow()
    }
}
