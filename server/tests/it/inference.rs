//! The open protocol gives what the native one gives, bit for bit.

use preheat_models::image::{Filter as Resize, cover};
use preheat_proto::{DType, Filter, Posterior, Scale, inference::infer_parameter::ParameterChoice};
use tonic::Code;

use crate::{
    files::{ASTRONAUT, CHELSEA, PNG, ROCKET, TURNED, WEBP},
    harness::{Ask, Replica},
    infer::{Infer, Inferred, elements, parameter, probabilistic},
};

/// The tensors that the native service gives for the same, one after the other without gaps.
async fn native(replica: &Replica, ask: &Ask) -> Vec<u8> {
    let reply = replica.encode(ask).await.unwrap();
    let item = |index| reply.latent(index).iter().copied();
    let values = (0..reply.items.len()).flat_map(item);
    match ask.meta.dtype {
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
        // The harness widened these, which loses nothing.
        DType::F16 => values
            .flat_map(|value| half::f16::from_f32(value).to_le_bytes())
            .collect(),
        DType::BF16 => values
            .flat_map(|value| half::bf16::from_f32(value).to_le_bytes())
            .collect(),
    }
}

/// The native item added last is scaled to cover its output.
fn covering(mut ask: Ask) -> Ask {
    let item = ask.meta.items.last_mut().unwrap();
    let source = [item.source_width, item.source_height];
    let size = [ask.meta.width, ask.meta.height];
    let transform = cover(source, size, Resize::Lanczos);
    [item.resize_width, item.resize_height] = transform.resize;
    [item.crop_x, item.crop_y] = transform.crop;
    ask
}

fn latents(answer: &Inferred) -> &[u8] {
    answer.tensor("latents").2
}

