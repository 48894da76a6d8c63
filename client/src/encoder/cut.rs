//! Sizes, crops and chunks of a one-off call.

use crate::{
    config::Crop,
    embed::Item,
    error::Error,
    model::Model,
    plan::{self, Purpose, Size, Transform, TransformSpec, draw},
};

/// Size of the output images: as asked for, or that of the images.
///
/// # Errors
/// Images of several sizes, or a size that the model does not take.
pub(super) fn output(
    sizes: &[Result<Size, String>],
    wanted: Option<Size>,
    model: &Model,
) -> Result<Size, Error> {
    let multiple = model
        .served
        .size_multiple
        .max(model.served.spatial_compression);
    let size = match wanted {
        Some(size)
            if !size.width.is_multiple_of(multiple) || !size.height.is_multiple_of(multiple) =>
        {
            let reason = format!("is {size}, must be multiples of {multiple} for this model");
            return Err(Error::config("size", reason));
        }
        Some(size) => size,
        None => {
            let size = only(sizes)?;
            let floor = |side: u32| side / multiple * multiple;
            let floored = Size::new(floor(size.width), floor(size.height));
            if floored.area() == 0 {
                let reason = format!("is {size}, and the model takes {multiple} pixels and more");
                return Err(Error::config("images", reason));
            }
            floored
        }
    };
    model.check_sizes([size].into_iter())?;
    Ok(size)
}

/// The one size of all images that have one.
fn only(sizes: &[Result<Size, String>]) -> Result<Size, Error> {
    let mut good = sizes.iter().flatten();
    let Some(&first) = good.next() else {
        let bad = sizes.iter().find_map(|size| size.as_ref().err());
        let why = bad.map_or(String::new(), |why| format!(": the first {why}"));
        let reason = format!("are {}, and none of them can be read{why}", sizes.len());
        return Err(Error::config("images", reason));
    };
    match good.find(|&&size| size != first) {
        None => Ok(first),
        Some(other) => {
            let reason = format!("are of several sizes, {first} and {other}: give `size`");
            Err(Error::config("images", reason))
        }
    }
}

/// The geometry of an image; in words, why there is none.
pub(super) fn transform(
    (resizes, crop): (bool, Crop),
    key: (u64, u64, u64),
    source: Size,
    size: Size,
) -> Result<Transform, String> {
    if !resizes {
        return Ok(Transform {
            source,
            resize: source,
            crop_x: (source.width - size.width) / 2,
            crop_y: (source.height - size.height) / 2,
            flip: false,
        });
    }
    let spec = TransformSpec { crop, flip: 0.0 };
    plan::transform(spec, key, source, size)
        .ok_or_else(|| format!("{source} is too elongated to cover {size}"))
}

/// The key of an image's posterior draw.
pub(super) fn posterior_seed((seed, epoch, id): (u64, u64, u64)) -> u64 {
    draw(seed, epoch, id, Purpose::Posterior)
}

/// What one call each may carry.
pub(super) fn chunks(items: Vec<Item>, most: usize, bytes: u64) -> Vec<Vec<Item>> {
    let mut chunks: Vec<Vec<Item>> = Vec::new();
    let mut room = 0;
    for item in items {
        let length = item
            .payloads
            .iter()
            .map(|payload| payload.len() as u64)
            .sum();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < most && length <= room => {
                room -= length;
                chunk.push(item);
            }
            _ => {
                room = bytes.saturating_sub(length);
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}
