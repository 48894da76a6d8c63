//! Would the goldens notice? Deliberate mistakes, and how far from diffusers each must land.

use burn::tensor::{Tensor, TensorData};

use super::Kl;
use crate::{
    DType,
    config::Config,
    device::test::{Backend, Device},
    golden,
    model::Family,
    nn::{ConvShape, GroupNorm, Loader, attend},
    weights::Weights,
};

/// A relative L2 that nobody could take for rounding, ten times the bound of equality.
const NOTICED: f64 = 1e-4;

type Model = Kl<Backend>;
type Tokens = Tensor<Backend, 3>;

/// A mistake, and whether the normal case and the nearly flat case show it.
struct Mistake {
    name: &'static str,
    make: fn(&mut Model, &mut Loader<'_, Backend>),
    shows: [bool; 2],
}

const MISTAKES: [Mistake; 9] = [
    Mistake {
        name: "epsilon of the norms 1e-5",
        make: |model, _| norms(model, |norm| norm.eps = 1e-5),
        shows: [false, true],
    },
    Mistake {
        name: "down-samplers padded on every side",
        make: |model, load| downsamplers(model, load, [1; 4]),
        shows: [true, true],
    },
    Mistake {
        name: "down-samplers padded on the wrong side",
        make: |model, load| downsamplers(model, load, [1, 1, 0, 0]),
        shows: [true, true],
    },
    Mistake {
        name: "norms without their scale and shift",
        make: |model, _| norms(model, without_affine),
        shows: [true, true],
    },
    Mistake {
        name: "half as many groups",
        make: |model, _| norms(model, |norm| norm.groups /= 2),
        shows: [true, true],
    },
    Mistake {
        name: "no attention",
        make: |model, _| model.mid.attention = None,
        shows: [true, false],
    },
    Mistake {
        name: "eight heads",
        make: |model, _| attention(model, eight_heads),
        shows: [true, false],
    },
    Mistake {
        name: "scores without their scale",
        make: |model, _| attention(model, without_scale),
        shows: [true, false],
    },
    Mistake {
        name: "no quant_conv",
        make: |model, _| model.quant_conv = None,
        shows: [true, true],
    },
];

#[test]
fn every_mistake_is_noticed_by_some_golden() {
    for (case, name) in ["a", "b"].into_iter().enumerate() {
        let right = distance(name, |_, _| {});
        assert!(right < 1e-5, "{name}: {right:e} without any mistake");
        for Mistake {
            name: mistake,
            make,
            shows,
        } in MISTAKES
        {
            let wrong = distance(name, make);
            println!("{name} {mistake:40} {wrong:.1e}");
            assert!(
                !shows[case] || wrong > NOTICED,
                "{mistake} passes case {name}: {wrong:e}"
            );
        }
    }
}

/// Relative L2 of the mean from diffusers', of a model with this mistake.
fn distance(case: &str, make: fn(&mut Model, &mut Loader<'_, Backend>)) -> f64 {
    let dir = golden::folder("kl-two-layers").join(case);
    let Ok(Config::Kl(config)) = Config::read(&dir) else {
        panic!("the golden is an AutoencoderKL")
    };
    let mut weights = Weights::open(&dir).expect("opens");
    let mut load = Loader::<Backend> {
        weights: &mut weights,
        device: &Device,
        dtype: DType::F32,
    };
    let mut model = Kl::load(&mut load, &config).expect("loads");
    make(&mut model, &mut load);
    let golden = golden::read(&dir.join("golden.safetensors"));
    let (shape, pixels) = &golden["pixels"];
    let shape: [usize; 4] = shape.as_slice().try_into().expect("images");
    let x = Tensor::<Backend, 4>::from_data(TensorData::new(pixels.clone(), shape), &Device);
    let moments = model.encode(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
    let mean = moments.narrow(1, 0, config.latent_channels).into_data();
    let mean = mean.into_vec::<f32>().expect("f32");
    golden::distance(&mean, &golden["mean"].1)
}

/// Every norm of the encoder.
fn norms(model: &mut Model, change: fn(&mut GroupNorm<Backend>)) {
    let stages = model.stages.iter_mut().flat_map(|stage| &mut stage.blocks);
    let blocks = stages.map(|(block, _)| block);
    for block in blocks.chain([&mut model.mid.first, &mut model.mid.second]) {
        change(&mut block.norm1);
        change(&mut block.norm2);
    }
    if let Some(attention) = &mut model.mid.attention {
        change(&mut attention.norm);
    }
    change(&mut model.norm_out);
}

fn without_affine(norm: &mut GroupNorm<Backend>) {
    norm.gamma = norm.gamma.ones_like();
    norm.beta = norm.beta.zeros_like();
}

fn downsamplers(model: &mut Model, load: &mut Loader<'_, Backend>, pad: [usize; 4]) {
    for (index, stage) in model.stages.iter_mut().enumerate() {
        if stage.downsample.is_some() {
            let shape = ConvShape {
                pad,
                ..ConvShape::halve_asymmetric(32)
            };
            let name = format!("encoder.down_blocks.{index}.downsamplers.0.conv");
            stage.downsample = Some(load.conv(&name, shape).expect("loads"));
        }
    }
}

fn attention(model: &mut Model, mistaken: fn(Tokens, Tokens, Tokens) -> Tokens) {
    model
        .mid
        .attention
        .as_mut()
        .expect("the golden has one")
        .attend = mistaken;
}

fn eight_heads(q: Tokens, k: Tokens, v: Tokens) -> Tokens {
    let width = q.dims()[2] / 8;
    let head = |index: usize| {
        let part = |x: &Tokens| x.clone().narrow(2, index * width, width);
        attend(part(&q), part(&k), part(&v))
    };
    Tensor::cat((0..8).map(head).collect(), 2)
}

fn without_scale(q: Tokens, k: Tokens, v: Tokens) -> Tokens {
    let scale = (q.dims()[2] as f64).sqrt();
    attend(q.mul_scalar(scale), k, v)
}
