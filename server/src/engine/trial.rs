//! What a model must do before it serves: encode a picture, and give something finite.

use preheat_models::{Encoder, PixelData, Pixels};

use super::generation::catch;

/// Side of the picture. Small, because trials also run beside serving devices, and large enough
/// for every class.
const SIDE: usize = 128;

/// Encodes a picture of many colours.
///
/// # Errors
/// What is wrong, as advice.
pub(crate) fn prove(encoder: &mut dyn Encoder) -> Result<(), String> {
    let spec = encoder.spec();
    let side = SIDE.next_multiple_of(spec.size_multiple.max(1));
    let dtype = spec.dtype;
    let moments = catch(encoder, &picture(1, side))
        .map_err(|fault| format!("it cannot encode a picture of {side}x{side}: {fault}"))?;
    let logvar = moments.logvar.iter().flatten();
    match moments.mean.iter().chain(logvar).find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(value) => Err(format!(
            "its latent of a test picture holds {value}: its weights are damaged, or it overflows \
             in {dtype}"
        )),
    }
}

/// So many squares with ramps of all colours.
pub(crate) fn picture(batch: usize, side: usize) -> Pixels {
    let ramp = |at: usize| (at * 255 / side.max(2).saturating_sub(1)) as u8;
    let mut data = Vec::with_capacity(batch * side * side * 3);
    for _ in 0..batch {
        for y in 0..side {
            for x in 0..side {
                data.extend([ramp(x), ramp(y), ramp((x + y) / 2)]);
            }
        }
    }
    Pixels {
        batch,
        frames: 1,
        height: side,
        width: side,
        data: PixelData::Rgb8(data),
    }
}
