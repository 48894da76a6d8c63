//! `preheat-bench index`: builds, shows and verifies the index of a dataset.

mod inspect;
mod synthetic;
mod verify;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use preheat_client::{
    BadSamples, Check, Dataset, Progress, Source,
    dataset::{Shard, index::Index},
};
use tokio::runtime::{Builder, Runtime};

use crate::report::Report;

/// What to do with an index.
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes it, or brings it up to date: shards that are as they were are not read again. Goes on
    /// where a build that was stopped left off.
    Build(Where),
    /// Shows what is in it: samples, shards, sizes, parts, bad samples and why.
    Inspect(inspect::Args),
    /// Reads it through, compares it with the dataset, and reads samples.
    Verify(verify::Args),
    /// Writes one of made-up samples, and measures how it opens.
    #[command(hide = true)]
    Synthetic(synthetic::Args),
    /// Opens one, and says what that took.
    #[command(hide = true)]
    Open {
        /// The file.
        path: PathBuf,
    },
}

/// A dataset and its index.
#[derive(Debug, clap::Args)]
struct Where {
    /// A folder, or a URI.
    dataset: PathBuf,
    /// The file of the index; else one in the user's cache folder, where loaders look for it too.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Its videos are samples, as in a run of clips: they have an index of their own. Needs FFmpeg.
    #[arg(long)]
    videos: bool,
}

/// Does what is asked.
///
/// # Errors
/// Where the dataset or its index cannot be read, or does not hold what it should.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    match &args.action {
        Action::Build(place) => build(place),
        Action::Inspect(args) => inspect::run(args),
        Action::Verify(args) => verify::run(args),
        Action::Synthetic(args) => synthetic::run(args),
        Action::Open { path } => synthetic::open(path),
    }
}

impl Where {
    fn source(&self, check: Check) -> Source {
        Source {
            index: self.index.clone(),
            check,
            videos: self.videos,
            ..Source::new(&self.dataset)
        }
    }

    /// The index as it is, and where.
    fn open(&self) -> anyhow::Result<(PathBuf, Index)> {
        let source = self.source(Check::Never);
        let path = match &self.index {
            Some(path) => path.clone(),
            None => {
                let path = source.index_path(&source.open_store()?);
                path.context("there is no cache folder: give the index with --index")?
            }
        };
        let index = Index::open(&path).with_context(|| {
            format!(
                "no index to look at: build it with `preheat-bench index build {}{}`",
                if self.videos { "--videos " } else { "" },
                self.dataset.display()
            )
        })?;
        Ok((path, index))
    }

    /// The shards as the store lists them now.
    fn shards(&self) -> anyhow::Result<Vec<Shard>> {
        let source = self.source(Check::Never);
        let shards = runtime()?.block_on(async {
            let store = source.open_store()?;
            source.find_format(&store).await?.shards(&store).await
        });
        Ok(shards?)
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime to read with")
}

fn build(place: &Where) -> anyhow::Result<Report> {
    let template = "{bar:32} {pos}/{len} shards  {msg}  {elapsed}";
    let style = ProgressStyle::with_template(template);
    let bar =
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let show = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(format!("{} samples", progress.samples));
    };
    let dataset = Dataset::open(place.source(Check::Always), BadSamples::Substitute, &show)?;
    bar.finish_and_clear();
    let mut report = Report::default();
    inspect::summary(&mut report, dataset.sources()[0].index());
    Ok(report)
}
