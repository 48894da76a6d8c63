//! The largest clips there are, straight to a replica and through a balancer.

use bytes::Bytes;
use preheat_bench::photos;
use preheat_client::wire::{Connections, endpoint};
use preheat_models::image;
use preheat_proto::{
    DType, Filter, ItemCode, ItemMeta, META_VERSION, Meta, Posterior, ReplyMeta, RequestMeta,
    Scale, Source,
    batch::archive,
    headers::COST_PIXELS,
    limits,
    v1::{EncodeRequest, EncodeResponse},
};
use tokio::runtime::Builder;
use tonic::Request;

use crate::{balancer, replica};

const SIZE: [u32; 2] = [1280, 720];

/// One clip of these frames for outputs of [`SIZE`].
fn clip(frames: Vec<Bytes>, source: Source, size: [u32; 2]) -> EncodeRequest {
    let resize = size[0].max(SIZE[0]);
    let item = ItemMeta {
        id: 7,
        seed: 0,
        source_width: size[0],
        source_height: size[1],
        resize_width: resize,
        resize_height: if source == Source::Rgb8 {
            SIZE[1]
        } else {
            resize
        },
        crop_x: 0,
        crop_y: 0,
        payloads: frames.len() as u32,
        source,
        filter: Filter::Bilinear,
        flip: false,
        times: vec![],
    };
    let meta = RequestMeta {
        width: SIZE[0],
        height: SIZE[1],
        frames: frames.len() as u32,
        dtype: DType::F16,
        posterior: Posterior::Mode,
        scale: Scale::Raw,
        items: vec![item],
    };
    EncodeRequest {
        meta_version: META_VERSION,
        model: "vae".into(),
        meta: archive(&meta).unwrap(),
        payloads: frames,
        ..EncodeRequest::default()
    }
}

async fn encode(to: &str, request: &EncodeRequest) -> EncodeResponse {
    let connections = Connections::lazy(endpoint(to, &Default::default()).unwrap(), 1);
    let frames = request.payloads.len() as u64;
    let cost = u64::from(SIZE[0]) * u64::from(SIZE[1]) * frames;
    let mut request = Request::new(request.clone());
    request.metadata_mut().insert(COST_PIXELS, cost.into());
    connections.encode(request).await.unwrap().into_inner()
}

#[test]
fn the_largest_clips_pass_a_balancer() {
    let replica = replica("synthetic:temporal-compression=4");
    let balancer = balancer(&[&replica.endpoint()]);
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    // As JPEG, all that the limits promise; and raw, more than a balancer keeps to send it again.
    let (_, photo) = photos::all()[0];
    let seen = image::decode(photo, u64::MAX).unwrap();
    let files = vec![Bytes::from_static(photo); 121];
    let raw = vec![Bytes::from(vec![9; (SIZE[0] * SIZE[1] * 3) as usize]); 25];
    assert!(raw.iter().map(Bytes::len).sum::<usize>() > limits::MAX_MESSAGE_BYTES);
    for request in [
        clip(files, Source::Encoded, [seen.width, seen.height]),
        clip(raw, Source::Rgb8, SIZE),
    ] {
        let (direct, relayed) = runtime.block_on(async {
            let direct = encode(&replica.endpoint(), &request).await;
            (direct, encode(&balancer.endpoint(), &request).await)
        });
        let meta = Meta::<ReplyMeta>::open(META_VERSION, &relayed.meta).unwrap();
        let item = &meta.view().items[0];
        assert_eq!(ItemCode::from(item.code), ItemCode::Ok, "{}", item.message);
        let latent_frames = (request.payloads.len() as u32 - 1) / 4 + 1;
        let shape: Vec<u32> = meta
            .view()
            .shape
            .iter()
            .map(|side| side.to_native())
            .collect();
        assert_eq!(shape, [4, latent_frames, 90, 160]);
        assert!(direct.latents == relayed.latents);
    }
}
