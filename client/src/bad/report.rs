//! The file of bad samples: one line of JSON each, written as they are met.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Lines that a report may have, those of earlier runs included: enough for a person, and some ten
/// megabytes. Further bad samples are only counted.
pub const MAX_REPORTED: usize = 100_000;
/// Bytes of an older report that are read, to know who is in it.
const MAX_READ: u64 = 256 << 20;
/// Characters of a reason: the words of a decoder, not a dump.
const MAX_REASON: usize = 500;

/// One bad sample.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    /// Its index in the dataset.
    pub(crate) id: u64,
    pub(crate) key: &'a str,
    /// The source that it is from, in a mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<&'a str>,
    /// The object that it is in, where samples share some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shard: Option<&'a str>,
    pub(crate) reason: &'a str,
    /// Where it was first met.
    pub(crate) epoch: u64,
    pub(crate) step: u64,
}

/// What of an older line tells whether a sample is in the report already.
#[derive(Deserialize)]
struct Written {
    id: u64,
    key: String,
}

/// A report that is open. Never an error: it must not end a run that could go on.
#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    written: BTreeSet<(u64, String)>,
    /// The last line was cut off by the end of whoever wrote it.
    torn: bool,
    /// Whether the log has been told.
    told: bool,
}

impl Report {
    /// Goes on with the file at `path`, or makes it.
    pub(crate) fn open(path: &Path) -> Self {
        let mut state = State::default();
        if let Ok(old) = File::open(path) {
            state.read(old);
        }
        match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => state.file = Some(file),
            Err(error) => state.complain(path, &error.to_string()),
        }
        Self {
            path: path.to_owned(),
            state: Mutex::new(state),
        }
    }

    /// Writes a sample down, unless it is there.
    pub(crate) fn add(&self, entry: &Entry<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written.len() >= MAX_REPORTED {
            state.complain(
                &self.path,
                &format!("has {MAX_REPORTED} lines, and gets no more"),
            );
            return;
        }
        if !state.written.insert((entry.id, entry.key.to_owned())) {
            return;
        }
        let reason: String = entry.reason.chars().take(MAX_REASON).collect();
        let short = Entry {
            reason: &reason,
            ..*entry
        };
        let Ok(mut line) = serde_json::to_string(&short) else {
            return;
        };
        line.push('\n');
        if std::mem::take(&mut state.torn) {
            line.insert(0, '\n');
        }
        // One write a line: several ranks may append to one file.
        let result = match &mut state.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => return,
        };
        if let Err(error) = result {
            state.torn = true;
            state.complain(&self.path, &error.to_string());
        }
    }
}

impl State {
    fn read(&mut self, old: File) {
        let mut lines = BufReader::new(old.take(MAX_READ));
        let mut line = Vec::new();
        while self.written.len() < MAX_REPORTED {
            line.clear();
            if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                break;
            }
            self.torn = line.last() != Some(&b'\n');
            if let Ok(Written { id, key }) = serde_json::from_slice(&line) {
                self.written.insert((id, key));
            }
        }
    }

    fn complain(&mut self, path: &Path, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(path = %path.display(), why, "bad samples are not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(id: u64, key: &str) -> Entry<'_> {
        Entry {
            id,
            key,
            source: None,
            shard: None,
            reason: "is empty",
            epoch: 1,
            step: 2,
        }
    }

    #[test]
    fn each_sample_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.jsonl");
        let report = Report::open(&path);
        report.add(&entry(3, "a \"b\".png"));
        report.add(&entry(3, "a \"b\".png"));
        let line = r#"{"id":3,"key":"a \"b\".png","reason":"is empty","epoch":1,"step":2}"#;
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{line}\n"));
        // A later run goes on, also where the last one was killed in the middle of a line.
        fs::write(&path, format!("{line}\n{{\"id\":4,")).unwrap();
        let report = Report::open(&path);
        report.add(&entry(3, "a \"b\".png"));
        report.add(&entry(4, &"x".repeat(3)));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[2].starts_with(r#"{"id":4,"key":"xxx""#), "{text}");
    }

    #[test]
    fn what_cannot_be_written_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report::open(&dir.path().join("missing/bad.jsonl"));
        report.add(&entry(1, "a"));
        Report::open(dir.path()).add(&entry(1, "a"));
    }

    #[test]
    fn a_report_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.jsonl");
        let report = Report::open(&path);
        let long = "é".repeat(10 * MAX_REASON);
        for id in 0..MAX_REPORTED as u64 + 5 {
            report.add(&Entry {
                reason: if id == 0 { &long } else { "" },
                ..entry(id, "k")
            });
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), MAX_REPORTED);
        assert!(text.lines().next().unwrap().len() < 3 * MAX_REASON);
        Report::open(&path).add(&entry(u64::MAX, "k"));
        assert_eq!(fs::read_to_string(&path).unwrap().len(), text.len());
    }
}
