//! From bytes to what a model sees, on the device: a quarter of the upload.

use cubecl::prelude::*;

/// `byte / 255 * 2 - 1` for every byte of `bytes`, four to a word, the lowest first.
#[cube(launch)]
pub(super) fn unpack<F: Float>(
    bytes: &Tensor<u32>,
    out: &mut Tensor<F>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let at = ABSOLUTE_POS as u32;
    let byte = (bytes[(at / 4) as usize] >> (at % 4 * 8)) & 255;
    out[ABSOLUTE_POS] = F::cast_from(f32::cast_from(byte) / 255.0 * 2.0 - 1.0);
}
