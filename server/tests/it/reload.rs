//! Change of a model while it serves.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use preheat_models::{
    Encoder, Error, Moments, Pixels, Spec,
    synthetic::{Config, Synthetic},
};
use preheat_proto::v1;
use preheat_server::{Models, Reloader};
use tonic::Code;

use crate::harness::{Ask, Replica, eventually, soon};

/// What the source of the model holds, and what was made of it.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    version: Arc<Mutex<u64>>,
    fault: Arc<Mutex<Option<Fault>>>,
    opened: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Fault {
    Missing,
    NotFinite,
    OtherOnEachDevice,
    Panics,
}

/// Weights from the shelf.
struct Weights {
    inner: Synthetic,
    spec: Spec,
    finite: bool,
    alive: Arc<AtomicUsize>,
}

impl Drop for Weights {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Encoder for Weights {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        let mut moments = self.inner.encode(pixels)?;
        if !self.finite {
            moments.mean[7] = f32::NAN;
        }
        Ok(moments)
    }
}

impl Shelf {
    pub(crate) fn set(&self, version: u64) {
        *self.version.lock().unwrap() = version;
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    fn open(&self, device: usize) -> anyhow::Result<Box<dyn Encoder>> {
        let mut version = *self.version.lock().unwrap();
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some(Fault::Missing) => anyhow::bail!("cannot read config.json"),
            Some(Fault::Panics) => panic!("as the test wants it"),
            Some(Fault::OtherOnEachDevice) => version += device as u64,
            Some(Fault::NotFinite) | None => {}
        }
        let inner = Synthetic::new(Config {
            version,
            ms_per_megapixel: 100,
            ..Config::default()
        });
        // So that it is tried like weights from a file.
        let mut spec = inner.spec().clone();
        spec.untrained = false;
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Weights {
            inner,
            spec,
            finite: !matches!(fault, Some(Fault::NotFinite)),
            alive: Arc::clone(&self.alive),
        }))
    }

    /// A replica that serves it as `m` on so many devices.
    pub(crate) async fn replica(&self, devices: usize, options: &[&str]) -> (Replica, Reloader) {
        let shelf = self.clone();
        let open = Arc::new(move |_: &str, device| shelf.open(device));
        let devices = (0..devices).map(|device| format!("pretended:{device}"));
        let models = Models::open(vec!["m".into()], devices.collect(), open).unwrap();
        let reloader = models.reloader();
        (Replica::with_models(options, models).await, reloader)
    }
}

fn fingerprint(version: u64) -> String {
    let config = Config {
        version,
        ..Config::default()
    };
    Synthetic::new(config).spec().fingerprint.to_string()
}

fn pinned(version: u64) -> Ask {
    let mut ask = Ask::new(64, 64).grey(100);
    ask.fingerprint = fingerprint(version);
    ask
}

