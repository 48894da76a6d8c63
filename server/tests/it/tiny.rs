//! A real architecture through the service, against the same model in this process.

use preheat_models::{Encoder, PixelData, Pixels, Posterior, Scale, Source, image};

use crate::{
    files::{ASTRONAUT, CHELSEA, ROCKET},
    harness::{Ask, Replica},
};

const SIZE: [u32; 2] = [96, 64];
const CROPS: [((&[u8], [u32; 2]), [u32; 2]); 3] = [
    (ASTRONAUT, [100, 50]),
    (CHELSEA, [3, 200]),
    (ROCKET, [256, 384]),
];

/// The latent of one crop, encoded alone.
fn alone(encoder: &mut dyn Encoder, file: &[u8], crop: [u32; 2]) -> Vec<f32> {
    let rgb = image::decode(file, 1 << 20).unwrap();
    let transform = image::Transform {
        resize: [rgb.width, rgb.height],
        crop,
        size: SIZE,
        filter: image::Filter::Lanczos,
        flip: false,
    };
    let data = image::apply(rgb, &transform).unwrap().data;
    let pixels = Pixels {
        batch: 1,
        frames: 1,
        height: SIZE[1] as usize,
        width: SIZE[0] as usize,
        data: PixelData::Rgb8(data),
    };
    let moments = encoder.encode(&pixels).unwrap();
    moments.latent(0, encoder.spec(), Posterior::Mode, Scale::Normalized)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "type-checked but not run yet: run it with --ignored, then take this line away"]
async fn the_service_adds_nothing_to_the_model() {
    let device = "cpu".parse().unwrap();
    let dtype = "f32".parse().unwrap();
    let mut encoder = preheat_models::open(&Source::BuiltinTiny, device, dtype).unwrap();

    let replica = Replica::start(&["--model", "m=builtin:tiny"]).await;
    let mut ask = Ask::new(SIZE[0], SIZE[1]);
    ask.meta.scale = preheat_proto::Scale::Normalized;
    for ((file, size), crop) in CROPS {
        ask = ask.file(file, size, crop);
    }
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.fingerprint, encoder.spec().fingerprint.to_string());
    assert_eq!(reply.shape, [4, 8, 12]);
    for (index, ((file, _), crop)) in CROPS.into_iter().enumerate() {
        let expected = alone(&mut *encoder, file, crop);
        let seen = reply.latent(index);
        assert_eq!(seen.len(), expected.len());
        let worst = seen
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= 1e-6, "item {index} is off by {worst}");
    }
    replica.stopped().await;
}
