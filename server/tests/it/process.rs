//! The program itself: what it prints, how it exits.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
};

use preheat_proto::v1;
use tokio::net::TcpSocket;

use crate::harness::{Ask, client, connect, eventually, soon};

/// A child that does not outlive its test.
pub(crate) struct Program {
    child: Child,
    /// Reads along, or a full pipe would stop the program.
    log: Option<JoinHandle<String>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_preheat-server"));
    command
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // What the tester has set must not decide the test, but where FFmpeg lies is the machine's matter.
    let ours = |name: &str| name.starts_with("PREHEAT_") && !name.starts_with("PREHEAT_FF");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

impl Program {
    /// Starts it and reads the address that it prints.
    pub(crate) fn start(options: &[&str]) -> (Self, SocketAddr) {
        Self::start_in(options, &[])
    }

    /// The same with these variables set.
    pub(crate) fn start_in(options: &[&str], variables: &[(&str, &Path)]) -> (Self, SocketAddr) {
        let options = [&["--listen", "127.0.0.1:0"], options].concat();
        let mut command = command(&options);
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = Some(std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        }));
        let mut program = Self { child, log };
        let mut line = String::new();
        let stdout = program.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect(&line);
        (program, address.trim().parse().unwrap())
    }

    /// Bytes of its memory that are resident.
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Processes that it has started and that are still there.
    pub(crate) fn children(&self) -> usize {
        let id = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").unwrap();
        let parent = |process: std::fs::DirEntry| {
            // "pid (name) state parent ..."; one that has ended meanwhile has none.
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let (_, behind_name) = stat.rsplit_once(") ")?;
            behind_name.split(' ').nth(1).map(str::to_owned)
        };
        let parents = processes.filter_map(|process| parent(process.unwrap()));
        parents.filter(|parent| *parent == id).count()
    }

    /// The most that it ever was.
    pub(crate) fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line));
        let kib: u64 = value
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(|| {
            status = self.child.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.unwrap()
    }

    /// What it logged, once it has ended.
    pub(crate) fn stderr(&mut self) -> String {
        self.log.take().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_and_exits_cleanly_on_sigterm() {
    for signal in ["TERM", "INT"] {
        let (mut program, address) = Program::start(&["--model", "m=synthetic"]);
        let mut client = client(connect(address).await);
        let info = client.info(v1::InfoRequest {}).await.unwrap().into_inner();
        Ask::new(8, 8).grey(3).send(&mut client).await.unwrap();
        program.signal(signal);
        assert_eq!(program.exit().await.code(), Some(0), "{signal}");
        let log = program.stderr();
        assert!(
            log.contains("UNTRAINED") && log.contains(&info.models[0].fingerprint),
            "{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_the_queue_and_a_second_signal_ends_at_once() {
    let free = free_address();
    let metrics = free.to_string();
    // One item takes an hour.
    let model = "m=synthetic:ms-per-megapixel=60000000000";
    let (mut program, address) = Program::start(&["--model", model, "--metrics-listen", &metrics]);
    let channel = connect(address).await;
    let mut caller = client(channel.clone());
    let call = tokio::spawn(async move { caller.encode(Ask::new(8, 8).grey(3).request()).await });
    eventually(|| std::future::ready(page(free).contains("preheat_queued_pixels 64"))).await;
    let metrics = page(free);
    let bucket = "preheat_decode_seconds_bucket{le=\"0.0005\"}";
    assert!(metrics.contains(bucket), "{metrics}");
    assert!(get(free, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(free, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(free, "/").starts_with("HTTP/1.1 404"));

    program.signal("TERM");
    eventually(async || {
        let mut late = client(channel.clone());
        let ask = Ask::new(8, 8).grey(4).header("grpc-timeout", "300m");
        let refused = ask.send(&mut late).await.unwrap_err();
        refused.code() == tonic::Code::Unavailable
    })
    .await;
    let ready = get(free, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("not ready: draining\n"));
    assert!(get(free, "/livez").starts_with("HTTP/1.1 200"));
    program.signal("TERM");
    assert_eq!(program.exit().await.code(), Some(130));
    assert!(soon(call).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_that_was_admitted() {
    let free = free_address();
    let metrics = free.to_string();
    // Each of the 40 calls takes 60 ms of the device: the gauge is a second old at most.
    let model = "m=synthetic:ms-per-megapixel=14648";
    let options = ["--model", model, "--metrics-listen", &metrics];
    let (mut program, address) = Program::start(&options);
    let channel = connect(address).await;
    let calls: Vec<_> = (0..40_u8)
        .map(|value| {
            let mut client = client(channel.clone());
            let ask = Ask::new(64, 64).grey(value);
            tokio::spawn(async move { (value, ask.send(&mut client).await) })
        })
        .collect();
    // All are inside, on the way through, or answered: nothing is still on its way here.
    eventually(|| {
        let page = page(free);
        let number = |name: &str| -> u64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0, |value| value.trim().parse().unwrap())
        };
        let inside = number("preheat_queued_pixels ") / 4096;
        let answered = number("preheat_items_total{outcome=\"ok\"} ");
        std::future::ready(inside + answered >= 40 && answered < 40)
    })
    .await;
    program.signal("TERM");
    for call in calls {
        let (value, reply) = soon(call).await.unwrap();
        let expected = f32::from(value) / 127.5 - 1.0;
        assert!((reply.unwrap().latent(0)[0] - expected).abs() < 1e-5);
    }
    assert_eq!(program.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_models_again_and_goes_on_serving() {
    let free = free_address();
    let metrics = free.to_string();
    let options = ["--model", "m=synthetic", "--metrics-listen", &metrics];
    let (mut program, address) = Program::start(&options);
    let mut client = client(connect(address).await);
    program.signal("HUP");
    let looked = "preheat_reloads_total{outcome=\"unchanged\"} 1";
    eventually(|| std::future::ready(page(free).contains(looked))).await;
    Ask::new(8, 8).grey(3).send(&mut client).await.unwrap();
    program.signal("TERM");
    assert_eq!(program.exit().await.code(), Some(0));
    assert!(program.stderr().contains("no model has changed"));
}

/// A port where a program may listen, and that is given to nobody who asks for any: held by a socket that is
/// bound, does not listen, and stays until the tests end.
pub(crate) fn free_address() -> SocketAddr {
    let held = TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = held.local_addr().unwrap();
    std::mem::forget(held);
    address
}

pub(crate) fn page(address: SocketAddr) -> String {
    get(address, "/metrics")
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut text = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_replica_shows_an_empty_queue() {
    let free = free_address();
    let metrics = free.to_string();
    let (_program, address) =
        Program::start(&["--model", "m=synthetic", "--metrics-listen", &metrics]);
    let mut caller = client(connect(address).await);
    Ask::new(8, 8).grey(3).send(&mut caller).await.unwrap();
    eventually(|| std::future::ready(page(free).contains("preheat_queued_pixels 0"))).await;
    let page = page(free);
    assert!(
        page.contains("preheat_queue_limit_pixels 268435456"),
        "{page}"
    );
    assert!(page.contains("preheat_wire_seconds_count 1"), "{page}");
    assert!(
        page.contains("preheat_items_total{outcome=\"ok\"} 1"),
        "{page}"
    );
}

#[test]
fn mistakes_end_it_with_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    let model = ["--model", "m=synthetic"];
    for (options, say) in [
        (vec![model[0], model[1], "--listen", &busy], busy.as_str()),
        (
            vec![model[0], model[1], "--metrics-listen", &busy],
            busy.as_str(),
        ),
        (vec!["--model", "m=no/such/model"], "`m`"),
        (vec!["--model", "m=builtin:huge"], "builtin:huge"),
        (vec!["--model", "nameless"], "NAME=SOURCE"),
        (vec![model[0], model[1], "--dtype", "fp8"], "fp8"),
    ] {
        let listen = ["--listen", "127.0.0.1:0"];
        let rest = if options.contains(&"--listen") {
            &[][..]
        } else {
            &listen[..]
        };
        let mut command = command(&[&options[..], rest].concat());
        // What was found and chosen on the way is no mistake.
        let output = command.env("RUST_LOG", "error").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        assert!(output.stdout.is_empty(), "{options:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = error.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].contains(say),
            "{options:?}: {error}"
        );
    }
    let output = command(&["--frobnicate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
