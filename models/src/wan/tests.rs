//! Is the collapse to two dimensions exact? The encoders against themselves in three.

mod whole;

use burn::tensor::{Tensor, TensorData};

use super::Wan;
use crate::{
    DType,
    config::Config,
    device::test::{Backend, Device},
    golden,
    model::ClipFamily,
    nn::{Loader, Past},
    weights::Weights,
};
use whole::{Clip, Whole};

/// Relative L2 of the collapsed encoder, in f32, from the whole one, in f64: the rounding of f32 and
/// nothing else.
const EXACT: f64 = 1e-6;

/// A relative L2 that nobody could take for rounding.
const NOTICED: f64 = 1e-2;

const GOLDENS: [&str; 6] = [
    "qwen-image/a",
    "qwen-image/b",
    "wan-2.1/a",
    "wan-2.1/b",
    "wan-2.2/a",
    "wan-2.2/b",
];

#[test]
fn one_frame_in_two_dimensions_is_one_frame_in_three() {
    for name in GOLDENS {
        let dir = golden::folder(name);
        let Ok(Config::QwenImage(config) | Config::Wan(config)) = Config::read(&dir) else {
            panic!("{name} is of another family")
        };
        let mut load = Loader::<Backend> {
            weights: &mut Weights::open(&dir).expect("opens"),
            device: &Device,
            dtype: DType::F32,
        };
        let collapsed = Wan::load(&mut load, &config).expect("loads");
        let tensors = golden::read(&dir.join("diffusion_pytorch_model.safetensors"));
        let [causal, centred] = [2, 1].map(|before| Whole {
            tensors: &tensors,
            patch: config.patch(),
            before,
        });
        let [kernels, seeing] = causal.kernels_over_time();
        assert!(
            kernels > 5 && seeing == kernels,
            "{name}: {seeing} of {kernels}"
        );
        let golden = golden::read(&dir.join("golden.safetensors"));
        let (shape, pixels) = &golden["pixels"];
        let &[_, 3, 1, height, width] = shape.as_slice() else {
            panic!("{name} has pictures of shape {shape:?}")
        };
        for picture in pixels.chunks_exact(3 * height * width) {
            let moments = collapse(&collapsed, picture, [height, width]);
            let picture = Clip::new(picture, [3, 1, height, width]);
            let distance = |whole: &Whole<'_>| golden::distance(&moments, &whole.encode(&picture));
            let (right, wrong) = (distance(&causal), distance(&centred));
            println!("{name:14} {right:.1e}, with centred kernels {wrong:.1e}");
            assert!(right <= EXACT, "{name}: {right:e}");
            assert!(wrong > NOTICED, "{name}: {wrong:e} with centred kernels");
        }
    }
}

/// The moments of one picture, channel by channel.
fn collapse(model: &Wan<Backend>, picture: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    let data = TensorData::new(picture.to_vec(), [1, 3, height, width]);
    let x = Tensor::<Backend, 4>::from_data(data, &Device).permute([0, 2, 3, 1]);
    let moments = model
        .encode(x, &mut Past::still())
        .permute([0, 3, 1, 2])
        .into_data();
    moments.into_vec().expect("f32")
}
