//! One set of weights of a model, on every device, and what is known of it there.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use preheat_models::{Encoder, Error, Moments, Pending, Pixels, Spec};

use super::{
    Measured, Opened, Settings,
    batcher::{Budget, Terms},
    item::{Fault, FaultKind},
    trial,
};

/// A device loses a model after so many batches in a row that it failed and after each of which it
/// failed a picture known to be good, too. More than one, because drivers do hiccup.
const STRIKES: u32 = 3;

/// Lives as long as calls hold it or the catalogue does; its memory goes with it.
pub(crate) struct Generation {
    pub(crate) id: usize,
    pub(crate) name: String,
    pub(crate) spec: Spec,
    devices: Vec<Placed>,
    used: Mutex<Instant>,
}

/// A model on one device.
struct Placed {
    /// Locked by the thread of the device; and by the one that answers, where a batch failed, to
    /// find out who is to blame.
    encoder: Mutex<Box<dyn Encoder>>,
    budget: Budget,
    /// Pixels per second, smoothed; 0 before the first batch.
    rate: AtomicU64,
    strikes: AtomicU32,
    off: AtomicBool,
}

/// Why a batch has no moments.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Because of what is in it: so its items are told.
    Batch(Fault),
    /// Because of the device: another may do better.
    Device(Fault),
}

impl Generation {
    /// `opened` has one entry a device, all of one fingerprint.
    pub(crate) fn new(id: usize, name: String, opened: Vec<Opened>, settings: &Settings) -> Self {
        let mut spec = opened[0].encoder.spec().clone();
        let place = |Opened { encoder, measured }| {
            let preferred = encoder.spec().preferred_batch_pixels;
            let (pixels, rate) = measured.map_or((preferred, 0.0), |m| (m.batch_pixels, m.rate));
            Placed {
                encoder: Mutex::new(encoder),
                budget: Budget {
                    pixels: settings.batch_pixels.unwrap_or(pixels),
                    items: settings.max_batch,
                },
                rate: AtomicU64::new(rate as u64),
                strikes: AtomicU32::new(0),
                off: AtomicBool::new(false),
            }
        };
        let devices: Vec<_> = opened.into_iter().map(place).collect();
        // What callers make their chunks of.
        let largest = devices.iter().map(|device| device.budget.pixels).max();
        spec.preferred_batch_pixels = largest.unwrap_or(spec.preferred_batch_pixels);
        Self {
            id,
            name,
            spec,
            devices,
            used: Mutex::new(Instant::now()),
        }
    }

    /// What holds on a device; `None` where that has lost the model.
    pub(crate) fn terms(&self, device: usize) -> Option<Terms> {
        let placed = &self.devices[device];
        let rate = placed.rate.load(Ordering::Relaxed);
        (!placed.off.load(Ordering::Acquire)).then_some(Terms {
            budget: placed.budget,
            rate: (rate > 0).then_some(rate as f64),
        })
    }

    /// How it does on a device, if that is known.
    pub(crate) fn measured(&self, device: usize) -> Option<Measured> {
        let Terms { budget, rate } = self.terms(device)?;
        Some(Measured {
            batch_pixels: budget.pixels,
            rate: rate?,
        })
    }

    /// Whether any device can still encode it.
    pub(crate) fn is_served(&self) -> bool {
        (0..self.devices.len()).any(|device| self.terms(device).is_some())
    }

    /// Whether every device can.
    pub(crate) fn is_whole(&self) -> bool {
        (0..self.devices.len()).all(|device| self.terms(device).is_some())
    }

    /// Hands a batch to the device, on the device's thread.
    pub(crate) fn begin(&self, device: usize, pixels: &Pixels) -> Result<Pending, Failure> {
        let mut encoder = self.devices[device].lock();
        let begun = attempt(|| encoder.begin(pixels));
        begun.map_err(|fault| self.failed(device, encoder.as_mut(), fault))
    }

