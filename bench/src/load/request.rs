//! Calls made ready before the clock starts: what is left to do for each is to copy handles.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use preheat_client::plan::{Size, cover};
use preheat_proto::{
    DType, Filter, ItemMeta, META_VERSION, Posterior, RequestMeta, Scale, Source, batch::archive,
    headers, limits, v1::EncodeRequest,
};
use tonic::Request;

use super::{photo::Photo, target::Target, typed};

/// Different calls that are sent in turn. Enough for shares by weight in steps of less than 2 %.
const CALLS: usize = 64;

/// What is asked of every call.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) items: usize,
    /// Frames of each of them; 1 for images.
    pub(super) frames: u32,
    pub(super) dtype: DType,
    pub(super) posterior: Posterior,
    pub(super) timeout: Duration,
}

/// A call that can be sent at any time, any number of times.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) request: EncodeRequest,
    pub(super) ids: Vec<u64>,
    pub(super) size: Size,
    /// Shape of one tensor of the answer.
    pub(super) shape: Vec<u32>,
    /// Bytes of the message, nearly: payloads and metadata.
    pub(super) bytes: u64,
    pub(super) asked: Asked,
}

impl Prepared {
    /// The call, as a loader sends it.
    pub(super) fn call(&self) -> Request<EncodeRequest> {
        let mut request = Request::new(self.request.clone());
        let needed_in = u64::try_from(self.asked.timeout.as_millis()).unwrap_or(u64::MAX);
        let frames = u64::from(self.asked.frames);
        let cost = self.size.area() * frames * self.ids.len() as u64;
        let metadata = request.metadata_mut();
        metadata.insert(headers::COST_PIXELS, cost.into());
        metadata.insert(headers::NEEDED_IN_MS, needed_in.into());
        request.set_timeout(self.asked.timeout);
        request
    }
}

/// The calls of a run, in the order in which they are sent, over and over.
///
/// # Errors
/// Where a size, a photo and the limits of the replica do not fit together.
pub(super) fn prepare(
    target: &Target,
    photos: &[Photo],
    sizes: &[typed::Weighted],
    asked: &Asked,
    seed: u64,
) -> anyhow::Result<Vec<Prepared>> {
    ensure!(
        target.model.has_posterior || asked.posterior == Posterior::Mode,
        "the model `{}` has no posterior: use --posterior mode",
        target.model.name
    );
    let step = target.model.frame_step.max(1);
    let over = (asked.frames - 1) % step;
    ensure!(
        over == 0,
        "the model `{}` takes k * {step} + 1 frames: --frames {} or {}",
        target.model.name,
        asked.frames - over,
        asked.frames - over + step
    );
    let usable: Vec<Vec<&Photo>> = sizes
        .iter()
        .map(|sized| {
            let covers = |photo: &&Photo| cover(photo.size, sized.size).is_some();
            let usable: Vec<_> = photos.iter().filter(covers).collect();
            ensure!(
                !usable.is_empty(),
                "no photo can be made to cover {} within the limit of {} pixels",
                sized.size,
                limits::MAX_SOURCE_PIXELS
            );
            Ok(usable)
        })
        .collect::<anyhow::Result<_>>()?;
    let weights: Vec<u32> = sizes.iter().map(|sized| sized.weight).collect();
    let mut next = 0;
    let prepare = |index: usize| {
        let photos = &usable[index];
        let chosen: Vec<&Photo> = (next..next + asked.items)
            .map(|at| photos[at % photos.len()])
            .collect();
        next += asked.items;
        one(target, &chosen, sizes[index].size, asked)
    };
    typed::mix(&weights, CALLS, seed)
        .into_iter()
        .map(prepare)
        .collect()
}

fn one(target: &Target, photos: &[&Photo], size: Size, asked: &Asked) -> anyhow::Result<Prepared> {
    let items: Vec<ItemMeta> = (0..)
        .zip(photos)
        .map(|(id, photo)| {
            let item = item(id, photo.size, size).context("a photo that cannot cover")?;
            Ok(ItemMeta {
                payloads: asked.frames,
                ..item
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let ids: Vec<u64> = items.iter().map(|item| item.id).collect();
    let meta = archive(&RequestMeta {
        width: size.width,
        height: size.height,
        frames: asked.frames,
        dtype: asked.dtype,
        posterior: asked.posterior,
        scale: Scale::Raw,
        items,
    })?;
    let frames = |photo: &&Photo| std::iter::repeat_n(photo.bytes.clone(), asked.frames as usize);
    let payloads: Vec<Bytes> = photos.iter().flat_map(frames).collect();
    let bytes = (meta.len() + payloads.iter().map(Bytes::len).sum::<usize>()) as u64;
    let most = match (
        target.limits.max_message_bytes,
        target.limits.max_request_bytes,
    ) {
        (_, most) if asked.frames > 1 && most > 0 => most,
        (0, _) => limits::MAX_MESSAGE_BYTES as u64,
        (most, _) => most,
    };
    // Room for the tags and lengths of everything.
    ensure!(
        bytes + limits::MAX_META_BYTES as u64 <= most,
        "a call of {} items has {:.1} MB, and a message takes {:.1}: lower --items or --bytes",
        photos.len(),
        bytes as f64 / 1e6,
        most as f64 / 1e6
    );
    let model = &target.model;
    let twice = if asked.posterior == Posterior::Moments {
        2
    } else {
        1
    };
    let cell = model.spatial_compression;
    let channels = twice * model.latent_channels;
    Ok(Prepared {
        request: EncodeRequest {
            meta_version: META_VERSION,
            model: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
            meta,
            payloads,
        },
        ids,
        size,
        shape: match asked.frames {
            1 => vec![channels, size.height / cell, size.width / cell],
            frames => {
                let frames = (frames - 1) / model.temporal_compression.max(1) + 1;
                vec![channels, frames, size.height / cell, size.width / cell]
            }
        },
        bytes,
        asked: asked.clone(),
    })
}

/// Scaled to cover the output, the middle cut out: what a loader does by default.
fn item(id: u64, source: Size, size: Size) -> Option<ItemMeta> {
    let resize = cover(source, size)?;
    Some(ItemMeta {
        id,
        seed: id,
        source_width: source.width,
        source_height: source.height,
        resize_width: resize.width,
        resize_height: resize.height,
        crop_x: (resize.width - size.width) / 2,
        crop_y: (resize.height - size.height) / 2,
        payloads: 1,
        source: Source::Encoded,
        filter: Filter::Lanczos,
        flip: false,
        times: Vec::new(),
    })
}
