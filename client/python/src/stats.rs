//! Statistics as plain dictionaries.

use std::time::Duration;

use preheat_client::{Latency, Model, Stage, Stats, plan::Report};
use pyo3::{prelude::*, types::PyDict};

/// Counts as they are, times in seconds, sizes in bytes.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    macro_rules! same {
        ($($field:ident),*) => { $(all.set_item(stringify!($field), stats.$field)?;)* };
    }
    same!(
        batches,
        images,
        sent_bytes,
        received_bytes,
        waits,
        retries,
        hedges,
        substituted,
        skipped,
        bad_samples,
        window_batches,
        under_way,
        under_way_target,
        bytes_in_flight,
        window_bytes,
        window_bytes_peak,
        ready_batches,
        ready_when_taken
    );
    for (name, time) in [
        ("waited_seconds", stats.waited),
        ("waited_first_seconds", stats.waited_first),
        ("stepped_seconds", stats.stepped),
    ] {
        all.set_item(name, time.as_secs_f64())?;
    }
    let waited_on = PyDict::new(py);
    for stage in Stage::ALL {
        waited_on.set_item(stage.word(), stats.waited_on[stage].as_secs_f64())?;
    }
    all.set_item("waited_on", waited_on)?;
    for (name, times) in [
        ("read", &stats.read),
        ("queue", &stats.queue),
        ("encode", &stats.encode),
    ] {
        all.set_item(name, latency(py, times)?)?;
    }
    all.set_item("readiness", stats.readiness())?;
    all.set_item("stall_share", stats.stall_share())?;
    all.set_item("bound", stats.bound().to_string())?;
    let bad = stats.bad.iter().map(|bad| {
        let one = PyDict::new(py);
        one.set_item("id", bad.id)?;
        one.set_item("key", &bad.key)?;
        one.set_item("reason", &bad.reason)?;
        Ok(one)
    });
    all.set_item("bad", bad.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}

/// What becomes of the samples. It adds up to the dataset.
pub(crate) fn report<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    macro_rules! same {
        ($($field:ident),*) => { $(all.set_item(stringify!($field), report.$field)?;)* };
    }
    same!(
        samples, outside, weightless, left_out, unusable, steps, padded, dropped
    );
    let buckets = report.buckets.iter().map(|bucket| {
        let one = PyDict::new(py);
        one.set_item("size", (bucket.size.width, bucket.size.height))?;
        one.set_item("samples", bucket.samples)?;
        one.set_item("places", bucket.places)?;
        one.set_item("batches", bucket.batches)?;
        one.set_item("padded", bucket.padded)?;
        one.set_item("dropped", bucket.dropped)?;
        Ok(one)
    });
    all.set_item("buckets", buckets.collect::<PyResult<Vec<_>>>()?)?;
    let small = report.small.iter().map(|bucket| {
        let one = PyDict::new(py);
        one.set_item("size", (bucket.size.width, bucket.size.height))?;
        one.set_item("samples", bucket.samples)?;
        one.set_item("into", bucket.into.map(|into| (into.width, into.height)))?;
        Ok(one)
    });
    all.set_item("small", small.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}

/// The model, as its replica describes it.
pub(crate) fn model<'py>(py: Python<'py>, model: &Model) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("name", &model.name)?;
    all.set_item("fingerprint", &model.fingerprint)?;
    all.set_item("latent_channels", model.served.latent_channels)?;
    all.set_item("spatial_compression", model.served.spatial_compression)?;
    all.set_item("size_multiple", model.served.size_multiple)?;
    all.set_item("has_posterior", model.served.has_posterior)?;
    Ok(all)
}

fn latency<'py>(py: Python<'py>, times: &Latency) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("count", times.count)?;
    let seconds = |time: Duration| time.as_secs_f64();
    all.set_item("p50_seconds", seconds(times.p50))?;
    all.set_item("p99_seconds", seconds(times.p99))?;
    all.set_item("total_seconds", seconds(times.total))?;
    Ok(all)
}
