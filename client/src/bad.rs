//! Bad samples of a run: how many are too many, and the file that names them.

mod report;

use std::{collections::BTreeSet, path::PathBuf};

pub use self::report::MAX_REPORTED;
pub(crate) use self::report::{Entry, Report};
use crate::{batch::Batch, config::Config, dataset::Dataset, error::Error, stats::Recorder};

/// Samples seen before the share of bad ones is judged: three bad ones among the first ten are
/// no verdict on millions.
pub const LEAST_SEEN: u64 = 1000;
/// Bad samples that the error names.
const MAX_NAMED: usize = 5;

/// Counts what is delivered, in its order: so a run that has too many bad samples ends at the same
/// batch every time, however far ahead they were met.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    most: Option<u64>,
    share: f64,
    report: Option<PathBuf>,
    seen: u64,
    bad_places: u64,
    /// Different ones, as many as the bound allows and one more.
    bad: BTreeSet<u64>,
    first: Vec<u64>,
}

impl Tally {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            most: config.max_bad_samples,
            share: config.max_bad_share,
            report: config.bad_sample_report.clone(),
            seen: 0,
            bad_places: 0,
            bad: BTreeSet::new(),
            first: Vec::new(),
        }
    }

    /// The same bounds, with nothing counted.
    pub(crate) fn anew(&self) -> Self {
        Self {
            seen: 0,
            bad_places: 0,
            bad: BTreeSet::new(),
            first: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether what the index found is too much already: then nothing is started.
    pub(crate) fn judge<'a>(
        &self,
        dataset: &Dataset,
        bad: impl ExactSizeIterator<Item = (&'a u64, &'a String)>,
    ) -> Result<(), Error> {
        let (count, seen) = (bad.len() as u64, dataset.len());
        let name = |(id, reason): (&u64, &String)| format!("`{}`: {reason}", dataset.key(*id));
        let first = || bad.take(MAX_NAMED).map(name).collect();
        if let Some(most) = self.most.filter(|&most| count > most) {
            return Err(self.error(count, seen, (format!("max_bad_samples, {most}"), first())));
        }
        self.judge_share(count, seen, first)
    }

    /// Counts a batch that is about to be delivered.
    pub(crate) fn count(
        &mut self,
        batch: &Batch,
        dataset: &Dataset,
        recorder: &Recorder,
    ) -> Result<(), Error> {
        self.seen += batch.samples.len() as u64;
        for sample in &batch.samples {
            let bad = match sample.substitute_of {
                Some(planned) => planned,
                None if !sample.valid => sample.id,
                None => continue,
            };
            self.bad_places += 1;
            if self.first.len() < MAX_NAMED && !self.first.contains(&bad) {
                self.first.push(bad);
            }
            if self.most.is_some() {
                self.bad.insert(bad);
            }
        }
        let first = || {
            let name = |&id: &u64| {
                let reason = recorder.reason(id).unwrap_or_default();
                format!("`{}`: {reason}", dataset.key(id))
            };
            self.first.iter().map(name).collect()
        };
        let different = self.bad.len() as u64;
        if let Some(most) = self.most.filter(|&most| different > most) {
            let over = format!("max_bad_samples, {most}");
            return Err(self.error(different, self.seen, (over, first())));
        }
        self.judge_share(self.bad_places, self.seen, first)
    }

    fn judge_share(
        &self,
        bad: u64,
        seen: u64,
        first: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Error> {
        if seen < LEAST_SEEN || bad as f64 <= self.share * seen as f64 {
            return Ok(());
        }
        let over = format!("max_bad_share, {}", self.share);
        Err(self.error(bad, seen, (over, first())))
    }

    fn error(&self, bad: u64, seen: u64, (over, first): (String, Vec<String>)) -> Error {
        let report = match &self.report {
            Some(path) => format!("all of them are in `{}`", path.display()),
            None => "set bad_sample_report to have all of them written down".to_owned(),
        };
        Error::TooManyBad {
            bad,
            seen,
            over,
            first,
            report,
        }
    }
}
