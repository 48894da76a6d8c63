//! Views for tests.

use std::{sync::Arc, time::Duration};

use crate::balance::{
    Desired, QueueView, ReplicaView, Standing, Totals, TrainerView, View, discover::Trouble,
    replica_id,
};

/// A replica that is up.
pub(super) fn replica(number: u32, name: &str) -> ReplicaView {
    let speed = [2.1e6, 4.3e6, 11.8e6, 23.9e6][number as usize % 4];
    let calls = (speed / 1e4) as u64;
    ReplicaView {
        id: replica_id(number),
        name: name.into(),
        standing: Standing::Up,
        reason: Arc::default(),
        pixels_per_second: speed,
        outstanding_pixels: (speed * 0.2) as u64,
        outstanding_calls: 1 + number % 4,
        answered_calls: calls,
        answered_pixels: calls * 262_144,
        faults: 0,
        ejections: 0,
    }
}

/// As [`replica`], in trouble.
pub(super) fn sick(number: u32, name: &str, standing: Standing, reason: &str) -> ReplicaView {
    ReplicaView {
        standing,
        reason: reason.into(),
        faults: 3 + u64::from(number),
        ejections: 1,
        ..replica(number, name)
    }
}

pub(super) fn trainer(name: &str, ahead: f64, ready: Option<u64>) -> TrainerView {
    TrainerView {
        name: name.into(),
        weight: 1.0,
        queued_pixels: 31_000_000,
        outstanding_pixels: 12_400_000,
        pixels_per_second: 27.3e6,
        ahead: Duration::from_secs_f64(ahead),
        ready_batches: ready,
        late: u64::from(ahead <= 0.0) * 17,
        answered: 182_331,
    }
}

/// Replicas in every standing.
fn replicas() -> Vec<ReplicaView> {
    let up = (0..9).map(|n| replica(n, &format!("http://10.4.0.{}:7000", 11 + n)));
    let (spot, faults) = (
        "https://spot-17.gpus.internal:7000",
        "5 faults in a row, the last: device lost",
    );
    let others = [
        sick(
            9,
            "http://10.4.0.31:7000",
            Standing::Away,
            "connection refused",
        ),
        sick(10, spot, Standing::Ejected, faults),
        sick(
            11,
            "http://10.4.0.33:7000",
            Standing::Stalled,
            "silent for 4.2 s with 3 calls",
        ),
        sick(
            12,
            "http://10.4.0.34:7000",
            Standing::Leaving,
            "no longer listed",
        ),
        ReplicaView {
            standing: Standing::Unknown,
            pixels_per_second: 0.0,
            answered_calls: 0,
            answered_pixels: 0,
            outstanding_calls: 0,
            outstanding_pixels: 0,
            ..replica(13, "http://10.4.0.35:7000")
        },
        sick(
            14,
            "http://10.4.0.36:7000",
            Standing::Away,
            "answers, but is not a replica: unknown service preheat.v1.Encoder",
        ),
    ];
    up.chain(others).collect()
}

/// A fleet with everything that can happen to one.
pub(super) fn view() -> View {
    View {
        pixels_per_second: 9e8,
        replicas: replicas(),
        trainers: vec![
            trainer("dit-xl-512", 24.6, Some(41)),
            trainer("wan-ablation-3", 0.0, Some(0)),
            trainer("sdxl-finetune", 3.2, None),
        ],
        queue: QueueView {
            urgent_pixels: 3 << 20,
            requests: 212,
            pixels: 93_000_000,
            by_slack: [3, 9, 34, 106, 60],
        },
        desired: Desired {
            replicas: 12,
            up: 9,
            utilization: 0.97,
            starving: true,
        },
        totals: Totals {
            submitted: 546_993,
            answered: 546_600,
            failed: 2,
            full: 140,
            retries: 312,
            hedges: 88,
            hedges_won: 61,
            out_of_budget: 4,
        },
    }
}

pub(super) fn troubles() -> Vec<Trouble> {
    let trouble = |entry: &str, reason: &str| Trouble {
        entry: entry.to_owned(),
        reason: reason.to_owned(),
    };
    vec![
        trouble(
            "dns+http://gpus.internal:7000",
            "cannot be resolved: no name server answers; its last answer, of 9 addresses, stays in force",
        ),
        trouble(
            "file:/etc/preheat/replicas line 14",
            "`gpu-7` must look like http://host:port",
        ),
    ]
}
