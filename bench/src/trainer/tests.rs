//! What the tests of this module share, and those of its options.

use std::path::Path;

use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    args: Args,
}

pub(super) fn parse(typed: &[&str]) -> Result<Args, clap::Error> {
    Typed::try_parse_from(typed).map(|typed| typed.args)
}

/// A rank of a trainer on this folder.
pub(super) fn spec(folder: &Path) -> Spec {
    let args = parse(&["x", "--start", "synthetic"]).unwrap();
    args.specs("http://[::1]:1", folder).remove(0)
}

#[test]
fn every_rank_of_every_trainer_is_specified() {
    let typed = ["x", "--endpoint", "http://[::1]:1", "--trainers", "3"];
    let more = ["--ranks", "2", "--world-size", "8", "--step-ms", "100,250"];
    let args = parse(&[&typed[..], &more].concat()).unwrap();
    let specs = args.specs("e", Path::new("d"));
    let all: Vec<_> = specs
        .iter()
        .map(|spec| (spec.trainer, spec.rank, spec.step.as_millis()))
        .collect();
    assert_eq!(
        all,
        [
            (0, 0, 100),
            (0, 1, 100),
            (1, 0, 250),
            (1, 1, 250),
            (2, 0, 100),
            (2, 1, 100)
        ]
    );
    assert!(specs.iter().all(|spec| spec.world_size == 8));
    assert_eq!(args.simulated(), 0.25);
    let names: Vec<_> = specs.iter().map(|spec| spec.config().trainer).collect();
    assert_ne!(names[0], names[2]);
    assert_eq!(names[0], names[1]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let start = ["x", "--start", "synthetic"];
    for bad in [
        &["--endpoint", "http://[::1]:1"][..],
        &["--load", "0.85", "--step-ms", "10"],
        &["--load", "0"],
        &["--steps", "3", "--seconds", "3"],
        &["--slow-share", "1.5"],
        &["--stop-fleet", "30"],
        &["--ranks", "0"],
        &["--dataset", "d", "--photos", "10"],
    ] {
        let typed = [&start[..], bad].concat();
        assert!(parse(&typed).is_err(), "{bad:?}");
    }
    assert!(parse(&["x"]).is_err());
    let remote = ["x", "--endpoint", "http://[::1]:1", "--stop-fleet", "1,1"];
    assert!(parse(&remote).is_err(), "nobody else's fleet is stopped");
    let odd = parse(&[&start[..], &["--ranks", "3"]].concat()).unwrap();
    let refused = odd.specs("", Path::new(""))[0].config().check();
    assert!(refused.unwrap_err().to_string().contains("world_size"));
}