async fn described(replica: &Replica) -> v1::Model {
    let info = replica.client().info(v1::InfoRequest {}).await.unwrap();
    info.into_inner().models.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_changes_under_load_fail_no_call() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(2, &[]).await;
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8_u8)
        .map(|caller| {
            let (mut client, done) = (replica.client(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let value = caller.wrapping_mul(16).wrapping_add(seen.len() as u8 % 16);
                    let reply = Ask::new(64, 64)
                        .grey(value)
                        .send(&mut client)
                        .await
                        .unwrap();
                    let expected = f32::from(value) / 127.5 - 1.0;
                    assert!((reply.latent(0)[0] - expected).abs() < 1e-5);
                    seen.push(reply.fingerprint);
                }
                seen
            })
        })
        .collect();
    for version in 1..=20 {
        shelf.set(version);
        let changes = soon(reloader.reload()).await.unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].new.to_string(), fingerprint(version));
        // New calls get the new weights at once; a run goes on with those it began with.
        let reply = replica.encode(&Ask::new(64, 64).grey(1)).await.unwrap();
        assert_eq!(reply.fingerprint, fingerprint(version));
        let reply = replica.encode(&pinned(version - 1)).await.unwrap();
        assert_eq!(reply.fingerprint, fingerprint(version - 1));
        // Two devices; now, before, and while calls let go of it the one before that.
        assert!(shelf.alive() <= 2 * 3, "{} are in memory", shelf.alive());
    }
    done.store(true, Ordering::SeqCst);
    let known: Vec<_> = (0..=20).map(fingerprint).collect();
    for caller in callers {
        let seen = soon(caller).await.unwrap();
        let places = seen
            .iter()
            .map(|print| known.iter().position(|k| k == print));
        let places: Vec<_> = places.map(Option::unwrap).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
    eventually(async || shelf.alive() == 2 * 2).await;
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_its_weights_until_the_second_change() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(1, &[]).await;
    shelf.set(1);
    reloader.reload().await.unwrap();
    let model = described(&replica).await;
    assert_eq!(model.fingerprint, fingerprint(1));
    assert_eq!(model.older_fingerprints, [fingerprint(0)]);
    assert!(replica.encode(&pinned(0)).await.is_ok());

    shelf.set(2);
    reloader.reload().await.unwrap();
    let status = replica.encode(&pinned(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    for version in [0, 1, 2] {
        assert!(status.message().contains(&fingerprint(version)), "{status}");
    }
    eventually(async || shelf.alive() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_nobody_uses_are_retired() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(2, &["--retire-after", "0"]).await;
    shelf.set(1);
    reloader.reload().await.unwrap();
    eventually(async || described(&replica).await.older_fingerprints.is_empty()).await;
    eventually(async || shelf.alive() == 2).await;
    let status = replica.encode(&pinned(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(replica.encode(&pinned(1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_or_was_there_before_is_kept() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(2, &[]).await;
    assert_eq!(reloader.reload().await.unwrap(), []);
    assert_eq!(shelf.alive(), 2);

    shelf.set(1);
    assert_eq!(reloader.reload().await.unwrap().len(), 1);
    let opened = shelf.opened.load(Ordering::SeqCst);
    // Back again: one look at the source, and the weights that are still there serve.
    shelf.set(0);
    assert_eq!(reloader.reload().await.unwrap().len(), 1);
    assert_eq!(shelf.opened.load(Ordering::SeqCst), opened + 1);
    assert_eq!(shelf.alive(), 4);
    let model = described(&replica).await;
    assert_eq!(model.fingerprint, fingerprint(0));
    assert_eq!(model.older_fingerprints, [fingerprint(1)]);
    assert!(replica.encode(&pinned(1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_checkpoint_changes_nothing_and_says_why() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(2, &[]).await;
    shelf.set(1);
    for (fault, say) in [
        (Fault::Missing, "config.json"),
        (Fault::NotFinite, "NaN"),
        (Fault::OtherOnEachDevice, "pretended:1"),
        (Fault::Panics, "panicked"),
    ] {
        *shelf.fault.lock().unwrap() = Some(fault);
        let error = format!("{:#}", soon(reloader.reload()).await.unwrap_err());
        assert!(error.contains(say) && error.contains("`m`"), "{error}");
        let reply = replica.encode(&Ask::new(64, 64).grey(1)).await.unwrap();
        assert_eq!(reply.fingerprint, fingerprint(0));
        assert_eq!(shelf.alive(), 2, "{say}");
    }
    *shelf.fault.lock().unwrap() = None;
    assert_eq!(reloader.reload().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_made_in_code_are_not_reloaded() {
    let models = Models::from(crate::harness::scripted(|_| Ok(())));
    let reloader = models.reloader();
    let replica = Replica::with_models(&[], models).await;
    let error = reloader.reload().await.unwrap_err().to_string();
    assert!(error.contains("made in code"), "{error}");
    replica.stopped().await;
    let error = reloader.reload().await.unwrap_err().to_string();
    assert!(error.contains("stops"), "{error}");
}
