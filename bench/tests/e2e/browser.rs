//! A page as a browser shows it. Where no Chromium is installed, a plain GET has to do, and says so:
//! the words of a page without scripts are the same, but nobody has parsed its HTML.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Names of Chromium where it is installed.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The start of a browser on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The document at `http://host:port/path`, after a browser has read it.
pub(crate) fn dom(url: &str) -> String {
    let Some(program) = installed() else {
        eprintln!("NO BROWSER: none of {PROGRAMS:?} is in PATH; {url} is only fetched, not shown");
        return get(url);
    };
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(&program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-extensions",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut dom = String::new();
        let read = stdout.read_to_string(&mut dom);
        // Nobody waits any more where this fails.
        let _ = sender.send(read.map(|_| dom));
    });
    let dom = receiver.recv_timeout(PATIENCE);
    if dom.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let program = program.display();
    let dom = dom.unwrap_or_else(|_| panic!("{program} did not show {url} within {PATIENCE:?}"));
    assert!(status.success(), "{program} could not show {url}: {status}");
    dom.unwrap()
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let places = PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// The body that one GET returns.
fn get(url: &str) -> String {
    let rest = url.strip_prefix("http://").expect("http://");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{url}: {head}");
    body.to_owned()
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead, net::TcpListener};

    use super::*;

    /// Without an end tag: only a browser puts it there.
    const PAGE: &str = "<!DOCTYPE html><title>x</title><p id=one>seen";

    /// A site of one page; its address.
    fn site() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let reader = std::io::BufReader::new(&stream);
                let head = reader.lines().map_while(Result::ok);
                head.take_while(|line| !line.is_empty()).for_each(drop);
                let length = PAGE.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\
                     connection: close\r\n\r\n{PAGE}"
                );
                // A browser may hang up on a connection that it made ahead.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        format!("http://{address}/")
    }

    #[test]
    fn a_page_is_read_as_a_browser_reads_it() {
        let dom = dom(&site());
        assert!(dom.contains("seen"), "{dom}");
        if installed().is_some() {
            assert!(dom.contains("<p id=\"one\">seen</p>"), "{dom}");
        }
    }

    #[test]
    fn without_a_browser_it_is_fetched() {
        assert_eq!(get(&site()), PAGE);
    }
}
