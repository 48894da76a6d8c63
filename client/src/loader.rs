//! The loader: plan, read, embed, window, batch.

mod background;
mod coming;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::background::Background;
use self::coming::Coming;
use crate::{
    bad::{Report as BadReport, Tally},
    balance::{View, drive::Balancer},
    batch::Batch,
    cache::{Cache, CachedEmbedder, FlushOnDrop, Recipe},
    config::{BadSamples, Config},
    dataset::Dataset,
    decode::{self, Decoders, GoneOnDrop},
    embed::Embedder,
    error::Error,
    headspace::Headspace,
    model::Model,
    pipeline::{Cursor, Pipeline, Prepared},
    plan::{Plan, Report},
    prepare::Run,
    reach::reach,
    stack::stack,
    state::{Identity, STATE_VERSION, State},
    stats::{Recorder, SHORTEST_WAIT, Stages, Stats},
    window::Window,
};

/// Delivers a run's batches, in order, from inside the trainer's process.
///
/// The interface blocks, and can be used with or without an async runtime around it. Dropping it
/// cancels everything under way.
pub struct DataLoader {
    run: Arc<Run>,
    identity: Identity,
    at: Cursor,
    failed: Option<Error>,
    /// What was delivered since the start, or since a state was loaded.
    tally: Tally,
    window: (u64, u32),
    balancer: Balancer,
    coming: Coming,
    /// Declared before the runtime, and so dropped before it.
    pipeline: Pipeline,
    /// After the pipeline, which ends their work.
    _decoders: GoneOnDrop,
    /// After the pipeline, which puts nothing more into it then.
    _cache: FlushOnDrop,
    runtime: Background,
}

impl DataLoader {
    /// Indexes the dataset, finds the model, and starts to work ahead.
    ///
    /// # Errors
    /// A config that makes no sense, a dataset that cannot be read, nobody at the endpoint, a
    /// model that is not there or cannot do what is asked, a state of another run.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let dataset = Dataset::open(&config, config.bad_samples, &|_| {})?;
        Self::with_dataset(config, Arc::new(dataset))
    }

    /// The same with an index made before, to show its progress or to share it.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_dataset(config: Config, dataset: Arc<Dataset>) -> Result<Self, Error> {
        config.check()?;
        let dataset = Arc::new(dataset.delivered(&config)?);
        let layouts = dataset.layouts();
        let plan = Plan::open(config.plan_spec(), &*dataset, layouts, &|_, _| {})?;
        tracing::info!("plan: {}", plan.report());
        let unusable = unusable(&config, &dataset, &plan)?;
        let tally = Tally::new(&config);
        tally.judge(&dataset, unusable.iter())?;
        let recorder = Recorder::new();
        let decoders = Decoders::new(&config, &dataset)?;
        let runtime = Background::start(decode::count(&config))?;
        let (balancer, model) = reach(&config, &runtime)?;
        model.check_sizes(plan.report().buckets.iter().map(|bucket| bucket.size))?;
        let sizes = plan.report().buckets.into_iter().map(|bucket| bucket.size);
        model.check_payloads(&config, sizes, dataset.has_video_files())?;
        let model = Arc::new(model);
        let samples = (dataset.fingerprint().to_owned(), dataset.len());
        let identity = Identity::new(&config, samples, model.fingerprint.clone());
        let at = start_at(&identity, &plan, config.resume.as_ref())?;
        let stack = stack(balancer.clone(), &config, recorder.clone());
        let embedder = Embedder::new(stack, model.clone(), &config, recorder.clone());
        let cache = open_cache(&config, &model, &recorder)?;
        let run = Arc::new(Run {
            embedder: CachedEmbedder::new(embedder, cache.clone(), model.clone(), &config)?,
            policy: config.bad_samples,
            report: config.bad_sample_report.as_deref().map(BadReport::open),
            headspace: config.headspace.then(Headspace::default),
            ranks: (config.rank, config.world_size),
            caption_dropout: config.caption_dropout,
            epochs: config.epochs,
            dataset,
            plan,
            model,
            recorder,
            unusable,
            decoders: decoders.clone(),
        });
        let window = (config.window_bytes, config.max_batches_ahead);
        let ahead = Window::new(window.0, window.1);
        Ok(Self {
            pipeline: Pipeline::start(runtime.handle(), run.clone(), at, ahead),
            _decoders: GoneOnDrop(decoders),
            _cache: FlushOnDrop(cache),
            failed: None,
            coming: Coming::default(),
            run,
            identity,
            at,
            tally,
            window,
            balancer,
            runtime,
        })
    }

    /// The next batch; `None` once at the end of each epoch, and for ever after the last.
    ///
    /// # Errors
    /// A bad sample under [`BadSamples::Fail`](crate::BadSamples::Fail), too many of them, or a call
    /// that failed for good. The batch is not skipped: the loader stops, and [`Self::state`] still names it.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        if let Some(error) = &self.failed {
            return Err(Error::Stopped(error.to_string()));
        }
        if self
            .run
            .epochs
            .is_some_and(|epochs| self.at.epoch >= epochs)
        {
            return Ok(None);
        }
        match self.take() {
            Ok(Some(batch)) => {
                self.at.step += 1;
                Ok(Some(batch))
            }
            Ok(None) => {
                self.at = Cursor {
                    epoch: self.at.epoch + 1,
                    step: 0,
                };
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Waits until [`Self::next_batch`] would return at once, at most so long; whether it would. For
    /// callers that have to look after something else meanwhile.
    pub fn wait(&mut self, most: Duration) -> bool {
        let over = self.run.epochs.is_some_and(|last| self.at.epoch >= last);
        if over || self.failed.is_some() {
            return true;
        }
        let from = (&self.pipeline, &self.run.recorder);
        // What has crashed is known at once.
        self.coming.wait(from, Some(most)).unwrap_or(true)
    }

    fn take(&mut self) -> Result<Option<Batch>, Error> {
        let asked = self.coming.asked();
        let from = (&self.pipeline, &self.run.recorder);
        self.coming.wait(from, None)?;
        let Some(prepared) = self.coming.take()? else {
            return Ok(None);
        };
        let Prepared {
            batch,
            admission,
            ready,
            last,
        } = prepared;
        let batch = batch.and_then(|batch| {
            let (dataset, recorder) = (&self.run.dataset, &self.run.recorder);
            self.tally.count(&batch, dataset, recorder)?;
            Ok(batch)
        });
        if batch.is_err() {
            // Before its room is given back: what follows will not be taken.
            self.pipeline.stop();
        }
        drop(admission);
        let batch = batch?;
        self.pipeline.window.taken();
        let images = batch.samples.len() as u64;
        let now = Instant::now();
        let wait = now.saturating_duration_since(asked);
        let on = match last {
            Some(last) if wait >= SHORTEST_WAIT => last.during(asked, now),
            _ => Stages::default(),
        };
        let window = &self.pipeline.window;
        self.run.recorder.taken(images, (wait, on), window);
        drop(ready);
        if (batch.epoch, batch.step) != (self.at.epoch, self.at.step) {
            return Err(Error::Internal("a batch out of order".into()));
        }
        Ok(Some(batch))
    }

    /// The batches up to the end of the current epoch. Dropping it early loses nothing: the next
    /// one goes on from there.
    pub fn epoch(&mut self) -> Epoch<'_> {
        Epoch {
            loader: self,
            over: false,
        }
    }

    /// Where the run is: save it with a checkpoint.
    pub fn state(&self) -> State {
        State {
            state_version: STATE_VERSION,
            epoch: self.at.epoch,
            step: self.at.step,
            run: self.identity.clone(),
        }
    }

    /// Goes to a saved place, forwards or back, without reading or skipping anything. Bad samples
    /// count towards their bounds anew.
    ///
    /// # Errors
    /// [`Error::StateMismatch`] for a state of another run; the loader is then unchanged.
    pub fn load_state(&mut self, state: &State) -> Result<(), Error> {
        let at = start_at(&self.identity, &self.run.plan, Some(state))?;
        let ahead = Window::new(self.window.0, self.window.1);
        self.coming = Coming::default();
        self.pipeline = Pipeline::start(self.runtime.handle(), self.run.clone(), at, ahead);
        self.failed = None;
        self.tally = self.tally.anew();
        self.at = at;
        Ok(())
    }

    /// Steps of one epoch.
    pub fn steps(&self) -> u64 {
        self.run.plan.steps()
    }

    /// The order, with random access: what is delivered at any epoch and step.
    pub fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// What becomes of the samples: buckets, padding, what is dropped.
    pub fn report(&self) -> Report {
        self.run.plan.report()
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.run.dataset
    }

    /// The model, as its replica describes it.
    pub fn model(&self) -> &Model {
        &self.run.model
    }

    /// The fleet at this moment: which replicas are up, how fast they are, what waits for them.
    pub fn fleet(&self) -> View {
        self.balancer.view().0
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        self.run.recorder.snapshot(&self.pipeline.window)
    }
}

