//! Weights and shares: how often samples come, and what does not change.

use super::*;

/// One bucket.
fn spec(global_batch: u32, shuffle: Shuffle) -> PlanSpec {
    PlanSpec {
        shuffle,
        buckets: Buckets::Sizes(vec![Size::new(64, 64)]),
        ..super::spec(global_batch, Tail::Short)
    }
}

fn weighted(spec: PlanSpec, weights: &[f32]) -> Plan {
    let weights = Weights::Given(weights.into());
    let mut samples = squares(0);
    if let Weights::Given(weights) = &weights {
        samples = squares(weights.len());
    }
    samples.starts = (0..samples.count()).step_by(10).collect();
    Plan::new(PlanSpec { weights, ..spec }, &samples).unwrap()
}

fn times(plan: &Plan, epoch: u64, samples: usize) -> Vec<u32> {
    let mut times = vec![0; samples];
    for id in epoch_ids(plan, epoch, 1) {
        times[id as usize] += 1;
    }
    times
}

fn shuffles() -> [Shuffle; 3] {
    [
        Shuffle::Full,
        Shuffle::Blocked(Block::Shards(2)),
        Shuffle::None,
    ]
}

#[test]
fn whole_weights_are_exact_in_every_epoch() {
    let weights: Vec<f32> = (0..200).map(|id| (id % 4) as f32).collect();
    for shuffle in shuffles() {
        let plan = weighted(spec(7, shuffle), &weights);
        assert_eq!(plan.report().weightless, 50);
        for epoch in 0..5 {
            let expected: Vec<u32> = (0..200).map(|id| id % 4).collect();
            assert_eq!(times(&plan, epoch, 200), expected);
        }
    }
    let plan = weighted(spec(7, Shuffle::Full), &weights);
    let text = plan.report().to_string();
    assert!(
        text.contains("50 samples of weight 0, never delivered"),
        "{text}"
    );
}

/// Chi-squared over all samples. Deliveries of one sample in `n` epochs vary like draws with its
/// fraction, independent over epochs; samples of one bucket hold each other back a little, which
/// makes the sum smaller rather than larger.
#[test]
fn fractions_come_as_often_as_they_say() {
    let epochs = 2000;
    let lists: [(&str, Vec<f32>); 3] = [
        ("halves", vec![0.5; 300]),
        (
            "mixed",
            (0..300).map(|id| 0.1 + 0.37 * (id % 6) as f32).collect(),
        ),
        (
            "any",
            (0..300)
                .map(|id| 0.03 + (id * 7919 % 300) as f32 / 160.0)
                .collect(),
        ),
    ];
    for (name, weights) in &lists {
        for shuffle in shuffles() {
            let plan = weighted(spec(16, shuffle.clone()), weights);
            let mut sums = vec![0_u32; weights.len()];
            let all = plan.report().buckets[0].places;
            for epoch in 0..epochs {
                let times = times(&plan, epoch, weights.len());
                assert_eq!(u64::from(times.iter().sum::<u32>()), all);
                for ((sum, &times), weight) in sums.iter_mut().zip(&times).zip(weights) {
                    let (least, most) = (weight.floor() as u32, weight.ceil() as u32);
                    assert!(
                        (least..=most).contains(&times),
                        "{name}: {times} for {weight}"
                    );
                    *sum += times;
                }
            }
            // What the sum of all fractions was rounded to.
            let fractions: f64 = weights.iter().map(|&one| f64::from(one.fract())).sum();
            let rounded = fractions.round() / fractions;
            let n = epochs as f64;
            let square = |(&sum, &weight): (&u32, &f32)| {
                let fraction = f64::from(weight.fract()) * rounded;
                let expected = n * (f64::from(weight.floor()) + fraction);
                (f64::from(sum) - expected).powi(2) / (n * fraction * (1.0 - fraction))
            };
            let chi: f64 = sums.iter().zip(weights).map(square).sum();
            let freedom = weights.len() as f64;
            let sigma = (chi - freedom) / (2.0 * freedom).sqrt();
            assert!(
                sigma.abs() < 5.0,
                "{name}, {shuffle:?}: {sigma} standard deviations"
            );
        }
    }
}

