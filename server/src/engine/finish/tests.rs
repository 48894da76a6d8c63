use std::sync::Arc;

use preheat_models::{Encoder, LatentNorm, Moments, synthetic};

use super::*;
use crate::{engine::queue::Queue, metrics::Metrics};

fn plan(dtype: DType, posteriors: &[Posterior]) -> Plan {
    let model = synthetic::Synthetic::new(synthetic::Config::default());
    let spec = Spec {
        latent_channels: 1,
        norm: LatentNorm::ShiftScale {
            shift: 1.0,
            scale: 2.0,
        },
        ..model.spec().clone()
    };
    Plan {
        spec,
        shape: Shape {
            width: 16,
            height: 8,
            frames: 1,
        },
        dtype,
        scale: Scale::Normalized,
        posteriors: posteriors.to_vec(),
        align: 64,
    }
}

/// Outcomes of one batch with two values an element.
fn outcomes(values: &[f32]) -> Vec<Outcome> {
    let queue = Queue::new(100, 0, Arc::new(Metrics::new()));
    let moments = Arc::new(Moments {
        shape: [values.len() / 2, 1, 1, 1, 2],
        mean: values.to_vec(),
        logvar: None,
    });
    let encoded = |index| Encoded {
        moments: Arc::clone(&moments),
        index,
        _ticket: queue.admit(1, std::time::Duration::MAX).unwrap(),
    };
    (0..values.len() / 2)
        .map(|index| Ok(encoded(index)))
        .collect()
}

#[test]
fn failed_items_leave_no_gap_and_tensors_are_aligned() {
    let plan = plan(DType::F32, &[Posterior::Mode; 3]);
    let mut outcomes = outcomes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    outcomes[1] = Err(Fault::new(FaultKind::BadImage, "why"));
    let answer = plan.finish(outcomes);
    assert_eq!(answer.shape, [1, 1, 1, 2]);
    assert_eq!(answer.items[0], Ok(0));
    assert_eq!(answer.items[1].as_ref().unwrap_err().message, "why");
    assert_eq!(answer.items[2], Ok(64));
    assert_eq!(answer.latents.len(), 128);
    // (z - 1) * 2
    assert_eq!(
        answer.latents[..8],
        [0.0_f32, 2.0].map(f32::to_le_bytes).concat()
    );
    assert_eq!(
        answer.latents[64..72],
        [8.0_f32, 10.0].map(f32::to_le_bytes).concat()
    );
}

#[test]
fn moments_are_raw_and_twice_as_many() {
    let plan = plan(DType::F32, &[Posterior::Moments]);
    let answer = plan.finish(outcomes(&[3.0, 4.0]));
    assert_eq!(answer.shape, [2, 1, 1, 2]);
    let expected = [3.0_f32, 4.0, -30.0, -30.0].map(f32::to_le_bytes).concat();
    assert_eq!(answer.latents[..16], expected);
}

#[test]
fn nothing_that_is_not_finite_leaves() {
    let values = [f32::NAN, 0.0, 0.0, f32::INFINITY, 40_000.0, 0.0, 1.0, 1.0];
    for (dtype, good) in [(DType::F32, 2), (DType::BF16, 2), (DType::F16, 1)] {
        let plan = plan(dtype, &[Posterior::Mode; 4]);
        let answer = plan.finish(outcomes(&values));
        let faults: Vec<_> = answer
            .items
            .iter()
            .filter_map(|i| i.as_ref().err())
            .collect();
        assert_eq!(answer.items.len() - faults.len(), good, "{dtype}");
        assert!(
            faults
                .iter()
                .all(|fault| fault.kind == FaultKind::NotFinite)
        );
        assert_eq!(answer.latents.len(), good * 64);
        if dtype == DType::F16 {
            // 40000 is finite, but normalised it is 79998.
            assert!(
                faults[2].message.contains("does not fit f16"),
                "{}",
                faults[2]
            );
        }
    }
}
