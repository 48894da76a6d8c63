//! A balancer that cannot surprise a test: a call goes to the first replica that takes it.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use preheat_client::{
    Security,
    balance::Outcome,
    relay::{
        Call, Reply,
        seam::{Asked, Dispatch, Load, Replica, Serving},
    },
};
use preheat_proto::{Code, Error as CallError, v1::InfoResponse};
use tokio::{sync::watch, task::JoinSet, time::sleep};

/// How often a replica is asked whether it is up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct First {
    replicas: Vec<Replica>,
    up: watch::Receiver<Vec<Option<Arc<InfoResponse>>>>,
    serving: watch::Receiver<Serving>,
    _asking: JoinSet<()>,
}

impl First {
    pub(crate) fn start(uris: &[String]) -> Self {
        let one = |uri: &String| Replica::new(uri, &Security::default()).unwrap();
        let replicas: Vec<_> = uris.iter().map(one).collect();
        let (up, ups) = watch::channel(vec![None; replicas.len()]);
        let (say, serving) = watch::channel(Serving::from([]));
        let mut asking = JoinSet::new();
        for (index, replica) in replicas.iter().cloned().enumerate() {
            let (up, say) = (up.clone(), say.clone());
            asking.spawn(async move {
                loop {
                    let now = replica.info().await.ok().map(Arc::new);
                    up.send_if_modified(|all| {
                        let changed = all[index] != now;
                        all[index] = now;
                        if changed {
                            say.send_replace(all.iter().flatten().cloned().collect());
                        }
                        changed
                    });
                    sleep(LOOK_EVERY).await;
                }
            });
        }
        Self {
            replicas,
            up: ups,
            serving,
            _asking: asking,
        }
    }

    fn that_serve(&self, model: &str) -> Vec<Replica> {
        let up = self.up.borrow();
        let serves = |info: &InfoResponse| {
            model.is_empty() || info.models.iter().any(|known| known.name == model)
        };
        let all = self.replicas.iter().zip(up.iter());
        all.filter(|(_, info)| info.as_ref().is_some_and(|info| serves(info)))
            .map(|(replica, _)| replica.clone())
            .collect()
    }
}

impl Dispatch for First {
    fn call(&self, asked: Asked, call: Call) -> BoxFuture<'static, Result<Reply, CallError>> {
        let replicas = self.that_serve(&asked.model);
        Box::pin(async move {
            let mut last = CallError::new(Code::Unavailable, "nobody is up");
            for replica in replicas {
                match replica.send(call.clone()).await {
                    Ok(reply) => return Ok(reply),
                    Err(Outcome::Refused(error)) => return Err(error),
                    Err(Outcome::NotHere(error) | Outcome::Fault(error)) => last = error,
                    Err(Outcome::Busy(pushback)) => last = CallError::busy("busy", pushback),
                    Err(Outcome::Away { reason, .. }) => {
                        last = CallError::new(Code::Unavailable, reason.to_string());
                    }
                    Err(Outcome::Answered) => unreachable!(),
                }
            }
            Err(last)
        })
    }

    fn any(&self, model: &str) -> Option<Replica> {
        self.that_serve(model).into_iter().next()
    }

    fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.clone()
    }

    fn load(&self) -> Load {
        Load::default()
    }
}
