//! Real files, a scripted name server, a paused clock.

use std::{collections::HashMap, io, net::IpAddr, path::Path, sync::Mutex};

use super::*;

/// A name server whose answers are set by the test. Without one it is silent.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<HashMap<String, Answer>>>);

type Answer = Result<Vec<IpAddr>, String>;

impl Script {
    fn set(&self, name: &str, answer: Result<&[&str], &str>) {
        let answer = answer
            .map(|addresses| addresses.iter().map(|a| a.parse().unwrap()).collect())
            .map_err(str::to_owned);
        self.0.lock().unwrap().insert(name.to_owned(), answer);
    }
}

impl Resolve for Script {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<IpAddr>> {
        let answer = self.0.lock().unwrap().get(host).cloned();
        match answer {
            Some(answer) => answer.map_err(io::Error::other),
            None => std::future::pending().await,
        }
    }
}

async fn start(typed: &str, script: &Script) -> Discovery {
    Discovery::start_with(Sources::parse("endpoint", [typed]).unwrap(), script.clone()).await
}

/// The next listing, at most so many seconds later; the clock is paused, so none pass.
async fn next(listing: &mut watch::Receiver<Arc<Listing>>, seconds: u64) -> Arc<Listing> {
    let changed = timeout(Duration::from_secs(seconds), listing.changed());
    changed.await.expect("a change in time").unwrap();
    listing.borrow_and_update().clone()
}

fn uris(listing: &Listing) -> Vec<&str> {
    listing.targets.iter().map(|t| &*t.uri).collect()
}

/// As a ConfigMap is updated, and as editors save.
fn replace(path: &Path, contents: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, contents).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn what_is_typed_is_checked_at_once() {
    let refused = |typed: &str| Sources::parse("endpoint", [typed]).unwrap_err().to_string();
    assert!(refused("http://a:1, gpu-2").contains("`endpoint` `gpu-2` must look like"));
    assert!(refused(" ,").contains("`endpoint` names no replica"));
    let sources = Sources::parse("endpoint", ["http://a:1,", "http://b:1 , file:r"]).unwrap();
    assert_eq!(sources.0.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replicas");
    std::fs::write(&path, "http://a:1\n").unwrap();
    let discovery = start(&format!("file:{}", path.display()), &Script::default()).await;
    let mut listing = discovery.listing();
    assert_eq!(uris(&listing.borrow_and_update()), ["http://a:1"]);

    replace(&path, "http://a:1\nhttp://b:1\n");
    assert_eq!(
        uris(&*next(&mut listing, 2).await),
        ["http://a:1", "http://b:1"]
    );

    std::fs::remove_file(&path).unwrap();
    let gone = next(&mut listing, 2).await;
    assert_eq!(uris(&gone), ["http://a:1", "http://b:1"]);
    assert!(
        gone.troubles[0].reason.contains("cannot be read"),
        "{gone:?}"
    );

    replace(&path, "http://b:1\n");
    let back = next(&mut listing, 2).await;
    assert_eq!(uris(&back), ["http://b:1"]);
    assert!(back.troubles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replicas");
    let discovery = start(&format!("file:{}", path.display()), &Script::default()).await;
    let mut listing = discovery.listing();
    assert!(
        listing.borrow_and_update().troubles[0]
            .reason
            .contains("cannot be read")
    );
    std::fs::write(&path, "http://a:1\n").unwrap();
    let before = Instant::now();
    discovery.reload();
    assert_eq!(uris(&*next(&mut listing, 2).await), ["http://a:1"]);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_changes_twice_within_a_moment_is_taken_when_it_rests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replicas");
    std::fs::write(&path, "http://a:1\nhttp://b:1\n").unwrap();
    let seen = HashMap::new();
    let files = vec![path.clone()];
    let first = look(files.clone(), seen, false).await;
    let seen: HashMap<_, _> = first.into_iter().collect();
    std::fs::write(&path, "http://a:1\nhttp://b").unwrap();
    let half = look(files.clone(), seen.clone(), true);
    let rest = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::fs::write(&path, "http://a:1\nhttp://b:2\n").unwrap();
    };
    let (half, ()) = tokio::join!(half, rest);
    assert_eq!(half, []);
    let whole = look(files, seen, true).await;
    assert_eq!(whole[0].1.as_deref().unwrap(), b"http://a:1\nhttp://b:2\n");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_followed() {
    let script = Script::default();
    script.set("gpus", Ok(&["10.0.0.1"]));
    let discovery = start("dns+https://gpus:7", &script).await;
    let mut listing = discovery.listing();
    assert_eq!(uris(&listing.borrow_and_update()), ["https://10.0.0.1:7"]);

    script.set("gpus", Ok(&["10.0.0.2", "10.0.0.1"]));
    let more = next(&mut listing, 6).await;
    assert_eq!(uris(&more), ["https://10.0.0.1:7", "https://10.0.0.2:7"]);
    assert_eq!(more.targets[0].server_name.as_deref(), Some("gpus"));

    script.set("gpus", Err("no such name"));
    let failed = next(&mut listing, 6).await;
    assert_eq!(failed.targets, more.targets);
    assert!(failed.troubles[0].reason.contains("no such name"));

    script.set("gpus", Ok(&["10.0.0.2"]));
    discovery.reload();
    let fewer = next(&mut listing, 1).await;
    assert_eq!(uris(&fewer), ["https://10.0.0.2:7"]);
    assert!(fewer.troubles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_stops_nobody() {
    let script = Script::default();
    let before = Instant::now();
    let discovery = start("dns+http://gpus:7,http://a:1", &script).await;
    assert_eq!(before.elapsed(), FIRST_ANSWERS);
    let mut listing = discovery.listing();
    assert_eq!(uris(&listing.borrow_and_update()), ["http://a:1"]);
    let silent = next(&mut listing, 6).await;
    assert!(
        silent.troubles[0].reason.contains("no name server answers"),
        "{silent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn names_in_files_are_resolved_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replicas");
    std::fs::write(&path, "dns+http://gpus:7\n").unwrap();
    let script = Script::default();
    script.set("gpus", Ok(&["10.0.0.1"]));
    script.set("more", Ok(&["10.0.1.1"]));
    let discovery = start(&format!("file:{}", path.display()), &script).await;
    let mut listing = discovery.listing();
    assert_eq!(uris(&listing.borrow_and_update()), ["http://10.0.0.1:7"]);
    replace(&path, "dns+http://more:7\ndns+http://gpus:7\n");
    loop {
        if uris(&*next(&mut listing, 2).await) == ["http://10.0.1.1:7", "http://10.0.0.1:7"] {
            break;
        }
    }
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let sources = Sources::parse("endpoint", ["dns+http://localhost:7"]).unwrap();
    let discovery = Discovery::start(sources).await;
    let listing = discovery.listing().borrow().clone();
    let loopback = ["http://127.0.0.1:7", "http://[::1]:7"];
    assert!(
        listing.targets.iter().all(|t| loopback.contains(&&*t.uri)),
        "{listing:?}"
    );
    assert!(!listing.targets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_last_receiver() {
    let discovery = start("http://a:1", &Script::default()).await;
    let listing = discovery.listing();
    let handle = Arc::downgrade(&discovery.reload);
    drop(discovery);
    tokio::task::yield_now().await;
    assert_eq!(handle.strong_count(), 1);
    drop(listing);
    while handle.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}
