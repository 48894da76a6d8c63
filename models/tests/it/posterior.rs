//! What callers get of a posterior.

use preheat_models::{Encoder, LatentNorm, Moments, Posterior, Scale, synthetic};

/// The first values for seed 7, from `np.random.Philox(key=7)` by the recipe in `noise.rs`.
const NOISE_7: [f32; 8] = [
    -0.14712793,
    0.50211215,
    -1.091101,
    0.73758703,
    -0.73446286,
    -2.1076498,
    -1.1331282,
    -1.0716331,
];

fn moments(mean: f32, logvar: f32, cells: usize) -> Moments {
    Moments {
        shape: [1, 4, 1, 1, cells / 4],
        mean: vec![mean; cells],
        logvar: Some(vec![logvar; cells]),
    }
}

fn latent(moments: &Moments, want: Posterior) -> Vec<f32> {
    let model = synthetic::Synthetic::new(synthetic::Config::default());
    moments.latent(0, model.spec(), want, Scale::Raw)
}

#[test]
fn noise_is_numpys_philox_to_the_bit() {
    assert_eq!(latent(&moments(0.0, 0.0, 8), Posterior::Sample(7)), NOISE_7);
}

/// What [`packed_draws_are_the_loaders`] draws with seed 7, as bits.
const DRAWN_7: [u32; 32] = [
    3214071062, 3217867934, 1048342976, 1034395594, 3202416724, 3190053515, 3208883935, 1048571772,
    3210427310, 3208276842, 1054538280, 1057228784, 3214762545, 3205323393, 1042976412, 1053431433,
    1049905599, 1058802865, 1066731265, 1068494447, 1056054996, 1059851516, 1066551684, 1067560946,
    1058718333, 1062463506, 1067374050, 1068242067, 1059819998, 1061950116, 1066792022, 1067952063,
];

/// A loader that caches moments draws for itself, and has the same values in its tests
/// (`client/src/cache/draw/tests.rs`).
#[test]
fn packed_draws_are_the_loaders() {
    let mut spec = synthetic::Synthetic::new(synthetic::Config::default())
        .spec()
        .clone();
    spec.norm = LatentNorm::Patch {
        patch: 2,
        mean: (0..8).map(|c| c as f32 / 16.0).collect(),
        std: (0..8).map(|c| 1.0 + c as f32 / 8.0).collect(),
    };
    let moments = Moments {
        shape: [1, 2, 1, 4, 4],
        mean: (0..32).map(|i| i as f32 / 8.0 - 1.0).collect(),
        logvar: Some((0..32).map(|i| i as f32 / -4.0).collect()),
    };
    let drawn = moments.latent(0, &spec, Posterior::Sample(7), Scale::Normalized);
    let bits: Vec<_> = drawn.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, DRAWN_7);
}

#[test]
fn samples_have_the_posteriors_mean_and_variance() {
    let cells = 1 << 20;
    let sample = latent(&moments(3.0, 1.4, cells), Posterior::Sample(11));
    let n = cells as f64;
    let mean = sample.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let central = |power| {
        let terms = sample.iter().map(|&x| (f64::from(x) - mean).powi(power));
        terms.sum::<f64>() / n
    };
    let variance = 1.4_f64.exp();
    // Five standard errors each.
    assert!(
        (mean - 3.0).abs() < 5.0 * (variance / n).sqrt(),
        "mean {mean}"
    );
    let spread = central(2) / variance;
    assert!(
        (spread - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "variance off by {spread}"
    );
    let skew = central(3) / variance.powf(1.5);
    assert!(skew.abs() < 5.0 * (6.0 / n).sqrt(), "skewness {skew}");
    let kurtosis = central(4) / variance.powi(2) - 3.0;
    assert!(
        kurtosis.abs() < 5.0 * (24.0 / n).sqrt(),
        "kurtosis {kurtosis}"
    );
}

#[test]
fn samples_depend_on_the_seed_alone() {
    let moments = moments(0.0, 0.0, 64);
    let sample = |seed| latent(&moments, Posterior::Sample(seed));
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn a_point_mass_samples_to_its_mean() {
    let sample = latent(&moments(2.0, -30.0, 8), Posterior::Sample(1));
    assert!(sample.iter().all(|x| (x - 2.0).abs() < 1e-5), "{sample:?}");
}

#[test]
fn moments_are_mean_then_log_variance() {
    let both = latent(&moments(2.0, -1.0, 4), Posterior::Moments);
    assert_eq!(both, [2.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0, -1.0]);
}
