use std::{fs, path::PathBuf, sync::OnceLock};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{columns::Columns, journal::Journal, *};
use crate::dataset::sample::{Found, Part};

const FORMAT: &str = "test";

struct Place {
    _dir: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = TempDir::new().unwrap();
    Place {
        path: dir.path().join("index"),
        _dir: dir,
    }
}

fn shard(path: &str) -> Shard {
    Shard {
        path: path.into(),
        bytes: 1000,
        etag: Some(format!("tag of {path}")),
        modified_ms: 5,
    }
}

fn found(key: &str, size: Result<Size, &str>, parts: &[(&str, u64)]) -> Found {
    let part = |&(name, at): &(&str, u64)| Part {
        name: name.into(),
        span: Span { at, bytes: 7 },
    };
    Found {
        key: key.into(),
        image: Span {
            at: 512,
            bytes: 100,
        },
        size: size.map_err(str::to_owned),
        parts: parts.iter().map(part).collect(),
        clip: Vec::new(),
    }
}

/// Three shards, one of them empty, one with a bad sample, two with parts in different orders.
fn shards() -> Vec<(Shard, Vec<Found>)> {
    let size = Ok(Size::new(640, 480));
    vec![
        (
            shard("b.tar"),
            vec![
                found("b1", size, &[("txt", 1), ("json", 2)]),
                found("schön", Err("is empty"), &[]),
                found("b3", Ok(Size::new(32_768, 1)), &[("json", 3)]),
            ],
        ),
        (
            shard("a.tar"),
            vec![found("a1", size, &[]), found("a2", size, &[])],
        ),
        (shard("aa.tar"), vec![]),
        (
            shard("c.tar"),
            vec![found("c1", size, &[("json", 4), ("txt", 5)])],
        ),
    ]
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(future)
}

fn begin(place: &Place) -> Builder {
    block(Builder::begin(&place.path, FORMAT)).unwrap()
}

fn build(place: &Place, shards: &[(Shard, Vec<Found>)]) -> Result<Index, Error> {
    let mut builder = begin(place);
    for (shard, found) in shards {
        if !builder.knows(shard) {
            builder.add(shard, found)?;
        }
    }
    builder.finish(shards.iter().map(|(shard, _)| shard.clone()).collect())
}

/// Looks up everything that an index has, whatever it is worth.
fn look(index: &Index) -> usize {
    let mut seen = index.bad().map(|(_, reason)| reason.len()).sum::<usize>();
    // Beyond the end as well: no header says what a caller asks for.
    for id in 0..index.len().min(50) + 3 {
        seen += index.key(id).len() + index.bytes(id) as usize;
        seen += index.size(id).map_or(0, |size| size.width as usize);
        seen += index.entry(id).map_or(0, |entry| entry.parts.len());
    }
    seen + usize::from(index.verify().is_ok())
}

#[test]
fn everything_comes_back() {
    let place = place();
    let index = build(&place, &shards()).unwrap();
    assert_eq!(index.verify(), Ok(()));
    assert_eq!((index.len(), index.format()), (6, FORMAT));
    let paths: Vec<_> = index.shards().iter().map(|shard| &shard.path).collect();
    assert_eq!(paths, ["a.tar", "aa.tar", "b.tar", "c.tar"]);
    assert_eq!(index.shard_starts(), [0, 2, 2, 5]);
    let keys: Vec<_> = (0..6).map(|id| index.key(id)).collect();
    assert_eq!(keys, ["a1", "a2", "b1", "schön", "b3", "c1"]);
    let of: Vec<_> = (0..7).map(|id| index.shard_of(id)).collect();
    assert_eq!(
        of,
        [Some(0), Some(0), Some(2), Some(2), Some(2), Some(3), None]
    );
    assert_eq!(index.size(4), Some(Size::new(32_768, 1)));
    assert_eq!(index.size(3), None);
    assert_eq!(index.bad().collect::<Vec<_>>(), [(3, "is empty")]);
    assert_eq!(index.bytes(2), 114);
    let entry = index.entry(5).unwrap();
    assert_eq!((entry.shard, entry.key), (&shard("c.tar"), "c1"));
    assert_eq!(
        entry.image,
        Span {
            at: 512,
            bytes: 100
        }
    );
    let parts: Vec<_> = entry
        .parts
        .iter()
        .map(|(name, span)| (&**name, span.at))
        .collect();
    assert_eq!(parts, [("json", 4), ("txt", 5)]);
    // Every shard as it was handed in, but for the numbers of the names.
    for (at, (before, samples)) in [(2, &shards()[0]), (0, &shards()[1]), (1, &shards()[2])] {
        let (columns, packed) = (index.columns(at), Columns::pack(samples).unwrap());
        assert_eq!(index.shards()[at], *before);
        assert_eq!(
            (columns.samples, &columns.bad),
            (packed.samples, &packed.bad)
        );
        assert!((0..packed.samples).all(|id| columns.key(id) == packed.key(id)));
    }
}

#[test]
fn the_fingerprint_is_of_the_content() {
    let print =
        |shards: &[(Shard, Vec<Found>)]| build(&place(), shards).unwrap().fingerprint().to_owned();
    let before = print(&shards());
    let mut same = shards();
    same.reverse();
    for (shard, found) in &mut same {
        (shard.etag, shard.modified_ms, shard.bytes) = (None, 9, 5);
        found.iter_mut().for_each(|sample| sample.image.at += 1);
    }
    assert_eq!(
        print(&same),
        before,
        "where, when and in which order does not matter"
    );
    let changes: [fn(&mut Found); 5] = [
        |sample| sample.key.push('x'),
        |sample| sample.image.bytes += 1,
        |sample| sample.size = Ok(Size::new(480, 640)),
        |sample| sample.parts[0].name = "cls".into(),
        |sample| sample.parts[0].span.bytes += 1,
    ];
    for change in changes {
        let mut other = shards();
        change(&mut other[0].1[0]);
        assert_ne!(print(&other), before);
    }
}