/// Of two samples of weight a half both come in about a quarter of the epochs, also neighbours.
#[test]
fn no_two_samples_take_turns() {
    let (samples, epochs) = (130, 1500);
    let lists = [
        vec![0.5; samples],
        (0..samples).map(|id| 0.4995 + id as f32 * 1e-5).collect(),
    ];
    let mut plans: Vec<Plan> = lists
        .iter()
        .map(|weights| weighted(spec(16, Shuffle::Full), weights))
        .collect();
    for shuffle in [Shuffle::Full, Shuffle::Blocked(Block::Shards(1))] {
        let mut one = squares(samples);
        one.starts = vec![0, 64];
        one.ends = vec![samples as u64];
        let shares = Shares {
            shares: vec![Share::Repeats(0.5)],
            epoch_samples: None,
        };
        let spec = PlanSpec {
            shares: Some(shares),
            ..spec(16, shuffle)
        };
        plans.push(Plan::new(spec, &one).unwrap());
    }
    for plan in plans {
        let mut both = vec![0; samples];
        for epoch in 0..epochs {
            let times = times(&plan, epoch, samples);
            for (at, both) in both.iter_mut().enumerate() {
                *both += times[at] * times[(at + 1) % samples];
            }
        }
        // The last block of a list has two members only, which do take turns: no pair of them is
        // looked at but one.
        let share = |both: &u32| f64::from(*both) / epochs as f64;
        let shares: Vec<f64> = both.iter().map(share).collect();
        // Five standard deviations around 0.25, less what a block holds back.
        let odd = shares
            .iter()
            .filter(|share| !(0.185..0.31).contains(*share))
            .count();
        assert!(odd <= 1, "{shares:?}");
    }
}

#[test]
fn weights_of_one_change_nothing() {
    for shuffle in shuffles() {
        for repeats in [1, 3] {
            let mut samples = sizes(300);
            samples.starts = vec![0, 10, 20, 100, 201];
            let base = PlanSpec {
                shuffle: shuffle.clone(),
                repeats,
                ..super::spec(8, Tail::Pad)
            };
            let plain = Plan::new(base.clone(), &samples).unwrap();
            let mut specs = vec![PlanSpec {
                weights: Weights::Given(vec![1.0; 300].into()),
                ..base.clone()
            }];
            samples.ends = vec![37, 300];
            for share in [Share::Repeats(1.0), Share::Weight(37.0)] {
                let other = match share {
                    Share::Weight(_) => Share::Weight(263.0),
                    share => share,
                };
                let shares = Shares {
                    shares: vec![share, other],
                    epoch_samples: None,
                };
                specs.push(PlanSpec {
                    shares: Some(shares),
                    ..base.clone()
                });
            }
            for spec in specs {
                let plan = Plan::new(spec, &samples).unwrap();
                for epoch in 0..3 {
                    assert_eq!(epoch_ids(&plan, epoch, 1), epoch_ids(&plain, epoch, 1));
                }
            }
        }
    }
}

/// The same order by another way: weights that are no repeats to the code.
#[test]
fn whole_weights_are_ordered_as_repeats_are() {
    for shuffle in [Shuffle::Full, Shuffle::Blocked(Block::Shards(2))] {
        let repeated = PlanSpec {
            repeats: 3,
            ..spec(8, shuffle.clone())
        };
        let mut samples = squares(100);
        samples.starts = (0..100).step_by(10).collect();
        let repeated = Plan::new(repeated, &samples).unwrap();
        let plan = weighted(spec(8, shuffle), &[3.0; 100]);
        assert_eq!(epoch_ids(&plan, 4, 1), epoch_ids(&repeated, 4, 1));
    }
}

fn mixed(shares: Vec<Share>, epoch_samples: Option<u64>) -> Result<Plan, Error> {
    let mut samples = squares(1000);
    samples.starts = (0..1000).step_by(50).collect();
    samples.ends = vec![100, 400, 1000];
    let shares = Some(Shares {
        shares,
        epoch_samples,
    });
    let spec = PlanSpec {
        shares,
        ..spec(10, Shuffle::Full)
    };
    Plan::new(spec, &samples)
}

/// Deliveries of each source in an epoch.
fn of_sources(plan: &Plan, epoch: u64) -> [u32; 3] {
    let times = times(plan, epoch, 1000);
    [0..100, 100..400, 400..1000].map(|range| times[range].iter().sum())
}

#[test]
fn shares_divide_the_epoch() {
    let repeats = [3.0, 0.5, 0.0].map(Share::Repeats).to_vec();
    let plan = mixed(repeats, None).unwrap();
    assert_eq!(plan.report().weightless, 600);
    for epoch in 0..20 {
        assert_eq!(of_sources(&plan, epoch), [300, 150, 0]);
    }
    for (epoch_samples, expected) in [(None, [500, 300, 200]), (Some(250), [125, 75, 50])] {
        let weights = [0.5, 0.3, 0.2].map(Share::Weight).to_vec();
        let plan = mixed(weights, epoch_samples).unwrap();
        for epoch in 0..20 {
            let came = of_sources(&plan, epoch);
            // A sample of a boundary may be drawn from the other side of it.
            let off = came
                .iter()
                .zip(expected)
                .all(|(came, due)| came.abs_diff(due) <= 1);
            assert!(off, "{came:?}");
            assert_eq!(came.iter().sum::<u32>(), expected.iter().sum::<u32>());
        }
    }
}

