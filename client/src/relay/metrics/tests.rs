//! The text, line by line.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::relay::sample;

/// Reads the exposition format, strictly: every sample in its family, no series twice, every value
/// a number. Series by name and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut series, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut family = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} twice");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge"].contains(&kind));
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite(), "{line}");
        let labels = name.strip_prefix(family.as_str()).expect("in its family");
        if !labels.is_empty() {
            let inner = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
            grammar(inner.expect("braces"));
        }
        assert!(
            series.insert(name.to_owned(), value).is_none(),
            "{name} twice"
        );
    }
    series
}

/// `name="value"`, separated by commas, with nothing unescaped inside.
fn grammar(mut labels: &str) {
    loop {
        let (name, rest) = labels.split_once("=\"").expect("name=\"");
        assert!(
            name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{name}"
        );
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let rest = &rest[end.expect("a closing quote") + 1..];
        match rest.strip_prefix(',') {
            Some(more) => labels = more,
            None => return assert_eq!(rest, ""),
        }
    }
}

fn scrape(view: &View) -> BTreeMap<String, f64> {
    parse(&render(view, &sample::troubles()))
}

#[test]
fn everything_is_there() {
    let series = scrape(&sample::view());
    for (name, value) in [
        ("desired_replicas", 12.0),
        ("up_replicas", 9.0),
        ("utilization", 0.97),
        ("starving", 1.0),
        ("discovery_troubles", 2.0),
        ("replicas{standing=\"away\"}", 2.0),
        ("hedges_total", 88.0),
        ("retries_total", 312.0),
        ("out_of_budget_total", 4.0),
        ("queue_pixels", 93e6),
        ("queue_requests{slack_below=\"0\"}", 3.0),
        ("queue_requests{slack_below=\"+Inf\"}", 60.0),
        (
            "replica_pixels_per_second{replica=\"http://10.4.0.11:7000\"}",
            2.1e6,
        ),
        (
            "replica_ejections_total{replica=\"http://10.4.0.33:7000\"}",
            1.0,
        ),
        (
            "replica_standing{replica=\"http://10.4.0.31:7000\",standing=\"away\",\
             reason=\"connection refused\"}",
            1.0,
        ),
        ("trainer_ahead_seconds{trainer=\"sdxl-finetune\"}", 3.2),
        ("trainer_ready_batches{trainer=\"dit-xl-512\"}", 41.0),
        ("trainer_late_total{trainer=\"wan-ablation-3\"}", 17.0),
    ] {
        assert_eq!(
            series.get(&format!("preheat_balancer_{name}")),
            Some(&value),
            "{name}"
        );
    }
    assert!(
        !series.contains_key("preheat_balancer_trainer_ready_batches{trainer=\"sdxl-finetune\"}")
    );
    let shares = series
        .iter()
        .filter(|(name, _)| name.starts_with("preheat_balancer_replica_share"));
    let sum: f64 = shares.map(|(_, share)| share).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
}

#[test]
fn those_who_are_gone_leave_nothing_behind() {
    let mut view = sample::view();
    assert!(scrape(&view).keys().any(|name| name.contains("10.4.0.36")));
    view.replicas.retain(|r| !r.name.contains("10.4.0.36"));
    view.trainers.retain(|t| &*t.name != "dit-xl-512");
    let series = scrape(&view);
    assert!(
        !series
            .keys()
            .any(|name| name.contains("10.4.0.36") || name.contains("dit-xl"))
    );
}

#[test]
fn a_replica_that_returns_while_it_leaves_is_one_series() {
    let mut view = sample::view();
    for (number, standing) in [
        (40, Standing::Leaving),
        (41, Standing::Up),
        (42, Standing::Leaving),
    ] {
        view.replicas.push(ReplicaView {
            standing,
            ..sample::replica(number, "http://twice:1")
        });
    }
    let series = scrape(&view);
    let up =
        "preheat_balancer_replica_standing{replica=\"http://twice:1\",standing=\"up\",reason=\"\"}";
    assert_eq!(series.get(up), Some(&1.0));
}

#[test]
fn words_of_strangers_stay_labels() {
    let evil = "a\"} 1\nb\\";
    let view = View {
        replicas: vec![ReplicaView {
            reason: evil.into(),
            ..sample::replica(0, evil)
        }],
        trainers: vec![
            sample::trainer(evil, 1.0, None),
            sample::trainer(&"x".repeat(9999), 1.0, None),
        ],
        ..View::default()
    };
    let series = scrape(&view);
    let name = "preheat_balancer_trainer_weight{trainer=\"a\\\"} 1\\nb\\\\\"}";
    assert_eq!(series.get(name), Some(&1.0));
    assert!(series.keys().all(|name| name.len() < 500));
}

#[test]
fn a_large_fleet_has_sums_only() {
    let replicas = (0..20_000)
        .map(|n| sample::replica(n, &format!("http://r{n}:1")))
        .collect();
    let series = scrape(&View {
        replicas,
        ..sample::view()
    });
    assert!(series.len() < 100, "{}", series.len());
    assert_eq!(series["preheat_balancer_replicas_without_series"], 20_000.0);
    assert_eq!(
        series["preheat_balancer_replicas{standing=\"up\"}"],
        20_000.0
    );
}
