//! The VAE in the loop: what training without a fleet does. The same samples in the same order, read,
//! decoded, cropped and encoded in the trainer's process while it waits.

use std::fs;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use preheat_client::{
    Config, Dataset,
    plan::{Plan, Size},
};
use preheat_models::{Encoder, Options, PixelData, Pixels, Source, choose_one, image, open_with};
use preheat_proto::limits;

use super::{protocol::InLoop, rank::Taken};

/// A model beside the training step.
pub(super) struct InProcess {
    model: Box<dyn Encoder>,
    dataset: Dataset,
    plan: Plan,
    ranks: (u32, u32),
    next: (u64, u64),
}

impl InProcess {
    /// # Errors
    /// Where the model cannot be opened, as where this program was built without a backend for it.
    pub(super) fn open(in_loop: &InLoop, config: Config, dataset: Dataset) -> anyhow::Result<Self> {
        let model = open_model(in_loop)?;
        Ok(Self {
            model,
            plan: Plan::new(config.plan_spec(), &dataset)?,
            dataset,
            ranks: (config.rank, config.world_size),
            next: (0, 0),
        })
    }

    /// The next batch, encoded.
    pub(super) fn take(&mut self) -> anyhow::Result<Taken> {
        let (epoch, step) = self.next;
        let planned = self.plan.rank_slice(epoch, step, self.ranks);
        let ids: Vec<u64> = planned.positions.iter().map(|one| one.sample).collect();
        let mut rgb = Vec::new();
        for &id in &ids {
            rgb.extend(self.crop(epoch, id, planned.size)?);
        }
        let pixels = Pixels {
            batch: ids.len(),
            frames: 1,
            height: planned.size.height as usize,
            width: planned.size.width as usize,
            data: PixelData::Rgb8(rgb),
        };
        let moments = self.model.encode(&pixels)?;
        ensure!(
            moments.shape[0] == ids.len(),
            "a latent is missing: {:?}",
            moments.shape
        );
        self.next = if step + 1 == self.plan.steps() {
            (epoch + 1, 0)
        } else {
            (epoch, step + 1)
        };
        Ok(Taken {
            epoch,
            step,
            ids,
            latents: Bytes::new(),
        })
    }

    fn crop(&self, epoch: u64, id: u64, size: Size) -> anyhow::Result<Vec<u8>> {
        let path = self.dataset.path(id);
        let path = path.context("a VAE in the loop reads folders of images only")?;
        let named = || path.display().to_string();
        let bytes = fs::read(&path).with_context(named)?;
        let source = self.dataset.size(id).with_context(named)?;
        let drawn = self.plan.transform(epoch, id, source, size);
        let drawn = drawn.with_context(named)?;
        let transform = image::Transform {
            resize: [drawn.resize.width, drawn.resize.height],
            crop: [drawn.crop_x, drawn.crop_y],
            size: [size.width, size.height],
            filter: image::Filter::Lanczos,
            flip: drawn.flip,
        };
        let decoded = image::decode(&bytes, limits::MAX_SOURCE_PIXELS).with_context(named)?;
        let cropped = image::apply(decoded, &transform).with_context(named)?;
        Ok(cropped.data)
    }
}

/// Opens the model, with advice where it cannot be: also to find out before anything is started.
///
/// # Errors
/// As [`InProcess::open`].
pub(super) fn open_model(in_loop: &InLoop) -> anyhow::Result<Box<dyn Encoder>> {
    let source: Source = in_loop.source.parse()?;
    let options = Options {
        device: choose_one(&in_loop.device)?,
        ..Options::default()
    };
    open_with(&source, options).with_context(|| format!("--vae-in-loop {}", in_loop.source))
}