/// The rest of an epoch. Made by [`DataLoader::epoch`].
pub struct Epoch<'a> {
    loader: &'a mut DataLoader,
    over: bool,
}

impl Epoch<'_> {
    /// The loader, for its state or statistics between batches.
    pub fn loader(&self) -> &DataLoader {
        self.loader
    }
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.loader.next_batch().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn crashed(_: impl std::error::Error) -> Error {
    Error::Internal("a task of the loader panicked".into())
}

/// The latent cache of this run, where it has one.
fn open_cache(config: &Config, model: &Model, recorder: &Recorder) -> Result<Option<Cache>, Error> {
    let recipe = Recipe::new(&model.fingerprint, model.sent, config.filter);
    let cache = config.cache.as_ref();
    let open = |cache| Cache::open(cache, recipe, recorder.cache.clone());
    cache.map(open).transpose()
}

/// Every sample that the plan cannot use, with the reason.
fn unusable(
    config: &Config,
    dataset: &Dataset,
    plan: &Plan,
) -> Result<BTreeMap<u64, String>, Error> {
    let mut unusable = BTreeMap::new();
    for &id in plan.unusable() {
        let known = dataset.bad().get(&id).cloned();
        let reason = match (known.or_else(|| dataset.too_short(id)), dataset.size(id)) {
            (None, Some(size)) => format!("{size} is too elongated to cover any bucket"),
            (known, _) => known.unwrap_or_default(),
        };
        if config.bad_samples == BadSamples::Fail {
            let key = dataset.key(id).into_owned();
            return Err(Error::BadSample { key, reason });
        }
        unusable.insert(id, reason);
    }
    Ok(unusable)
}

/// Where to start: what `resume` says if it belongs to this run.
fn start_at(identity: &Identity, plan: &Plan, resume: Option<&State>) -> Result<Cursor, Error> {
    let Some(state) = resume else {
        return Ok(Cursor { epoch: 0, step: 0 });
    };
    identity.accept(&state.run)?;
    if state.step > plan.steps() {
        let (step, steps) = (state.step, plan.steps());
        return Err(Error::State(format!(
            "step is {step}, and an epoch has {steps}"
        )));
    }
    Ok(Cursor {
        epoch: state.epoch,
        step: state.step,
    })
}
