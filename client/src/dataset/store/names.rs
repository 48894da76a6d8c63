//! Which objects make up a dataset: all below a place, a pattern's, or a list's.

use std::{fs::Metadata, path::Path, time::UNIX_EPOCH};

use walkdir::{DirEntry, WalkDir};

use crate::dataset::sample::Shard;

/// Names that a pattern in braces may stand for: more shards than any dataset has.
const MAX_NAMES: usize = 1_000_000;

/// Which objects below the store's prefix are the dataset.
#[derive(Debug)]
pub(super) enum Names {
    /// All.
    All,
    /// Those that match a name with `*`: what is before, between and after the stars.
    Matching(Vec<String>),
    /// These, which need no listing.
    Listed(Vec<String>),
}

impl Names {
    /// Of the last part of a URI, if it is a pattern or one shard.
    pub(super) fn parse(last: &str) -> Result<Option<Self>, String> {
        if last.contains('{') {
            return expand(last).map(|names| Some(Self::Listed(names)));
        }
        if last.contains('*') {
            let parts = last.split('*').map(str::to_owned).collect();
            return Ok(Some(Self::Matching(parts)));
        }
        let shard = [".tar", ".parquet"].iter().any(|end| last.ends_with(end));
        Ok(shard.then(|| Self::Listed(vec![last.to_owned()])))
    }

    /// Whether a listed object belongs to the dataset.
    pub(super) fn take(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(parts) => matches(parts, path),
            Self::Listed(names) => names.iter().any(|name| name == path),
        }
    }
}

/// A star stands for anything but a slash.
fn matches(parts: &[String], path: &str) -> bool {
    let [first, rest @ ..] = parts else {
        return false;
    };
    let Some(mut left) = path.strip_prefix(first.as_str()) else {
        return false;
    };
    for (at, part) in rest.iter().enumerate() {
        let found = if at + 1 == rest.len() {
            left.len().checked_sub(part.len())
        } else {
            left.find(part.as_str())
        };
        let Some(found) = found.filter(|&found| left[found..].starts_with(part.as_str())) else {
            return false;
        };
        if left[..found].contains('/') {
            return false;
        }
        left = &left[found + part.len()..];
    }
    left.is_empty()
}

/// `{000..099}.tar`, `{a,b}-{0..3}.tar`: every name that a pattern in braces stands for.
///
/// # Errors
/// In words, if the braces make no sense or stand for too many names.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let close = pattern[open..].find('}').map(|at| open + at);
    let close = close.ok_or_else(|| format!("`{pattern}` opens a brace and never closes it"))?;
    let (before, inside, after) = (
        &pattern[..open],
        &pattern[open + 1..close],
        &pattern[close + 1..],
    );
    let rest = expand(after)?;
    let choices = match inside.split_once("..") {
        Some((first, last)) => counted(first, last),
        None if inside.contains(',') => Some(inside.split(',').map(str::to_owned).collect()),
        None => None,
    };
    let choices = choices.ok_or_else(|| {
        format!("`{{{inside}}}` is neither a range such as {{000..099}} nor a list such as {{a,b}}")
    })?;
    let count = choices.len().saturating_mul(rest.len());
    if count > MAX_NAMES {
        return Err(format!(
            "`{pattern}` stands for {count} names, over {MAX_NAMES}"
        ));
    }
    let names = choices.iter().flat_map(|choice| {
        let rest = rest.iter();
        rest.map(move |rest| format!("{before}{choice}{rest}"))
    });
    Ok(names.collect())
}

/// As a shell counts: leading zeros are a width.
fn counted(first: &str, last: &str) -> Option<Vec<String>> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (from, to): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let padded = [first, last]
        .iter()
        .any(|text| text.len() > 1 && text.starts_with('0'));
    let width = if padded {
        first.len().max(last.len())
    } else {
        0
    };
    if !digits(first) || !digits(last) || to < from || to - from >= MAX_NAMES {
        return None;
    }
    Some((from..=to).map(|at| format!("{at:0width$}")).collect())
}

/// All files below a local folder, links followed.
pub(super) fn walk(root: &Path, below: &Path, depth: usize) -> Result<Vec<Shard>, String> {
    let mut found = Vec::new();
    let walk = WalkDir::new(below).follow_links(true).max_depth(depth);
    for entry in walk.into_iter().filter_entry(|entry| !hidden(entry)) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).display().to_string();
            format!("cannot list `{path}`: {error}")
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let shown = path.display();
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Option<Vec<_>> = relative.iter().map(|part| part.to_str()).collect();
        let parts = parts
            .ok_or_else(|| format!("the name of `{shown}` is not UTF-8: rename or remove it"))?;
        let meta = entry
            .metadata()
            .map_err(|error| format!("`{shown}`: {error}"))?;
        found.push(Shard {
            path: parts.join("/"),
            bytes: meta.len(),
            etag: None,
            modified_ms: modified_ms(&meta),
        });
    }
    Ok(found)
}

/// What tools leave behind: `.cache`, `.git`, `._photo.jpg`.
pub(super) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.'))
}

/// As [`is_hidden`], before a directory is entered.
fn hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// When a file was last written, in ms since 1970; 0 if its file system does not say.
pub(super) fn modified_ms(meta: &Metadata) -> i64 {
    let modified = meta.modified().ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0))
}

/// An object's content for messages.
pub(super) fn version(object: &Shard) -> String {
    let Shard {
        bytes,
        etag,
        modified_ms,
        ..
    } = object;
    match etag {
        Some(etag) => format!("{bytes} bytes, etag {etag}"),
        None => format!("{bytes} bytes, written at {modified_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, expand};

    #[test]
    fn braces_count_as_in_a_shell() {
        let names = expand("a/{008..011}.tar").unwrap();
        assert_eq!(names, ["a/008.tar", "a/009.tar", "a/010.tar", "a/011.tar"]);
        let names = expand("{x,y}-{9..10}.tar").unwrap();
        assert_eq!(names, ["x-9.tar", "x-10.tar", "y-9.tar", "y-10.tar"]);
        for wrong in ["{0..", "{}", "{b..a}", "{3..1}", "{0..99999999}", "{a}"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
        let many = expand("{0..9999}{0..9999}").unwrap_err();
        assert!(many.contains("stands for 100000000 names"), "{many}");
    }

    #[test]
    fn stars_stay_in_their_directory() {
        let names = Names::parse("train-*-of-*.parquet").unwrap().unwrap();
        assert!(names.take("train-00000-of-00002.parquet"));
        assert!(names.take("train--of-.parquet"));
        for other in [
            "test-00000-of-00002.parquet",
            "train-00000.parquet",
            "train-0-of-1.parquet.tmp",
            "train-a/b-of-1.parquet",
        ] {
            assert!(!names.take(other), "{other}");
        }
        assert!(Names::parse("photos").unwrap().is_none());
    }
}