#[test]
fn a_build_that_was_cut_off_goes_on() {
    let place = place();
    let all = shards();
    let mut builder = begin(&place);
    builder.add(&all[0].0, &all[0].1).unwrap();
    builder.add(&all[1].0, &all[1].1).unwrap();
    drop(builder);
    // The last record is half written.
    let journal = place.path.with_extension("journal");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 3]).unwrap();

    let mut builder = begin(&place);
    let known: Vec<_> = all.iter().map(|(shard, _)| builder.knows(shard)).collect();
    assert_eq!(known, [true, false, false, false]);
    let touched = Shard {
        etag: Some("another".into()),
        ..all[0].0.clone()
    };
    assert!(!builder.knows(&touched));
    for (shard, found) in &all[1..] {
        builder.add(shard, found).unwrap();
    }
    let index = builder.finish(all.iter().map(|(shard, _)| shard.clone()).collect());
    let fresh = build(&self::place(), &all).unwrap();
    assert_eq!(index.unwrap().fingerprint(), fresh.fingerprint());
    assert!(!journal.exists());
}

#[test]
fn the_journal_of_something_else_is_not_taken_up() {
    let place = place();
    let path = place.path.with_extension("journal");
    let columns = Columns::pack(&shards()[0].1).unwrap();
    let mut journal = Journal::open(&path, &[1; 32]).unwrap();
    journal.append(&shard("b.tar"), &columns).unwrap();
    let mut journal = Journal::open(&path, &[1; 32]).unwrap();
    let record = journal.find(&shard("b.tar")).unwrap().clone();
    assert_eq!(journal.read(&record).unwrap(), columns);
    assert!(
        Journal::open(&path, &[2; 32])
            .unwrap()
            .find(&shard("b.tar"))
            .is_none()
    );
    assert!(
        Journal::open(&path, &[1; 32])
            .unwrap()
            .find(&shard("b.tar"))
            .is_none()
    );
}

#[test]
fn shards_are_taken_over_from_the_index_before() {
    let place = place();
    build(&place, &shards()).unwrap();
    let mut all = shards();
    all[1].0.etag = Some("new".into());
    all[1]
        .1
        .push(found("a3", Ok(Size::new(9, 9)), &[("webm", 1)]));
    let mut builder = begin(&place);
    let known: Vec<_> = all.iter().map(|(shard, _)| builder.knows(shard)).collect();
    assert_eq!(known, [true, false, true, true]);
    builder.add(&all[1].0, &all[1].1).unwrap();
    let index = builder.finish(all.iter().map(|(shard, _)| shard.clone()).collect());
    let index = index.unwrap();
    assert_eq!(index.verify(), Ok(()));
    assert_eq!(
        index.fingerprint(),
        build(&self::place(), &all).unwrap().fingerprint()
    );
    assert_eq!(index.bad().collect::<Vec<_>>(), [(4, "is empty")]);
    assert_eq!(&*index.parts(6).unwrap()[1].0, "txt");
}

#[test]
fn a_key_that_occurs_twice_is_named_with_both_shards() {
    let place = place();
    let mut all = shards();
    all[3].1.push(found("a2", Ok(Size::new(1, 1)), &[]));
    let error = build(&place, &all).unwrap_err().to_string();
    assert!(
        error.contains("`c.tar`: has a sample called `a2`, and so has `a.tar`"),
        "{error}"
    );
    assert!(!place.path.exists());
    let mut all = shards();
    all[0].1.push(found("b1", Ok(Size::new(1, 1)), &[]));
    let error = build(&self::place(), &all).unwrap_err().to_string();
    assert!(
        error.contains("`b.tar`: has two samples called `b1`"),
        "{error}"
    );
}

#[test]
fn what_is_no_index_is_refused_in_words() {
    let place = place();
    let text = |bytes: &[u8]| {
        fs::write(&place.path, bytes).unwrap();
        Index::open(&place.path).unwrap_err().to_string()
    };
    assert!(text(b"").contains("is not an index"));
    assert!(text(&[7; 500]).contains("is not an index"));
    let whole = {
        let place = self::place();
        build(&place, &shards()).unwrap();
        fs::read(&place.path).unwrap()
    };
    let mut newer = whole.clone();
    newer[8] += 1;
    assert!(text(&newer).contains("has version 3, this release reads 2: delete and rebuild it"));
    for cut in 8..whole.len() {
        let error = text(&whole[..cut]);
        assert!(
            error.contains("is damaged (it is cut off): delete and rebuild it"),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_is_found_or_does_no_harm(at: proptest::sample::Index, bits in 1_u8.., run in 1_usize..40) {
        // Built once: every case damages a copy.
        static WHOLE: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
        let (whole, shown) = WHOLE.get_or_init(|| {
            let place = place();
            let index = build(&place, &shards()).unwrap();
            (fs::read(&place.path).unwrap(), look(&index))
        });
        let place = place();
        let mut bytes = whole.clone();
        let at = at.index(bytes.len());
        let end = (at + run).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= bits);
        fs::write(&place.path, bytes).unwrap();
        if let Ok(index) = Index::open(&place.path) {
            let seen = look(&index);
            // Between sections nothing is stored.
            prop_assert!(index.verify().is_err() || seen == *shown);
        }
    }
}
