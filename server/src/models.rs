//! The models of a replica: opened on every device, at the start and again whenever it is told to.

use std::{sync::Arc, thread};

use anyhow::{Context, anyhow, bail};
use preheat_models::{Device, Encoder, Fingerprint};

use crate::{
    engine::{Measured, Model, Opened, probe, prove},
    reload::{Asks, Reloader},
};

/// Opens the model of a name on the device of an index. It is called on any thread but those of
/// the devices, at the start and at every reload, and gives what the source holds at that moment.
pub type Open = Arc<dyn Fn(&str, usize) -> anyhow::Result<Box<dyn Encoder>> + Send + Sync>;

/// Models on their devices, and how to open them again.
pub struct Models {
    pub(crate) devices: Vec<String>,
    pub(crate) models: Vec<Model>,
    pub(crate) again: Option<Again>,
    pub(crate) reloads: (Reloader, Asks),
}

/// How to open models again.
#[derive(Clone)]
pub(crate) struct Again {
    names: Vec<String>,
    devices: Vec<String>,
    open: Open,
}

/// What a source holds, as against what is served.
pub(crate) enum Found {
    /// What is served already, now or before.
    Known(Fingerprint),
    /// Something else.
    New(Model),
}

impl Models {
    /// Opens each of the names on each of the devices, and sees that they give something finite.
    ///
    /// # Errors
    /// Which model cannot be served where, and why.
    pub fn open(names: Vec<String>, devices: Vec<String>, open: Open) -> anyhow::Result<Self> {
        let again = Again {
            names,
            devices,
            open,
        };
        let everywhere: Vec<_> = (0..again.devices.len()).collect();
        let model = |name: &String| {
            let opened = again.open_on(name, &everywhere)?;
            agree(name, &opened, &again.devices)?;
            let name = name.clone();
            Ok(Model { name, opened })
        };
        Ok(Self {
            devices: again.devices.clone(),
            models: again
                .names
                .iter()
                .map(model)
                .collect::<anyhow::Result<_>>()?,
            again: Some(again),
            reloads: Reloader::new(),
        })
    }

    /// To ask for a reload while these are served.
    pub fn reloader(&self) -> Reloader {
        self.reloads.0.clone()
    }

    /// Finds out how large batches of at most so many items should be. Not on the CPU, where what
    /// the model prefers is known to do, and where trying would take long.
    pub(crate) fn measure(&mut self, max_batch: usize) {
        for Model { name, opened } in &mut self.models {
            thread::scope(|scope| {
                for (opened, device) in opened.iter_mut().zip(&self.devices) {
                    if opened.encoder.spec().device != Device::Cpu {
                        scope.spawn(|| measure(name, opened, device, max_batch));
                    }
                }
            });
        }
    }

    /// Names, and what they are on each device.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[Opened])> {
        self.models
            .iter()
            .map(|model| (model.name.as_str(), model.opened.as_slice()))
    }
}

/// Models made by the program that embeds a replica; they cannot be reloaded. Each must be there
/// once for every device of the first.
impl From<Vec<Model>> for Models {
    fn from(models: Vec<Model>) -> Self {
        let devices = models.first().map_or(0, |model| model.opened.len());
        Self {
            devices: (0..devices).map(|index| index.to_string()).collect(),
            models,
            again: None,
            reloads: Reloader::new(),
        }
    }
}

impl Again {
    /// Opens a model on its first device, and on the others only if it is none of the `known`.
    pub(crate) fn look(&self, name: &str, known: &[Fingerprint]) -> anyhow::Result<Found> {
        let mut opened = self.open_on(name, &[0])?;
        let fingerprint = opened[0].encoder.spec().fingerprint;
        if known.contains(&fingerprint) {
            return Ok(Found::Known(fingerprint));
        }
        let others: Vec<_> = (1..self.devices.len()).collect();
        opened.extend(self.open_on(name, &others)?);
        agree(name, &opened, &self.devices)?;
        let name = name.to_owned();
        Ok(Found::New(Model { name, opened }))
    }

    /// On several devices at a time, each of which loads and compiles for itself.
    fn open_on(&self, name: &str, devices: &[usize]) -> anyhow::Result<Vec<Opened>> {
        let open = |&index: &usize| {
            let what = || format!("cannot serve model `{name}` on {}", self.devices[index]);
            let mut encoder = (self.open)(name, index).with_context(what)?;
            // Weights made in code need no trial, and the speed of some is only pretended.
            if !encoder.spec().untrained {
                let proved = prove(encoder.as_mut()).map_err(|reason| anyhow!(reason));
                proved.with_context(what)?;
            }
            Ok(Opened {
                encoder,
                measured: None,
            })
        };
        thread::scope(|scope| {
            let spawn = |index| scope.spawn(move || open(index));
            let threads: Vec<_> = devices.iter().map(spawn).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<Opened>>| {
                let panicked = |_| Err(anyhow!("opening model `{name}` panicked: see the log"));
                thread.join().unwrap_or_else(panicked)
            };
            threads.into_iter().map(join).collect()
        })
    }
}

fn measure(name: &str, opened: &mut Opened, device: &str, max_batch: usize) {
    opened.measured = probe(opened.encoder.as_mut(), max_batch);
    match opened.measured {
        Some(Measured { batch_pixels, rate }) => {
            let rate = rate as u64;
            tracing::info!(batch_pixels, rate, "model `{name}` measured on {device}");
        }
        None => tracing::warn!("model `{name}` could not be measured on {device}"),
    }
}

/// A replica gives one answer, whichever device it comes from.
fn agree(name: &str, opened: &[Opened], devices: &[String]) -> anyhow::Result<()> {
    let first = opened[0].encoder.spec();
    for (opened, device) in opened.iter().zip(devices) {
        let spec = opened.encoder.spec();
        if spec.fingerprint != first.fingerprint {
            bail!(
                "model `{name}` is {} in {} on {} but {} in {} on {device}: either its files \
                 changed while they were read, or the devices compute in different dtypes; set \
                 --dtype",
                first.fingerprint,
                first.dtype,
                devices[0],
                spec.fingerprint,
                spec.dtype
            );
        }
    }
    Ok(())
}
