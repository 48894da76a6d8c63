//! How latents are normalised, for loaders that draw from moments themselves.

use preheat_models::LatentNorm;
use preheat_proto::v1;

/// In the one form that covers all; where a part is not used, its value changes no bit.
pub(super) fn describe(norm: &LatentNorm) -> v1::Normalization {
    let (mean, std, scale) = match norm {
        LatentNorm::None => (vec![0.0], vec![1.0], 1.0),
        LatentNorm::ShiftScale { shift, scale } => (vec![*shift], vec![1.0], *scale),
        LatentNorm::MeanStd { mean, std, scale } => (mean.clone(), std.clone(), *scale),
        LatentNorm::Patch { mean, std, .. } => (mean.clone(), std.clone(), 1.0),
    };
    v1::Normalization {
        mean,
        std,
        scale,
        patch: norm.patch() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_says_what_is_done_to_the_bit() {
        let (mean, std) = (vec![0.1, -0.2, 0.3, 7.0], vec![0.7, 1.3, 3.1, 0.9]);
        let norms = [
            LatentNorm::None,
            LatentNorm::ShiftScale {
                shift: 0.0609,
                scale: 1.5305,
            },
            LatentNorm::MeanStd {
                mean: mean.clone(),
                std: std.clone(),
                scale: 0.18215,
            },
            LatentNorm::Patch {
                patch: 2,
                mean,
                std,
            },
        ];
        for norm in norms {
            // Four channels of two cells.
            let raw = [-3.3, 0.0, 1e-7, 0.5, 1.0, 2.5, 1e6, -0.77_f32];
            let mut done = raw;
            norm.apply(&mut done, 4);
            let said = describe(&norm);
            let of = |values: &[f32], channel: usize| values[channel % values.len()];
            for (at, (raw, done)) in raw.into_iter().zip(done).enumerate() {
                let (mean, std) = (of(&said.mean, at / 2), of(&said.std, at / 2));
                let value = (raw - mean) * said.scale / std;
                assert_eq!(value.to_bits(), done.to_bits(), "{norm:?} at {at}");
            }
            assert_eq!(said.patch as usize, norm.patch());
        }
    }
}
