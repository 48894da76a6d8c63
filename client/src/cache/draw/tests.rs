use super::*;

/// 8 channels as delivered, of 2 that the encoder makes, in patches of 2 by 2.
fn patched() -> v1::Model {
    v1::Model {
        latent_channels: 8,
        normalization: Some(v1::Normalization {
            mean: (0..8).map(|c| c as f32 / 16.0).collect(),
            std: (0..8).map(|c| 1.0 + c as f32 / 8.0).collect(),
            scale: 1.0,
            patch: 2,
        }),
        ..v1::Model::default()
    }
}

fn plain(mean: f32, std: f32, scale: f32) -> v1::Model {
    v1::Model {
        latent_channels: 4,
        normalization: Some(v1::Normalization {
            mean: vec![mean],
            std: vec![std],
            scale,
            patch: 1,
        }),
        ..v1::Model::default()
    }
}

fn ask(posterior: Posterior, scale: Scale, dtype: DType) -> Ask {
    Ask {
        posterior,
        scale,
        dtype,
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let floats = bytes.as_chunks().0.iter();
    floats.map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Moments of the models crate's test, as they travel: packed.
fn moments() -> Vec<u8> {
    let packed = |value: fn(f32) -> f32| {
        (0..8 * 2 * 2).map(move |at| {
            let (to, y, x) = (at / 4, at / 2 % 2, at % 2);
            let (channel, row, column) = (to / 4, to / 2 % 2, to % 2);
            value((channel * 16 + (y * 2 + row) * 4 + x * 2 + column) as f32)
        })
    };
    bytes(packed(|i| i / 8.0 - 1.0).chain(packed(|i| i / -4.0)))
}

/// What the models crate makes of them with seed 7: its test `packed_draws_are_the_loaders` holds
/// the same bits.
const DRAWN_7: [u32; 32] = [
    3214071062, 3217867934, 1048342976, 1034395594, 3202416724, 3190053515, 3208883935, 1048571772,
    3210427310, 3208276842, 1054538280, 1057228784, 3214762545, 3205323393, 1042976412, 1053431433,
    1049905599, 1058802865, 1066731265, 1068494447, 1056054996, 1059851516, 1066551684, 1067560946,
    1058718333, 1062463506, 1067374050, 1068242067, 1059819998, 1061950116, 1066792022, 1067952063,
];

#[test]
fn draws_are_the_replicas_to_the_bit() {
    let ask = ask(Posterior::Sample, Scale::Normalized, DType::F32);
    let draw = Draw::new(&patched(), ask).unwrap();
    let drawn = floats(&draw.latent(&moments(), [2, 2], 7).unwrap());
    let bits: Vec<_> = drawn.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, DRAWN_7);
    let other = draw.latent(&moments(), [2, 2], 8).unwrap();
    assert_ne!(floats(&other), drawn);
}

#[test]
fn the_mode_is_the_mean_scaled() {
    let moments = bytes([1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0]);
    let latent = |scale, dtype| {
        let draw = Draw::new(&plain(0.5, 2.0, 3.0), ask(Posterior::Mode, scale, dtype)).unwrap();
        draw.latent(&moments, [1, 1], 7).unwrap()
    };
    let raw = latent(Scale::Raw, DType::F32);
    assert_eq!(floats(&raw), [1.0, 2.0, 3.0, 4.0]);
    let normalized = latent(Scale::Normalized, DType::F32);
    assert_eq!(floats(&normalized), [0.75, 2.25, 3.75, 5.25]);
    assert_eq!(
        latent(Scale::Raw, DType::F16)[..4],
        [0x00, 0x3c, 0x00, 0x40]
    );
    assert_eq!(
        latent(Scale::Raw, DType::BF16)[..4],
        [0x80, 0x3f, 0x00, 0x40]
    );
}

#[test]
fn moments_are_delivered_raw() {
    let moments = bytes([1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0]);
    let ask = ask(Posterior::Moments, Scale::Normalized, DType::F32);
    let draw = Draw::new(&plain(0.5, 2.0, 3.0), ask).unwrap();
    assert_eq!(draw.latent(&moments, [1, 1], 7).unwrap(), moments);
}

#[test]
fn what_does_not_fit_is_a_bad_sample() {
    let moments = bytes([1.0, 65_520.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
    let latent = |dtype| {
        let draw = Draw::new(
            &plain(0.0, 1.0, 1.0),
            ask(Posterior::Mode, Scale::Raw, dtype),
        );
        draw.unwrap().latent(&moments, [1, 1], 7)
    };
    let error = latent(DType::F16).unwrap_err();
    assert!(error.contains("65520, which does not fit f16"), "{error}");
    latent(DType::BF16).unwrap();
    latent(DType::F32).unwrap();
}

#[test]
fn replicas_that_do_not_say_enough_are_refused() {
    let ask = ask(Posterior::Sample, Scale::Normalized, DType::F32);
    let refused = |served: &v1::Model| Draw::new(served, ask).unwrap_err();
    let mut served = plain(0.0, 1.0, 1.0);
    served.normalization = None;
    assert!(refused(&served).contains("set `cache.what` to Latents"));
    let mut served = patched();
    served.latent_channels = 6;
    assert!(refused(&served).contains("wrongly"));
    let mut served = plain(0.0, 1.0, 1.0);
    served.normalization.as_mut().unwrap().patch = 0;
    assert!(refused(&served).contains("wrongly"));
    served.normalization.as_mut().unwrap().patch = u32::MAX;
    assert!(refused(&served).contains("wrongly"));
}
