//! Entries, files and answers in, listings out.

use super::*;

fn book(typed: &str) -> Book {
    Book::new(typed.split(',').map(|t| parse(t).unwrap()).collect())
}

fn read(book: &mut Book, contents: &str) {
    book.read(Path::new("r"), Ok(contents.as_bytes()));
}

fn resolve(book: &mut Book, name: &str, addresses: &[&str]) {
    let Ok(Entry::Dns(name)) = parse(name) else {
        panic!("{name}")
    };
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    book.resolved(&name, Ok(addresses));
}

fn uris(book: &Book) -> Vec<String> {
    let targets = book.listing().targets;
    targets.iter().map(|t| t.uri.to_string()).collect()
}

fn troubles(book: &Book) -> Vec<String> {
    let troubles = book.listing().troubles;
    troubles
        .iter()
        .map(|t| format!("{} {}", t.entry, t.reason))
        .collect()
}

#[test]
fn entries_keep_their_order_and_duplicates_are_named() {
    let book = book("http://b:1,http://a:1,HTTP://B:1/,https://b:1");
    assert_eq!(uris(&book), ["http://b:1", "http://a:1", "https://b:1"]);
    assert_eq!(
        troubles(&book),
        ["http://b:1 is listed already, by http://b:1"]
    );
}

#[test]
fn a_name_is_all_its_addresses_in_order() {
    let mut book = book("dns+https://gpus:7,https://10.0.0.2:7");
    assert_eq!(uris(&book), ["https://10.0.0.2:7"]);
    resolve(
        &mut book,
        "dns+https://gpus:7",
        &["10.0.0.3", "10.0.0.1", "10.0.0.3", "::5"],
    );
    let targets = book.listing().targets;
    assert_eq!(
        uris(&book),
        [
            "https://10.0.0.1:7",
            "https://10.0.0.3:7",
            "https://10.0.0.2:7"
        ]
    );
    let names: Vec<_> = targets.iter().map(|t| t.server_name.as_deref()).collect();
    assert_eq!(names, [Some("gpus"), Some("gpus"), None]);
    assert!(troubles(&book).is_empty());

    resolve(&mut book, "dns+https://gpus:7", &["::2", "::1"]);
    assert_eq!(
        uris(&book),
        ["https://[::1]:7", "https://[::2]:7", "https://10.0.0.2:7"]
    );
}

#[test]
fn a_name_that_is_an_address_needs_no_other_server_name() {
    let mut book = book("dns+https://[::1]:7");
    resolve(&mut book, "dns+https://[::1]:7", &["::1"]);
    assert_eq!(book.listing().targets[0].server_name, None);
}

#[test]
fn a_failed_lookup_keeps_the_last_answer() {
    let mut book = book("dns+http://gpus:7");
    let Entry::Dns(name) = parse("dns+http://gpus:7").unwrap() else {
        panic!()
    };
    book.resolved(&name, Err("no such name".to_owned()));
    assert_eq!(
        troubles(&book),
        ["dns+http://gpus:7 cannot be resolved: no such name"]
    );
    resolve(&mut book, "dns+http://gpus:7", &["10.0.0.1", "10.0.0.2"]);
    assert!(troubles(&book).is_empty());
    for answer in [Err("no such name".to_owned()), Ok(vec![])] {
        book.resolved(&name, answer);
        assert_eq!(uris(&book), ["http://10.0.0.1:7", "http://10.0.0.2:7"]);
        assert!(troubles(&book)[0].ends_with("its last answer, of 2 addresses, stays in force"));
    }
    resolve(&mut book, "dns+http://gpus:7", &["10.0.0.2"]);
    assert_eq!(uris(&book), ["http://10.0.0.2:7"]);
    assert!(troubles(&book).is_empty());
}

#[test]
fn addresses_of_two_names_are_listed_once() {
    let mut book = book("dns+http://a:7,dns+http://b:7,dns+http://a:7");
    resolve(&mut book, "dns+http://a:7", &["10.0.0.1", "10.0.0.2"]);
    resolve(&mut book, "dns+http://b:7", &["10.0.0.2", "10.0.0.3"]);
    assert_eq!(
        uris(&book),
        [
            "http://10.0.0.1:7",
            "http://10.0.0.2:7",
            "http://10.0.0.3:7"
        ]
    );
    let expected = [
        "dns+http://b:7 1 of its 2 addresses are listed already, by dns+http://a:7",
        "dns+http://a:7 is listed already",
    ];
    assert_eq!(troubles(&book), expected);
}

