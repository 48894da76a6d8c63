//! The command against a real replica in this process, over real sockets.

use clap::Parser;
use preheat_server::Config;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

use super::*;

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn load(options: &[&str]) -> anyhow::Result<serde_json::Value> {
    let quick = [
        "load",
        "--seconds=0.3",
        "--warmup=0.1",
        "--items=2",
        "--size=64",
    ];
    let args = Cli::try_parse_from(quick.iter().chain(options))?.args;
    Ok(serde_json::to_value(run(&args)?)?)
}

/// Columns of what became of the calls.
const CALLS: usize = 1;
const WHOLE: usize = 3;
const BUSY: usize = 7;
const WITHOUT_PUSHBACK: usize = 8;

/// The same with every step measured for long enough that it has calls of each of these columns, which
/// takes longer on a machine that stands still for a while.
fn measured(options: &[&str], columns: &[usize]) -> serde_json::Value {
    for seconds in ["--seconds=0.3", "--seconds=2", "--seconds=10"] {
        let report = load(&[options, &[seconds]].concat()).unwrap();
        let steps = rows(&report, "What became of the calls").iter();
        let mut steps = steps.map(|row| columns.iter().all(|&column| count(row, column) > 0.0));
        if steps.all(|enough| enough) {
            return report;
        }
    }
    panic!("a step of 10 s had no calls of columns {columns:?}: {options:?}");
}

fn count(row: &serde_json::Value, column: usize) -> f64 {
    row[column].as_f64().unwrap()
}

fn said(options: &[&str]) -> String {
    format!("{:#}", load(options).unwrap_err())
}

/// A replica on a free port; drains when dropped.
struct Replica {
    endpoint: String,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

fn replica(options: &[&str]) -> Replica {
    let runtime = Runtime::new().unwrap();
    let args = preheat_server::Args::parse_from(options.iter().copied()).unwrap();
    let config = Config::try_from(&args).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let models = config.open_models().unwrap();
    runtime.spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        preheat_server::serve(listener, models, &config, shutdown).await
    });
    Replica {
        endpoint,
        _stop: stop,
        _runtime: runtime,
    }
}

/// The rows of a table, by its title.
fn rows<'a>(report: &'a serde_json::Value, title: &str) -> &'a Vec<serde_json::Value> {
    let tables = report["tables"].as_array().unwrap();
    let table = tables.iter().find(|table| table["title"] == title);
    table.unwrap()["rows"].as_array().unwrap()
}

#[test]
fn closed_and_open_loops_against_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let [csv, picture] = ["a.csv", "a.png"].map(|name| folder.path().join(name));
    let replica = replica(&["--model=vae=synthetic:ms-per-megapixel=100"]);
    let report = measured(
        &[
            "--endpoint",
            &replica.endpoint,
            "--closed=1,2",
            "--open=30,0.5x",
            "--size=64:3,96x64:1",
            "--dtype=f16",
            "--csv",
            csv.to_str().unwrap(),
            "--picture",
            picture.to_str().unwrap(),
        ],
        &[WHOLE],
    );
    assert!(report["incomplete"].is_null(), "{report}");
    let answers = rows(&report, "What became of the calls");
    let names: Vec<_> = answers.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert!(names.starts_with(&["closed 1", "closed 2", "capacity 4"]));
    assert!(names.ends_with(&["open 30", "open 0.5x"]));
    for row in answers {
        // Every call was whole: no other column counts.
        assert_eq!(count(row, CALLS), count(row, WHOLE), "{row}");
    }
    let lines = std::fs::read_to_string(csv).unwrap();
    assert!(lines.starts_with("step,second,offered_images"), "{lines}");
    let picture = image::open(picture).unwrap();
    assert!(picture.width() > 1000 && picture.height() > 500);
}

#[test]
fn clips_are_sent_and_counted_in_pixels_times_frames() {
    let replica = replica(&["--model=vae=synthetic:temporal-compression=4"]);
    let to = ["--endpoint", &replica.endpoint, "--closed=2"];
    let report = measured(&[&to[..], &["--frames=9"]].concat(), &[WHOLE]);
    let row = &rows(&report, "What became of the calls")[0];
    assert_eq!(count(row, CALLS), count(row, WHOLE), "{row}");
    let figures = report["figures"].as_array().unwrap();
    let figure = |name: &str| {
        let figure = figures.iter().find(|figure| figure["name"] == name);
        figure.unwrap()["value"].as_f64().unwrap()
    };
    let [clips, frames, pixels] = [
        "most clips in a second",
        "that is in frames",
        "that is in pixels times frames",
    ]
    .map(figure);
    assert!((frames / clips - 9.0).abs() < 1e-9, "{report}");
    assert!(
        (pixels / frames - 64.0 * 64.0 / 1e6).abs() < 1e-9,
        "{report}"
    );
    let said = load(&[&to[..], &["--frames=8"]].concat()).unwrap_err();
    assert!(format!("{said:#}").contains("--frames 5 or 9"), "{said:#}");
}

#[test]
fn refusals_are_counted_with_what_they_say() {
    // Room for one call of two 64x64: every second is refused.
    let small = [
        "--model=vae=synthetic:ms-per-megapixel=5000",
        "--queue-pixels=8192",
    ];
    let replica = replica(&small);
    let report = measured(
        &["--endpoint", &replica.endpoint, "--closed=4"],
        &[WHOLE, BUSY],
    );
    let row = &rows(&report, "What became of the calls")[0];
    assert_eq!(count(row, WITHOUT_PUSHBACK), 0.0, "{row}");
}

#[test]
fn bad_input_is_answered_with_advice() {
    let replica = replica(&["--model=vae=synthetic", "--model=other=synthetic:version=1"]);
    let to = ["--endpoint", &replica.endpoint];
    let with = |options: &[&str]| said(&[&to, options].concat());
    assert!(with(&["--model=nope"]).contains("takes one of `vae`, `other`"));
    let odd = with(&["--size=70"]);
    assert!(odd.contains("70x70") && odd.contains("64"), "{odd}");
    assert!(with(&["--posterior=sample"]).contains("no posterior"));
    assert!(with(&["--picture=a.jpg"]).contains(".png"));
    assert!(with(&["--items=1024", "--bytes=80"]).contains("lower --items"));
    let empty = tempfile::tempdir().unwrap();
    assert!(with(&["--images", empty.path().to_str().unwrap()]).contains("has no images"));
    for absurd in [
        "--closed=0",
        "--open=-1",
        "--open=1e12",
        "--seconds=0",
        "--items=0",
        "--items=5000",
        "--in-flight=1000000000",
        "--timeout=nan",
        "--bytes=0",
        "--size=0",
    ] {
        let said = with(&[absurd]);
        let option = absurd.split('=').next().unwrap();
        assert!(
            said.contains("invalid value") && said.contains(option),
            "{said}"
        );
    }
}

#[test]
fn endpoints_that_are_none_are_told_within_seconds() {
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let refused = said(&["--endpoint", &uri]);
    assert!(refused.contains("cannot be reached"), "{refused}");
    assert!(said(&["--endpoint", "localhost:1"]).contains("http://host:port"));
    assert!(said(&["--endpoint", "http://localhost:1", "--ca-file=a.pem"]).contains("https://"));
    assert!(said(&["--endpoint", &uri, "--start=synthetic"]).contains("cannot be used with"));
    assert!(said(&[]).contains("--start"));
}
