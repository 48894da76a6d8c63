//! The open protocol: everything that can be wrong with a call, by its code and its words.

use bytes::Bytes;
use http::uri::PathAndQuery;
use preheat_models::{Encoder, Error, Moments, PixelData, Pixels, Spec, synthetic::Synthetic};
use preheat_proto::{
    inference::{
        InferParameter, InferTensorContents, ModelInferResponse, ModelMetadataRequest,
        ServerLiveRequest,
    },
    limits,
    screen::ScreenedCodec,
};
use preheat_server::Model;
use tonic::{Code, Request, client::Grpc};

use crate::{
    files::{ASTRONAUT, BOMB, CHELSEA, EMPTY, NOT_AN_IMAGE, TRUNCATED, WEBP},
    harness::{Replica, soon},
    infer::{Infer, client, elements, parameter},
};

/// What the message must say, and the mistake.
type Edit = (&'static str, fn(Infer) -> Infer);

fn good() -> Infer {
    Infer::files(&[CHELSEA.0]).size(64, 64)
}

fn pixels() -> Infer {
    Infer::pixels(&[1, 8, 16, 3], vec![7; 8 * 16 * 3])
}

async fn replica() -> Replica {
    Replica::start(&["--model", "m=synthetic"]).await
}

async fn assert_refused(replica: &Replica, infer: &Infer, code: Code, say: &str) {
    let status = infer.send(replica).await.expect_err(say);
    assert_eq!(status.code(), code, "{say}: {status}");
    assert!(
        status.message().contains(say),
        "`{say}` is not in: {status}"
    );
}

async fn assert_all_refused(good: fn() -> Infer, edits: &[Edit]) {
    let replica = replica().await;
    for (say, edit) in edits {
        assert_refused(&replica, &edit(good()), Code::InvalidArgument, say).await;
    }
    good().send(&replica).await.unwrap();
}

fn input(mut infer: Infer, shape: &[i64]) -> Infer {
    infer.0.inputs[0].shape = shape.into();
    infer
}

fn raw(mut infer: Infer, raw: &[u8]) -> Infer {
    infer.0.raw_input_contents = vec![Bytes::copy_from_slice(raw)];
    infer
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_do_not_add_up() {
    let edits: [Edit; 15] = [
        ("0 inputs", |mut infer| {
            infer.0.inputs.clear();
            infer
        }),
        ("2 inputs (image, pixels)", |mut infer| {
            infer.0.inputs.extend(pixels().0.inputs);
            infer
        }),
        ("raw_input_contents has 2 entries", |mut infer| {
            infer.0.raw_input_contents.push(Bytes::new());
            infer
        }),
        ("unknown input `images`", |mut infer| {
            infer.0.inputs[0].name = "images".into();
            infer
        }),
        ("datatype `UINT8`, must be BYTES", |mut infer| {
            infer.0.inputs[0].datatype = "UINT8".into();
            infer
        }),
        ("shape [], must be [N]", |infer| input(infer, &[])),
        ("shape [1, 1, 1], must be", |infer| input(infer, &[1, 1, 1])),
        ("1..=1024 items", |infer| input(infer, &[0])),
        ("1..=1024 items", |infer| input(infer, &[-1])),
        ("1..=1024 items", |infer| {
            input(infer, &[i64::MAX, i64::MAX])
        }),
        ("4096 frames in all", |infer| input(infer, &[1024, 5])),
        ("1 elements, but its shape [2] says 2", |infer| {
            input(infer, &[2])
        }),
        ("ends within the length of element 1", |infer| {
            let bytes = [&elements(&[CHELSEA.0]), &[1, 2, 3][..]].concat();
            raw(infer, &bytes)
        }),
        ("claims 4294967295 bytes, but 1 are left", |infer| {
            raw(infer, b"\xff\xff\xff\xff.")
        }),
        ("in contents and in raw_input_contents", |mut infer| {
            let contents = infer.0.inputs[0].contents.get_or_insert_default();
            contents.bytes_contents = vec![Bytes::from_static(CHELSEA.0)];
            infer
        }),
    ];
    assert_all_refused(good, &edits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pixels_that_do_not_add_up() {
    let edits: [Edit; 9] = [
        ("datatype `FP32`, must be UINT8", |mut infer| {
            infer.0.inputs[0].datatype = "FP32".into();
            infer
        }),
        ("must be [N, height, width, 3]", |infer| {
            input(infer, &[1, 3, 8, 16])
        }),
        ("must be [N, height, width, 3]", |infer| {
            input(infer, &[8, 16, 3])
        }),
        ("height must be 1..=32768", |infer| {
            input(infer, &[1, 0, 16, 3])
        }),
        ("width must be 1..=32768", |infer| {
            input(infer, &[1, 8, 1 << 40, 3])
        }),
        ("384 bytes, but its shape [2, 8, 16, 3] says 768", |infer| {
            input(infer, &[2, 8, 16, 3])
        }),
        ("no values in raw_input_contents", |mut infer| {
            infer.0.raw_input_contents.clear();
            infer
        }),
        ("in raw_input_contents, one byte each", |mut infer| {
            infer.0.raw_input_contents.clear();
            infer.0.inputs[0].contents = Some(InferTensorContents {
                uint_contents: vec![7; 8 * 16 * 3],
                ..Default::default()
            });
            infer
        }),
        ("pixels[0]: is 16x4", |infer| {
            raw(input(infer, &[1, 4, 16, 3]), &[7; 4 * 16 * 3])
        }),
    ];
    assert_all_refused(pixels, &edits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_known_and_typed() {
    let edits: [Edit; 13] = [
        (
            "unknown parameter `widht`: known are width, height",
            |infer| infer.set("widht", 64),
        ),
        ("a deadline is set through gRPC", |infer| {
            infer.set("timeout", 5)
        }),
        (
            "`width` is the text `64`, must be a whole number",
            |infer| infer.set("width", "64"),
        ),
        ("`width` is the float 64", |infer| infer.set("width", 64.0)),
        ("`width` is -64", |infer| infer.set("width", -64)),
        ("`width` is 4294967296", |infer| {
            infer.set("width", 1_i64 << 32)
        }),
        ("width is 0", |infer| infer.set("width", 0)),
        ("`flip` is 1, must be true or false", |infer| {
            infer.set("flip", 1)
        }),
        ("must be one of lanczos, bicubic, bilinear", |infer| {
            infer.set("filter", "nearest")
        }),
        ("must be one of mode, sample, moments", |infer| {
            infer.set("posterior", true)
        }),
        ("must be one of raw, normalized", |infer| {
            infer.set("scale", "0.18215")
        }),
        ("must be one of f32, f16, bf16", |infer| {
            infer.set("dtype", "fp8")
        }),
        ("parameter `flip` has no value", |mut infer| {
            let name = "flip".to_owned();
            infer.0.parameters.insert(name, InferParameter::default());
            infer
        }),
    ];
    assert_all_refused(good, &edits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_need_or_exclude_others() {
    let edits: [Edit; 10] = [
        ("`resize_width` needs `resize_height`", |infer| {
            infer.set("resize_width", 64)
        }),
        ("`crop_y` needs `crop_x`", |infer| infer.set("crop_y", 0)),
        (
            "`crop_x` and `crop_y` need `width` and `height`",
            |mut infer| {
                infer.0.parameters.clear();
                infer.set("crop_x", 0).set("crop_y", 0)
            },
        ),
        ("items[0]: the crop ends at (513, 64)", |infer| {
            infer.set("crop_x", 449).set("crop_y", 0)
        }),
        ("nearest are 56 and 64", |infer| infer.set("width", 60)),
        ("`sample` needs a `seed`", |infer| {
            infer.set("posterior", "sample")
        }),
        ("has no posterior to sample", |infer| {
            infer.set("posterior", "sample").set("seed", 3)
        }),
        ("`seed` is for posterior `sample`", |infer| {
            infer.set("seed", 3)
        }),
        ("`moments` is always raw", |infer| {
            infer.set("posterior", "moments").set("scale", "normalized")
        }),
        ("for the request and for its input", |mut infer| {
            let parameters = &mut infer.0.inputs[0].parameters;
            parameters.insert("width".into(), parameter(64));
            infer
        }),
    ];
    assert_all_refused(good, &edits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_there_are() {
    let edits: [Edit; 5] = [
        ("unknown output `latent`", |infer| infer.output("latent")),
        ("`logvar` needs the parameter posterior", |infer| {
            infer.output("logvar")
        }),
        ("`latents` is asked for twice", |infer| {
            infer.output("latents").output("latents")
        }),
        ("parameter `classification`", |infer| {
            with_output_parameter(infer, "classification", parameter(3))
        }),
        ("parameter `binary_data`", |infer| {
            with_output_parameter(infer, "binary_data", parameter(false))
        }),
    ];
    assert_all_refused(
        || with_output_parameter(good(), "binary_data", parameter(true)),
        &edits,
    )
    .await;
}

fn with_output_parameter(mut infer: Infer, name: &str, value: InferParameter) -> Infer {
    if infer.0.outputs.is_empty() {
        infer = infer.output("latents");
    }
    infer.0.outputs[0].parameters.insert(name.into(), value);
    infer
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_fails_the_call_by_its_index() {
    let replica = replica().await;
    for (file, code, say) in [
        (EMPTY, Code::InvalidArgument, ""),
        (NOT_AN_IMAGE, Code::InvalidArgument, ""),
        (TRUNCATED, Code::InvalidArgument, ""),
        (BOMB, Code::OutOfRange, "65500x65500"),
    ] {
        let infer = Infer::files(&[ASTRONAUT.0, CHELSEA.0, file]).size(64, 64);
        assert_refused(&replica, &infer, code, "image[2]: ").await;
        assert_refused(&replica, &infer, code, say).await;
    }
    let infer = Infer::files(&[TRUNCATED, CHELSEA.0, TRUNCATED]).size(64, 64);
    let say = "(and 1 other items failed)";
    assert_refused(&replica, &infer, Code::InvalidArgument, say).await;
    let clip = Infer::files(&[WEBP.0, WEBP.0, WEBP.0, CHELSEA.0]).size(64, 64);
    let clip = input(clip, &[2, 2]);
    let say = "image[1]: frame 1 is 512x384, but frame 0 is 451x300";
    assert_refused(&replica, &clip, Code::InvalidArgument, say).await;
    good().send(&replica).await.unwrap();
}

/// Gives a mean that no dtype holds for pictures of 8x8, and panics for black ones. All others are as
/// they should be, so that it is not taken for a broken device.
struct Broken(Synthetic);

impl Encoder for Broken {
    fn spec(&self) -> &Spec {
        self.0.spec()
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        let mut moments = self.0.encode(pixels)?;
        let PixelData::Rgb8(bytes) = &pixels.data else {
            unreachable!("replicas decode to bytes");
        };
        assert!(bytes.iter().any(|&byte| byte > 0), "black");
        if pixels.height == 8 {
            moments.mean[0] = f32::NAN;
        }
        Ok(moments)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_model_are_not_the_callers() {
    let broken = Broken(Synthetic::new(Default::default()));
    let models = vec![Model::new("m", vec![Box::new(broken)])];
    let replica = Replica::with_models(&[], models).await;
    assert_refused(&replica, &pixels(), Code::FailedPrecondition, "pixels[0]: ").await;
    let black = Infer::pixels(&[1, 8, 8, 3], vec![0; 192]);
    assert_refused(&replica, &black, Code::Internal, "pixels[0]: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_versions_and_methods_that_are_not_here() {
    let replica = replica().await;
    let mut infer = good();
    infer.0.model_version = "1".into();
    let say = "versions are fingerprints";
    assert_refused(&replica, &infer, Code::FailedPrecondition, say).await;
    infer.0.model_name = "mystery".into();
    assert_refused(&replica, &infer, Code::NotFound, "served are m").await;
    let mut metadata = client(replica.channel.clone());
    for (name, version, code) in [
        ("mystery", "", Code::NotFound),
        ("m", "2", Code::FailedPrecondition),
    ] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let request = ModelMetadataRequest { name, version };
        assert_eq!(
            metadata.model_metadata(request).await.unwrap_err().code(),
            code
        );
    }

    for method in [
        "ModelStreamInfer",
        "RepositoryIndex",
        "ModelConfig",
        "Nonsense",
    ] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let path = PathAndQuery::try_from(path).unwrap();
        let mut grpc = Grpc::new(replica.channel.clone());
        grpc.ready().await.unwrap();
        let codec = ScreenedCodec::<ServerLiveRequest, ModelInferResponse>::default();
        let call = grpc.unary(Request::new(ServerLiveRequest {}), path, codec);
        let status = soon(call).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        let say = format!("{method} is not served here: ServerLive");
        assert!(status.message().contains(&say), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_out_of_range() {
    let replica = replica().await;
    let swarm = |most: usize| {
        let mut infer = good();
        infer.0.inputs = vec![Default::default(); most];
        infer
    };
    let say = "beside raw_input_contents";
    assert_refused(
        &replica,
        &swarm(limits::MAX_META_BYTES),
        Code::OutOfRange,
        say,
    )
    .await;
    assert_refused(&replica, &swarm(1000), Code::InvalidArgument, "1000 inputs").await;
    let huge = raw(good(), &vec![0; limits::MAX_MESSAGE_BYTES]);
    assert_refused(&replica, &huge, Code::OutOfRange, "").await;
    // 16 Mi empty elements.
    let empty = raw(good(), &vec![0; limits::MAX_MESSAGE_BYTES / 2]);
    let say = "more than 4096 elements";
    assert_refused(&replica, &empty, Code::InvalidArgument, say).await;
    good().send(&replica).await.unwrap();
}
