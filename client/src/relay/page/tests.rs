//! Every state of everything, as HTML that a strict reader accepts.

use super::*;
use crate::{
    balance::{ReplicaView, TrainerView},
    relay::sample,
};

/// Elements that have no end.
const VOID: [&str; 1] = ["meta"];

/// Fails on a tag that is not closed, or closed out of order; returns the text between the tags.
fn well_formed(html: &str) -> String {
    let rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let (mut open, mut text) = (Vec::new(), String::new());
    // Chevrons of text are escaped, so these are tags. The style has none.
    for piece in rest.split('<').skip(1) {
        let (tag, after) = piece.split_once('>').expect("a tag that ends");
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{open:?}"),
            None => {
                let name = tag.split_ascii_whitespace().next().unwrap_or_default();
                if !VOID.contains(&name) {
                    open.push(name);
                }
            }
        }
        text.push_str(after);
    }
    assert!(open.is_empty(), "{open:?}");
    text
}

fn shown(view: &View, troubles: &[Trouble]) -> String {
    well_formed(&render(view, troubles))
}

fn trouble(entry: &str, reason: &str) -> Trouble {
    let (entry, reason) = (entry.to_owned(), reason.to_owned());
    Trouble { entry, reason }
}

#[test]
fn a_fleet_with_everything_is_shown() {
    let text = shown(&sample::view(), &sample::troubles());
    for standing in Standing::ALL {
        assert!(
            text.contains(&format!(" {}", standing.word())),
            "{standing:?}"
        );
    }
    for words in [
        "9 of 15 replicas up; 1 unknown, 1 stalled, 1 ejected, 2 away, 1 leaving.",
        "A trainer waits, or soon will.",
        "The list of replicas has troubles",
        "its last answer, of 9 addresses, stays in force",
        "5 faults in a row, the last: device lost",
        "more would help",
        "212 requests of 93.0 MP wait for a replica",
        "97\u{202f}%",
        "dit-xl-512",
        "24.6 s",
        "▲ waits",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn an_empty_balancer_is_shown() {
    let text = shown(&View::default(), &[]);
    assert!(text.contains("No replica is listed."));
    assert!(text.contains("No trainer has asked for anything lately."));
    assert!(text.contains("Nothing waits for a replica."));
    assert!(!text.contains("has troubles"));
}

#[test]
fn the_worst_come_first() {
    let html = render(&sample::view(), &[]);
    let at = |name: &str| html.find(name).unwrap_or_else(|| panic!("{name}"));
    let order = [
        "10.4.0.31",
        "10.4.0.36",
        "spot-17",
        "10.4.0.33",
        "10.4.0.35",
        "10.4.0.34",
        "10.4.0.11",
    ];
    assert!(order.is_sorted_by_key(|name| at(name)));
    assert!(at("wan-ablation-3") < at("sdxl-finetune"));
}

#[test]
fn words_of_strangers_stay_words() {
    let evil = "</th><script>alert('x')</script><img src=x onerror=\"y\">&amp;";
    let view = View {
        replicas: vec![ReplicaView {
            reason: evil.into(),
            ..sample::replica(0, evil)
        }],
        trainers: vec![sample::trainer(evil, 1.0, None)],
        ..View::default()
    };
    let html = render(&view, &[trouble(evil, evil)]);
    let text = well_formed(&html);
    assert_eq!(text.matches("&lt;script&gt;alert").count(), 5, "{text}");
    assert!(!html.contains("<script") && !html.contains("<img"));
    assert!(html.contains("&amp;amp;"));
}

#[test]
fn numbers_without_sense_are_shown_as_nothing() {
    let view = View {
        replicas: vec![ReplicaView {
            pixels_per_second: f64::NAN,
            ..sample::replica(0, "a")
        }],
        trainers: vec![TrainerView {
            pixels_per_second: f64::INFINITY,
            ..sample::trainer("a", 1.0, None)
        }],
        ..View::default()
    };
    let html = render(&view, &[]);
    well_formed(&html);
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn a_large_fleet_is_cut_after_the_worst() {
    let name = |n| format!("http://10.{}.{}.1:7000", n / 256, n % 256);
    let mut replicas: Vec<_> = (0..20_000).map(|n| sample::replica(n, &name(n))).collect();
    replicas[19_999].standing = Standing::Away;
    let html = render(
        &View {
            replicas,
            ..View::default()
        },
        &[],
    );
    let text = well_formed(&html);
    assert_eq!(html.matches("<tr>").count(), 1 + replicas::MAX_ROWS);
    assert!(text.contains("✕ away"));
    assert!(text.contains("19\u{202f}500 more are not shown"), "{text}");
    assert!(
        html.len() < 1 << 20,
        "{} bytes every two seconds",
        html.len()
    );
}

/// For looking at it: `cargo test -p preheat-client --features relay page_to_a_file -- --ignored`
/// with `PAGE_FOLDER` set; then open the files in a browser.
#[test]
#[ignore = "writes files for a reader"]
fn page_to_a_file() {
    let folder = std::path::PathBuf::from(std::env::var_os("PAGE_FOLDER").expect("PAGE_FOLDER"));
    let fine = View {
        replicas: (0..8)
            .map(|n| sample::replica(n, &format!("http://10.4.0.{n}:7000")))
            .collect(),
        trainers: vec![sample::trainer("dit-xl-512", 24.6, Some(41))],
        desired: crate::balance::Desired {
            replicas: 8,
            up: 8,
            utilization: 0.71,
            starving: false,
        },
        ..View::default()
    };
    for (name, html) in [
        ("everything", render(&sample::view(), &sample::troubles())),
        ("fine", render(&fine, &[])),
        ("empty", render(&View::default(), &[])),
    ] {
        std::fs::write(folder.join(name).with_extension("html"), html).unwrap();
    }
}
