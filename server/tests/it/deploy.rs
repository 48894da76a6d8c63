//! The dashboard, the alerts and the manifests in `deploy/` fit the program.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    harness::{Ask, client, connect},
    process::{Program, command, free_address, page},
};

const DASHBOARD: &str = include_str!("../../deploy/dashboard.json");
const ALERTS: &str = include_str!("../../deploy/alerts.yaml");
const KUBERNETES: &str = include_str!("../../deploy/kubernetes.yaml");
const SYSTEMD: &str = include_str!("../../deploy/preheat.service");

/// All strings under a key, wherever it is.
fn under(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == key => found.push(text.clone()),
                    _ => under(field, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| under(value, key, found)),
        _ => {}
    }
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// Names of our metrics in an expression or a page.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(move |c| !is_part(c));
    words.filter(|word| word.starts_with("preheat_"))
}

/// The values of a label in an expression: `label="a"` or `label=~"a|b"`.
fn values<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
    let [plain, regex] = [format!("{label}=\""), format!("{label}=~\"")];
    let after = |start: &str| -> Vec<&'a str> {
        let parts = text.split(start).skip(1);
        parts.filter_map(|part| part.split('"').next()).collect()
    };
    let both = [after(&plain), after(&regex)].concat();
    both.into_iter()
        .flat_map(|value| value.split('|'))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_shown_or_watched_is_exported() {
    let mut used = vec![];
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    under(&dashboard, "expr", &mut used);
    under(&dashboard, "query", &mut used);
    let panels = used.len();
    let alerts = documents(ALERTS);
    under(&alerts[0], "expr", &mut used);
    assert!(panels > 10 && used.len() > panels + 5, "{used:?}");

    let free = free_address();
    let listen = free.to_string();
    let options = ["--model", "m=synthetic", "--metrics-listen", &listen];
    let (_program, address) = Program::start(&options);
    let mut client = client(connect(address).await);
    let ask = Ask::new(64, 64).grey(1).file(b"no image", [64, 64], [0, 0]);
    ask.send(&mut client).await.unwrap();
    let page = page(free);
    let exported: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(names)
        .collect();
    for name in used.iter().flat_map(|text| names(text)) {
        assert!(
            exported.contains(name),
            "{name} is not on the page: {exported:?}"
        );
    }
    // And the other way: what is exported is shown.
    let shown: Vec<_> = used.iter().flat_map(|text| names(text)).collect();
    for name in &exported {
        let base = name
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        assert!(
            shown.iter().any(|shown| shown.starts_with(base)),
            "{name} is on no panel"
        );
    }
    // Labels and their values.
    for (label, metric) in [
        ("reason", "preheat_sheds_total"),
        ("code", "preheat_calls_total"),
    ] {
        for value in used.iter().flat_map(|text| values(text, label)) {
            let series = format!("{metric}{{{label}=\"{value}\"}}");
            assert!(page.contains(&series), "{series} is not on the page");
        }
    }
    // Failures have a series only once they happened; their names are those of the codes.
    assert!(
        page.contains("preheat_items_total{outcome=\"BadImage\"} 1"),
        "{page}"
    );
    for outcome in used.iter().flat_map(|text| values(text, "outcome")) {
        let known = [
            "BadImage",
            "TooLarge",
            "Unsupported",
            "Changed",
            "NotFinite",
            "Internal",
            // Of reloads.
            "failed",
        ];
        assert!(known.contains(&outcome), "{outcome}");
    }
}

#[test]
fn the_manifests_fit_the_program() {
    let documents = documents(KUBERNETES);
    let kinds: Vec<_> = documents
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Deployment", "Service", "PodDisruptionBudget"]);
    let pod = &documents[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let args: Vec<_> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a.as_str().unwrap())
        .collect();
    // Parsed by the program's own parser, so that an option that is renamed is noticed here.
    let parsed = preheat_server::Args::parse_from(args.iter().copied()).unwrap();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(
        grace > parsed.drain_timeout + 5,
        "SIGKILL would come before the drain ends"
    );
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        port["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("grpc"), u64::from(parsed.listen.port()));
    assert_eq!(
        port("metrics"),
        u64::from(parsed.metrics_listen.unwrap().port())
    );
    for (probe, path) in [
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "metrics");
    }

    let stop = SYSTEMD
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    assert!(stop.unwrap().parse::<u64>().unwrap() > parsed.drain_timeout + 5);
    // The variables that it speaks of exist.
    let help = command(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in SYSTEMD.split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
        assert!(
            !word.starts_with("PREHEAT_") || help.contains(word),
            "{word}"
        );
    }
}