#[test]
fn a_file_is_its_lines() {
    let mut book = book("http://z:1,file:r,http://y:1,file:r");
    assert_eq!(book.files(), [PathBuf::from("r")]);
    read(
        &mut book,
        "\u{feff}# ours\r\n\r\n http://b:1 # old\r\nhttp://a:1\ndns+http://gpus:7",
    );
    assert_eq!(
        uris(&book),
        ["http://z:1", "http://b:1", "http://a:1", "http://y:1"]
    );
    assert_eq!(troubles(&book), ["file:r is listed already"]);
    assert_eq!(book.names().len(), 1);
    resolve(&mut book, "dns+http://gpus:7", &["10.0.0.1"]);
    assert_eq!(uris(&book)[3], "http://10.0.0.1:7");

    read(&mut book, "http://a:1");
    assert_eq!(uris(&book), ["http://z:1", "http://a:1", "http://y:1"]);
    assert!(book.names().is_empty());
}

#[test]
fn malformed_lines_are_named_and_the_others_hold() {
    let mut book = book("file:r");
    let contents = b"http://a:1\ngpu-1\nfile:other\n\xff\xfe\nhttp://b:1\n";
    book.read(Path::new("r"), Ok(contents));
    assert_eq!(uris(&book), ["http://a:1", "http://b:1"]);
    let troubles = troubles(&book);
    assert_eq!(troubles.len(), 3, "{troubles:?}");
    assert!(troubles[0].starts_with("file:r line 2 `gpu-1` must look like"));
    assert!(troubles[1].starts_with("file:r line 3 `file:other` is a file in a file"));
    assert!(troubles[2].starts_with("file:r line 4 "));
}

#[test]
fn a_file_that_is_gone_or_empty_keeps_what_it_said() {
    let mut book = book("file:r");
    book.read(
        Path::new("r"),
        Err("cannot be read: no such file".to_owned()),
    );
    assert_eq!(troubles(&book), ["file:r cannot be read: no such file"]);
    read(&mut book, "http://a:1\nhttp://b:1");
    assert!(troubles(&book).is_empty());
    for contents in [
        Err("cannot be read: gone".to_owned()),
        Ok(&b""[..]),
        Ok(b"# none\ngpu\n"),
    ] {
        book.read(Path::new("r"), contents);
        assert_eq!(uris(&book), ["http://a:1", "http://b:1"]);
        assert!(troubles(&book)[0].ends_with("the 2 entries read before stay in force"));
    }
    read(&mut book, "http://b:1");
    assert_eq!(uris(&book), ["http://b:1"]);
    assert!(troubles(&book).is_empty());
}

#[test]
fn everything_has_a_bound() {
    let mut book = book("file:r");
    let many: String = (0..MAX_REPLICAS + 9)
        .map(|n| format!("http://r{n}:1\n"))
        .collect();
    read(&mut book, &many);
    let listing = book.listing();
    assert_eq!(listing.targets.len(), MAX_REPLICAS);
    assert!(
        listing.troubles[0].reason.contains("are left out"),
        "{:?}",
        listing.troubles
    );

    read(
        &mut book,
        &format!("http://a:1\n{}", "nonsense\n".repeat(MAX_TROUBLES * 3)),
    );
    assert_eq!(book.listing().troubles.len(), MAX_TROUBLES + 1);

    let many: String = (0..MAX_NAMES + 2)
        .map(|n| format!("dns+http://r{n}:1\n"))
        .collect();
    read(&mut book, &many);
    assert_eq!(book.names().len(), MAX_NAMES);
    let last = troubles(&book).pop().unwrap();
    assert!(last.contains("is left out: more than"), "{last}");
}

#[test]
fn a_long_line_is_shortened() {
    let line = "ä".repeat(1 << 16);
    let (_, malformed) = lines(Path::new("r"), line.as_bytes());
    assert!(malformed[0].reason.len() < 400);
}