#[test]
fn shares_are_of_what_takes_part() {
    // Half of the second source only, and none of the third.
    let mut samples = squares(1000);
    samples.ends = vec![100, 400, 1000];
    let shares = Shares {
        shares: vec![Share::Weight(1.0); 3],
        epoch_samples: Some(200),
    };
    let spec = PlanSpec {
        shares: Some(shares),
        subset: Subset::Range { start: 0, end: 250 },
        weights: Weights::Given((0..1000).map(|id| 1.0 + (id % 3) as f32).collect()),
        ..spec(10, Shuffle::Full)
    };
    let plan = Plan::new(spec, &samples).unwrap();
    let times = times(&plan, 3, 1000);
    let sum = |range: std::ops::Range<usize>| times[range].iter().sum::<u32>();
    assert!(sum(0..100).abs_diff(100) <= 1 && sum(100..250).abs_diff(100) <= 1);
    assert_eq!(sum(0..250), 200);
}

#[test]
fn nonsense_is_refused_by_name() {
    let weights = |list: &[f32], count: usize| {
        let weights = Weights::Given(list.into());
        let spec = PlanSpec {
            weights,
            ..spec(4, Shuffle::Full)
        };
        Plan::new(spec, &squares(count)).unwrap_err().to_string()
    };
    let nan = weights(&[1.0, f32::NAN], 2);
    assert!(nan.contains("`weights` has NaN for sample 1"), "{nan}");
    assert!(weights(&[1.0, 1.0, -0.5], 3).contains("has -0.5 for sample 2"));
    assert!(weights(&[f32::INFINITY], 1).contains("has inf for sample 0"));
    let short = weights(&[1.0; 5], 7);
    assert!(
        short.contains("has 5 weights, and the dataset has 7 samples"),
        "{short}"
    );
    assert!(weights(&[0.0; 3], 3).contains("all 0"));
    let mix = |shares, epoch| mixed(shares, epoch).unwrap_err().to_string();
    assert!(mix(vec![Share::Repeats(0.0); 3], None).contains("gives every source the share 0"));
    assert!(mix(vec![Share::Weight(f64::NAN); 3], None).contains("Weight(NaN) for source 0"));
    assert!(mix(vec![Share::Weight(1.0); 2], None).contains("has 2 shares"));
    assert!(mix(vec![Share::Repeats(1.0); 3], Some(5)).contains("`epoch_samples`"));
    assert!(mix(vec![Share::Weight(1.0); 3], Some(0)).contains("at 0, must be 1..="));
    let kinds = vec![Share::Weight(1.0), Share::Repeats(1.0), Share::Repeats(1.0)];
    assert!(mix(kinds, None).contains("one kind for all"));
    let spec = PlanSpec {
        weights: Weights::Given([1.0, 2.0].into()),
        ..spec(1, Shuffle::Given([0, 1].into()))
    };
    let given = Plan::new(spec, &squares(2)).unwrap_err().to_string();
    assert!(given.contains("`shuffle` is Given"), "{given}");
    // What is left after the subset may all have the weight 0.
    let spec = PlanSpec {
        weights: Weights::Given([0.0, 0.0, 2.0].into()),
        subset: Subset::Range { start: 0, end: 2 },
        ..super::weighted::spec(1, Shuffle::Full)
    };
    let none = Plan::new(spec, &squares(3)).unwrap_err().to_string();
    assert!(
        none.contains("0 for each of the 2 samples that take part"),
        "{none}"
    );
    let spec = PlanSpec {
        weights: Weights::Given([65_536.0, 1.0].into()),
        repeats: 65_536,
        ..super::weighted::spec(1, Shuffle::Full)
    };
    let many = Plan::new(spec, &squares(2)).unwrap_err().to_string();
    assert!(many.contains("deliver sample 0 4294967296 times"), "{many}");
}

/// A change here changes the order of runs with weights: it needs a new `ORDER_VERSION`.
#[test]
fn the_weighted_order_is_frozen() {
    let weights: Vec<f32> = (0..40).map(|id| 0.25 + (id % 5) as f32 / 2.0).collect();
    let full = epoch_ids(&weighted(spec(4, Shuffle::Full), &weights), 5, 1);
    assert_eq!(full[..12], [4, 18, 34, 28, 23, 13, 2, 24, 3, 11, 2, 12]);
    let blocked = spec(4, Shuffle::Blocked(Block::Shards(2)));
    let blocked = epoch_ids(&weighted(blocked, &weights), 5, 1);
    assert_eq!(blocked[..12], [1, 7, 9, 26, 27, 3, 8, 2, 23, 2, 9, 3]);
    let mix = mixed([2.5, 0.5, 0.7].map(Share::Repeats).to_vec(), None).unwrap();
    assert_eq!(
        epoch_ids(&mix, 5, 1)[..12],
        [354, 81, 18, 851, 99, 559, 691, 32, 565, 151, 89, 277]
    );
}
