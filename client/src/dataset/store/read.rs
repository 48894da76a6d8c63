//! Ranges of an object: neighbours together, again where a body goes wrong.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, GetRange, path::Path};
use tokio::time::timeout;

use super::{BODY_TRIES, COALESCE_BYTES, COALESCE_GAP, FIRST_BACKOFF, Store};
use crate::{dataset::sample::Shard, metrics::STORE_RETRIES};

impl Store {
    /// Some ranges of an object that must not have changed, in the order asked for. Neighbours are
    /// read with one request.
    ///
    /// # Errors
    /// In words: which object, what was seen, what to do.
    pub async fn ranges(
        &self,
        object: &Shard,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, String> {
        let spans = merge(ranges);
        // Not borrowed: such a closure makes futures that cannot change threads.
        let read = stream::iter(spans.clone()).map(|span| self.range(object, span));
        let read: Vec<_> = read.buffered(self.0.requests).try_collect().await?;
        let cut = ranges.iter().map(|range| {
            let at = spans.partition_point(|span| span.start <= range.start) - 1;
            let start = (range.start - spans[at].start) as usize;
            read[at].slice(start..start + (range.end - range.start) as usize)
        });
        Ok(cut.collect())
    }

    /// One range of an object that must not have changed.
    ///
    /// # Errors
    /// In words: which object, what was seen, what to do.
    pub async fn range(&self, object: &Shard, range: Range<u64>) -> Result<Bytes, String> {
        if range.end > object.bytes {
            let (name, bytes) = (self.name(&object.path), object.bytes);
            return Err(format!(
                "{name} has {bytes} bytes, too few for {range:?}: it is truncated, or has \
                 changed; index the dataset again"
            ));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let full = self.full(&object.path)?;
        let _permit = self.0.permits.acquire().await.map_err(|e| e.to_string())?;
        let mut tries = 0;
        loop {
            tries += 1;
            let body = self.body(object, &full, range.clone());
            let failed = match timeout(self.0.patience, body).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(Failed::ForGood(reason))) => return Err(reason),
                Ok(Err(Failed::Body(reason))) => reason,
                Err(_) => format!(
                    "{} sent too few bytes of {range:?} within {:?}",
                    self.name(&object.path),
                    self.0.patience
                ),
            };
            if tries >= BODY_TRIES {
                return Err(format!("{failed}; gave up after {tries} tries"));
            }
            tracing::debug!(reason = failed, tries, "reading again");
            metrics::counter!(STORE_RETRIES).increment(1);
            tokio::time::sleep(FIRST_BACKOFF * 2_u32.pow(tries)).await;
        }
    }

    async fn body(&self, object: &Shard, path: &Path, range: Range<u64>) -> Result<Bytes, Failed> {
        if let Some(file) = self.local_path(&object.path) {
            return self.file((object, file), range).await;
        }
        let wanted = range.end - range.start;
        // An object read whole needs no support for ranges of a plain HTTP server.
        let whole = wanted == object.bytes;
        let options = GetOptions {
            range: (!whole).then_some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let got = self.0.objects.get_opts(path, options).await;
        let got = got.map_err(|error| Failed::ForGood(self.advice(&object.path, &error)))?;
        if let Some(changed) = self.differs(object, &self.shard(&got.meta)) {
            return Err(Failed::ForGood(changed));
        }
        let bytes = got.bytes().await;
        let bytes = bytes.map_err(|error| Failed::Body(self.advice(&object.path, &error)))?;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        Err(self.short(object, bytes.len(), wanted as usize))
    }

    pub(super) fn short(&self, object: &Shard, came: usize, wanted: usize) -> Failed {
        let name = self.name(&object.path);
        Failed::Body(format!("{name}: {came} bytes came of {wanted}"))
    }
}

pub(super) enum Failed {
    /// Another try would end the same way, or has been made.
    ForGood(String),
    /// The answer began, and then went wrong.
    Body(String),
}

/// The fewest requests for these ranges, in order.
fn merge(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut spans: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match spans.last_mut() {
            Some(last)
                if range.end <= last.end
                    || (range.start <= last.end + COALESCE_GAP
                        && range.end - last.start <= COALESCE_BYTES) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => spans.push(range),
        }
    }
    spans
}