    /// Waits until the device has computed the batch, on any thread.
    pub(crate) fn computed(&self, device: usize, pending: &mut Pending) -> Result<(), Failure> {
        attempt(|| pending.computed()).map_err(|fault| {
            let mut encoder = self.devices[device].lock();
            self.failed(device, encoder.as_mut(), fault)
        })
    }

    /// Reads the batch back, on any thread. `took` is the time of the device.
    pub(crate) fn read_back(
        &self,
        device: usize,
        pending: Pending,
        (batch, pixels, took): (usize, u64, Duration),
    ) -> Result<Moments, Failure> {
        let placed = &self.devices[device];
        let moments = attempt(|| pending.moments()).and_then(|moments| whole(moments, batch));
        match moments {
            Ok(moments) => {
                placed.strikes.store(0, Ordering::Relaxed);
                placed.measured(pixels, took);
                Ok(moments)
            }
            Err(fault) => Err(self.failed(device, placed.lock().as_mut(), fault)),
        }
    }

    /// Bytes that this process holds on a device, for the thread of that device to ask.
    pub(crate) fn device_memory(&self, device: usize) -> Option<u64> {
        self.devices[device].lock().device_memory()
    }

    /// A batch that fails may be to blame itself, and would then be sent to device after device:
    /// so a device is judged by a picture known to be good.
    fn failed(&self, device: usize, encoder: &mut dyn Encoder, fault: Fault) -> Failure {
        if fault.kind != FaultKind::Internal {
            return Failure::Batch(fault);
        }
        let placed = &self.devices[device];
        let Err(reason) = trial::prove(encoder) else {
            placed.strikes.store(0, Ordering::Relaxed);
            return Failure::Batch(fault);
        };
        let strikes = placed.strikes.fetch_add(1, Ordering::Relaxed) + 1;
        let name = &self.name;
        if strikes >= STRIKES {
            placed.off.store(true, Ordering::Release);
            tracing::error!(
                device,
                reason,
                "model `{name}` is taken off the device: it failed {strikes} times in a row, and \
                 each time on a picture known to be good; a reload tries again"
            );
        } else {
            tracing::warn!(device, reason, strikes, "the device fails model `{name}`");
        }
        Failure::Device(fault)
    }

    /// Counts as in use now.
    pub(crate) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it was last used.
    pub(crate) fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Placed {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Encoder>> {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self, pixels: u64, took: Duration) {
        let seen = pixels as f64 / took.as_secs_f64().max(1e-6);
        let old = self.rate.load(Ordering::Relaxed) as f64;
        let new = if old == 0.0 {
            seen
        } else {
            old * 0.8 + seen * 0.2
        };
        self.rate.store(new.max(1.0) as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Encodes, with panics and answers of the wrong shape for faults.
pub(crate) fn catch(encoder: &mut dyn Encoder, pixels: &Pixels) -> Result<Moments, Fault> {
    attempt(|| encoder.encode(pixels)).and_then(|moments| whole(moments, pixels.batch))
}

fn internal(message: String) -> Fault {
    Fault::new(FaultKind::Internal, message)
}

fn attempt<T>(step: impl FnOnce() -> Result<T, Error>) -> Result<T, Fault> {
    let outcome = catch_unwind(AssertUnwindSafe(step)).map_err(|_| {
        internal("the model panicked on this batch: see the log of the replica".into())
    })?;
    outcome.map_err(|error| match error {
        Error::Size { .. } | Error::Frames { .. } => {
            Fault::new(FaultKind::Shape, error.to_string())
        }
        Error::NotFinite { .. } => Fault::new(FaultKind::NotFinite, error.to_string()),
        other => internal(other.to_string()),
    })
}

fn whole(moments: Moments, batch: usize) -> Result<Moments, Fault> {
    let values = batch * moments.element_len();
    let logvar_fits = moments.logvar.as_ref().is_none_or(|v| v.len() == values);
    if moments.shape[0] != batch || moments.mean.len() != values || !logvar_fits {
        let shape = moments.shape;
        return Err(internal(format!(
            "the model answered a batch of {batch} with shape {shape:?}"
        )));
    }
    Ok(moments)
}