async fn synthetic() -> Replica {
    Replica::start(&["--model", "m=synthetic"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_size_cover_the_output_in_every_dtype() {
    let replica = synthetic().await;
    let files = [ASTRONAUT, CHELSEA, TURNED, PNG, WEBP];
    // A latent of 8x8 fills no alignment, one of 256x128 does: both must come without gaps.
    for (width, height) in [(8, 8), (24, 8), (256, 128)] {
        let mut ask = Ask::new(width, height);
        for (file, size) in files {
            ask = covering(ask.file(file, size, [0, 0]));
        }
        let infer = Infer::files(&files.map(|(file, _)| file)).size(width.into(), height.into());
        for (dtype, names, datatype) in [
            (DType::F32, ["f32", "FP32"], "FP32"),
            (DType::F16, ["f16", "FP16"], "FP16"),
            (DType::BF16, ["bf16", "BF16"], "BF16"),
        ] {
            ask.meta.dtype = dtype;
            let expected = native(&replica, &ask).await;
            for name in names {
                let answer = infer
                    .clone()
                    .set("dtype", name)
                    .send(&replica)
                    .await
                    .unwrap();
                let (seen, shape, raw) = answer.tensor("latents");
                assert_eq!(seen, datatype);
                assert_eq!(shape, [5, 4, i64::from(height) / 8, i64::from(width) / 8]);
                assert!(*raw == expected, "{width}x{height} {name}");
            }
        }
        let answer = infer.send(&replica).await.unwrap();
        assert_eq!(answer.tensor("latents").0, "FP32");
        assert_eq!(
            (answer.0.model_name.as_str(), answer.0.id.as_str()),
            ("m", "call-7")
        );
    }
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_parameters_a_picture_keeps_its_size_but_for_its_edges() {
    let replica = synthetic().await;
    // 451x300 has no multiples of 8: 448x296 from its centre.
    let answer = Infer::files(&[WEBP.0]).send(&replica).await.unwrap();
    let (_, shape, raw) = answer.tensor("latents");
    assert_eq!(shape, [1, 4, 37, 56]);
    let ask = Ask::new(448, 296).file(WEBP.0, WEBP.1, [1, 2]);
    assert!(*raw == native(&replica, &ask).await);

    let answer = Infer::files(&[ASTRONAUT.0, ROCKET.0]).send(&replica).await;
    let ask = Ask::new(512, 512)
        .file(ASTRONAUT.0, ASTRONAUT.1, [0, 0])
        .file(ROCKET.0, ROCKET.1, [0, 0]);
    assert!(latents(&answer.unwrap()) == native(&replica, &ask).await);

    let mixed = Infer::files(&[ASTRONAUT.0, CHELSEA.0]).send(&replica).await;
    let status = mixed.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for say in ["image[1]", "512x384", "512x512", "`width`"] {
        assert!(status.message().contains(say), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pixels_and_clips() {
    let replica = synthetic().await;
    let bytes: Vec<u8> = (0..2 * 24 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let halves: Vec<_> = bytes.chunks(24 * 16 * 3).map(<[u8]>::to_vec).collect();

    let answer = Infer::pixels(&[2, 24, 16, 3], bytes.clone())
        .send(&replica)
        .await
        .unwrap();
    assert_eq!(answer.tensor("latents").1, [2, 4, 3, 2]);
    let mut ask = Ask::new(16, 24).grey(0).grey(0);
    ask.payloads = halves.iter().cloned().map(Into::into).collect();
    assert!(latents(&answer) == native(&replica, &ask).await);

    let answer = Infer::pixels(&[1, 2, 24, 16, 3], bytes.clone())
        .send(&replica)
        .await
        .unwrap();
    assert_eq!(answer.tensor("latents").1, [1, 4, 2, 3, 2]);
    let mut clip = Ask::new(16, 24).grey(0);
    clip.meta.frames = 2;
    clip.meta.items[0].payloads = 2;
    clip.payloads = ask.payloads.clone();
    assert!(latents(&answer) == native(&replica, &clip).await);

    // A clip of files, and clips of one frame, which are images.
    let mut clip = Infer::files(&[ASTRONAUT.0, ROCKET.0]).size(64, 64);
    clip.0.inputs[0].shape = vec![1, 2];
    let answer = clip.send(&replica).await.unwrap();
    assert_eq!(answer.tensor("latents").1, [1, 4, 2, 8, 8]);
    clip.0.inputs[0].shape = vec![2, 1];
    let answer = clip.send(&replica).await.unwrap();
    assert_eq!(answer.tensor("latents").1, [2, 4, 8, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_contents_are_as_good_as_raw_ones() {
    let replica = synthetic().await;
    let raw = Infer::files(&[CHELSEA.0, WEBP.0]).size(128, 128);
    let mut typed = raw.clone();
    typed.0.raw_input_contents.clear();
    let contents = typed.0.inputs[0].contents.get_or_insert_default();
    contents.bytes_contents = vec![CHELSEA.0.into(), WEBP.0.into()];
    let (raw, typed) = (
        raw.send(&replica).await.unwrap(),
        typed.send(&replica).await.unwrap(),
    );
    assert_eq!(raw.0, typed.0);

    // Parameters of the input mean what those of the request mean.
    let mut of_input = Infer::files(&[CHELSEA.0, WEBP.0]);
    let sides = ["width", "height"].map(|side| (side.to_owned(), parameter(128_u64)));
    of_input.0.inputs[0].parameters = sides.into();
    assert_eq!(of_input.send(&replica).await.unwrap().0, raw.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transforms_mean_what_they_mean_natively() {
    let replica = synthetic().await;
    let base = Infer::files(&[CHELSEA.0]);
    let mut ask = Ask::new(64, 32)
        .file(CHELSEA.0, CHELSEA.1, [0, 0])
        .flipped();
    let item = &mut ask.meta.items[0];
    [item.resize_width, item.resize_height] = [200, 100];
    [item.crop_x, item.crop_y] = [136, 7];
    let resized = base
        .clone()
        .set("resize_width", 200)
        .set("resize_height", 100_u64);
    let cut = resized
        .clone()
        .size(64, 32)
        .set("crop_x", 136)
        .set("crop_y", 7);
    let mut seen = Vec::new();
    for (name, filter) in [
        ("lanczos", Filter::Lanczos),
        ("bicubic", Filter::Bicubic),
        ("bilinear", Filter::Bilinear),
    ] {
        ask.meta.items[0].filter = filter;
        let infer = cut.clone().set("filter", name).set("flip", true);
        let answer = infer.send(&replica).await.unwrap();
        assert!(latents(&answer) == native(&replica, &ask).await, "{name}");
        seen.push(latents(&answer).to_vec());
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);

    // The size alone of what is resized: its centre.
    let item = &mut ask.meta.items[0];
    (item.filter, item.flip) = (Filter::Lanczos, false);
    [item.crop_x, item.crop_y] = [68, 34];
    let answer = resized.clone().size(64, 32).send(&replica).await.unwrap();
    assert!(latents(&answer) == native(&replica, &ask).await);
    // And all of it, but for the edges.
    let answer = resized.send(&replica).await.unwrap();
    assert_eq!(answer.tensor("latents").1, [1, 4, 12, 25]);
    // A corner of what is not resized.
    let corner = base.size(64, 32).set("crop_x", 448).set("crop_y", 352);
    let ask = Ask::new(64, 32).file(CHELSEA.0, CHELSEA.1, [448, 352]);
    let answer = corner.send(&replica).await.unwrap();
    assert!(latents(&answer) == native(&replica, &ask).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn posteriors_seeds_and_scales() {
    let replica = Replica::with_models(&[], probabilistic()).await;
    let files = [ASTRONAUT, ROCKET];
    let infer = Infer::files(&files.map(|(file, _)| file)).size(24, 8);
    let mut ask = Ask::new(24, 8);
    for (file, size) in files {
        ask = covering(ask.file(file, size, [0, 0]));
    }
    for (name, scale) in [("raw", Scale::Raw), ("normalized", Scale::Normalized)] {
        ask.meta.scale = scale;
        ask.meta.posterior = Posterior::Mode;
        let mode = infer
            .clone()
            .set("scale", name)
            .send(&replica)
            .await
            .unwrap();
        assert!(latents(&mode) == native(&replica, &ask).await, "{name}");
        assert_eq!(mode.parameter("scale"), name);

        // Item i draws with seed + i, around the end of the numbers too.
        ask.meta.posterior = Posterior::Sample;
        ask.meta.items[0].seed = u64::MAX;
        ask.meta.items[1].seed = 0;
        let sample = infer.clone().set("scale", name).set("posterior", "sample");
        let sample = sample.set("seed", u64::MAX).send(&replica).await.unwrap();
        assert!(latents(&sample) == native(&replica, &ask).await, "{name}");
        assert!(latents(&sample) != latents(&mode));
        assert_eq!(sample.parameter("posterior"), "sample");
    }

    ask.meta.posterior = Posterior::Moments;
    let stacked = native(&replica, &ask).await;
    let (first, second) = stacked.split_at(stacked.len() / 2);
    let halves = |at: usize| {
        let half = |item: &[u8]| item[at * item.len() / 2..(at + 1) * item.len() / 2].to_vec();
        [half(first), half(second)].concat()
    };
    let infer = infer.set("posterior", "moments");
    let both = infer.send(&replica).await.unwrap();
    for (at, name) in ["latents", "logvar"].into_iter().enumerate() {
        let (_, shape, raw) = both.tensor(name);
        assert_eq!(shape, [2, 4, 1, 3]);
        assert!(*raw == halves(at), "{name}");
    }
    let turned = infer
        .clone()
        .output("logvar")
        .output("latents")
        .send(&replica)
        .await
        .unwrap();
    assert_eq!(turned.0.outputs[0], both.0.outputs[1]);
    assert_eq!(
        turned.0.raw_output_contents[1],
        both.0.raw_output_contents[0]
    );
    let one = infer.output("logvar").send(&replica).await.unwrap();
    assert_eq!(
        one.0.raw_output_contents,
        [both.0.raw_output_contents[1].clone()]
    );
}

#[test]
fn the_raw_form_of_bytes_is_as_other_clients_write_it() {
    // What `tritonclient.utils.serialize_byte_tensor` makes of [b"ab", b""].
    assert_eq!(elements(&[b"ab", b""]), b"\x02\0\0\0ab\0\0\0\0");
    let flag = parameter(true);
    assert_eq!(
        flag.parameter_choice,
        Some(ParameterChoice::BoolParam(true))
    );
}
