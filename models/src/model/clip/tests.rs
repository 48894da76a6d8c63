//! Chunks of clips: which they are, and that they change nothing.

use std::fs;

use burn::tensor::{Tensor, TensorData};

use super::{ClipFamily, in_steps};
use crate::{
    DType,
    config::Config,
    device::test::{Backend, Device},
    golden,
    model::Net,
    nn::{Loader, Past},
    open,
    weights::Weights,
};

/// Relative L2 of the chunks of a clip from the whole.
const SAME: f64 = 1e-6;

#[test]
fn chunks_cover_a_clip_in_steps() {
    for (step, frames, fit) in [(4, 1, 1), (4, 5, 1), (4, 29, 9), (8, 33, 17), (8, 9, 1000)] {
        let chunks = in_steps(frames, fit, step);
        assert_eq!(chunks[0].start, 0);
        assert_eq!((chunks[0].len() - 1) % step, 0, "{chunks:?}");
        for pair in chunks.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            assert_eq!(pair[1].len() % step, 0, "{chunks:?}");
        }
        assert_eq!(chunks.last().unwrap().end, frames);
        let most = fit.max(step);
        assert!(chunks.iter().all(|chunk| chunk.len() <= most), "{chunks:?}");
    }
    assert_eq!(in_steps(17, 9, 4), [0..9, 9..17]);
    assert_eq!(in_steps(9, 4, 4), [0..1, 1..5, 5..9]);
}

#[test]
fn chunks_give_what_the_whole_gives() {
    let mut clips = 0;
    let root = golden::folder("");
    let folders = fs::read_dir(root).expect("the goldens");
    for model in folders.map(|entry| entry.expect("an entry").path()) {
        let dir = model.join("a");
        let Ok(mut files) = fs::read_dir(&dir) else {
            continue;
        };
        let name = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with("clip-");
        let Some(file) = files.find_map(|file| file.ok().filter(name)) else {
            continue;
        };
        let config = Config::read(&dir).expect("a config");
        let mut load = Loader::<Backend> {
            weights: &mut Weights::open(&dir).expect("opens"),
            device: &Device,
            dtype: DType::F32,
        };
        let Net::Clips(net) = open::net(&config, &mut load).expect("loads").0 else {
            continue;
        };
        let tensors = golden::read(&file.path());
        let (shape, pixels) = &tensors["pixels"];
        let &[_, 3, frames, height, width] = shape.as_slice() else {
            panic!("{} has clips of shape {shape:?}", dir.display())
        };
        let pixels = pixels[..3 * frames * height * width].to_vec();
        let data = TensorData::new(pixels, [3, frames, height, width]);
        let clip = Tensor::from_data(data, &Device).permute([1, 2, 3, 0]);
        let whole = encode(&*net, &clip, usize::MAX / 2);
        for fit in [1, 6, 9] {
            let distance = golden::distance(&encode(&*net, &clip, fit), &whole);
            let name = dir.display();
            println!("{name}, {frames} frames, {fit} at a time: {distance:.1e}");
            assert!(distance <= SAME, "{name}, {fit} at a time: {distance:e}");
        }
        clips += 1;
    }
    assert!(clips > 2, "goldens are missing");
}

/// A clip in chunks of at most so many frames, or as few as the network takes.
fn encode(net: &dyn ClipFamily<Backend>, clip: &Tensor<Backend, 4>, fit: usize) -> Vec<f32> {
    let mut past = Past::new();
    let chunks = net.chunks(clip.dims()[0], fit).into_iter().map(|chunk| {
        past.next_chunk();
        let x = clip.clone().narrow(0, chunk.start, chunk.len());
        net.encode(x, &mut past)
    });
    let latents = Tensor::cat(chunks.collect(), 0);
    latents.into_data().into_vec().expect("f32")
}
