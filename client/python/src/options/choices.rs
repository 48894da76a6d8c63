//! Options that are one of several things.

use preheat_client::{
    BadSamples, Block, Bucketing, ClipEncoding, Crop, DType, Filter, Posterior, Rate, Scale,
    Shuffle, SmallBuckets, Start, Subset, Tail, Weights, config::DEFAULT_JPEG_QUALITY, filter,
    plan::Size,
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyRange, PyString, PyTuple},
};

use super::take::{extract, unfit};

type Value<'a, 'py> = &'a Bound<'py, PyAny>;

/// One of these names, in upper or lower case.
pub(super) fn named<T: Copy>(
    value: Value<'_, '_>,
    names: &[(&str, T)],
    or: &str,
) -> Result<T, String> {
    let found = value.cast::<PyString>().ok().and_then(|text| {
        let text = text.to_string().to_lowercase();
        names.iter().find(|(name, _)| *name == text)
    });
    found.map(|(_, found)| *found).ok_or_else(|| {
        let names: Vec<_> = names
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        unfit(value, &format!("one of {}{or}", names.join(", ")))
    })
}

fn is_text(value: Value<'_, '_>) -> bool {
    value.is_instance_of::<PyString>()
}

pub(super) fn shuffle(value: Value<'_, '_>) -> Result<Shuffle, String> {
    let or = "; {\"shards\": n} or {\"samples\": n} for blocks; or a list of ids";
    if is_text(value) {
        let full = named(value, &[("full", true), ("none", false)], or)?;
        return Ok(if full { Shuffle::Full } else { Shuffle::None });
    }
    if let Ok(block) = value.cast::<PyDict>() {
        let one = |name: &str| block.get_item(name).ok().flatten();
        return match (one("shards"), one("samples"), block.len()) {
            (Some(shards), None, 1) => {
                extract(&shards, "a whole number").map(|n| Shuffle::Blocked(Block::Shards(n)))
            }
            (None, Some(samples), 1) => {
                extract(&samples, "a whole number").map(|n| Shuffle::Blocked(Block::Samples(n)))
            }
            _ => Err(unfit(value, "{\"shards\": n} or {\"samples\": n}")),
        };
    }
    let must = format!("one of \"full\", \"none\"{or}");
    extract::<Vec<u64>>(value, &must).map(|ids| Shuffle::Given(ids.into()))
}

pub(super) fn tail(value: Value<'_, '_>) -> Result<Tail, String> {
    let names = [
        ("pad", Tail::Pad),
        ("drop", Tail::Drop),
        ("short", Tail::Short),
    ];
    named(value, &names, "")
}

pub(super) fn subset(value: Value<'_, '_>) -> Result<Subset, String> {
    let must = "a range of ids, a list of ids in ascending order, or {\"from\": 0.0, \"to\": 0.99, \
                \"seed\": 0} for a share";
    if let Ok(range) = value.cast::<PyRange>() {
        let bound = |name: &str| range.getattr(name).and_then(|bound| bound.extract::<u64>());
        return match (bound("start"), bound("stop"), bound("step")) {
            (Ok(start), Ok(end), Ok(1)) => Ok(Subset::Range { start, end }),
            _ => Err(unfit(value, must)),
        };
    }
    if let Ok(share) = value.cast::<PyDict>() {
        let number = |name: &str| share.get_item(name).ok().flatten()?.extract::<f64>().ok();
        let seed = share.get_item("seed").ok().flatten();
        let seed = seed.map_or(Some(0), |seed| seed.extract().ok());
        return match (number("from"), number("to"), seed, share.len()) {
            (Some(from), Some(to), Some(seed), 2..=3) => Ok(Subset::Fraction { from, to, seed }),
            _ => Err(unfit(value, must)),
        };
    }
    extract::<Vec<u64>>(value, must).map(|ids| Subset::Ids(ids.into()))
}

/// As the package has read them: float32 in this machine's order, which is all that `abi3` leaves of a
/// hundred million of them in a reasonable time.
pub(super) fn weights(value: Value<'_, '_>) -> Result<Weights, String> {
    let bytes = value.cast::<PyBytes>();
    let bytes = bytes.map_err(|_| unfit(value, "the bytes of float32"))?;
    let (numbers, rest) = bytes.as_bytes().as_chunks();
    if !rest.is_empty() {
        return Err(unfit(value, "the bytes of float32"));
    }
    let numbers = numbers.iter().map(|bytes| f32::from_ne_bytes(*bytes));
    Ok(Weights::Given(numbers.collect()))
}

pub(super) fn buckets(value: Value<'_, '_>) -> Result<Bucketing, String> {
    let or = "; a list of areas in pixels; or a list of (width, height)";
    if is_text(value) {
        return named(value, &[("aspect", ())], or).map(|()| Bucketing::Aspect);
    }
    if let Ok(areas) = value.extract::<Vec<u64>>() {
        return Ok(Bucketing::Areas(areas));
    }
    let must = format!("\"aspect\"{or}");
    let sizes = extract::<Vec<(u32, u32)>>(value, &must)?;
    let size = |(width, height)| Size::new(width, height);
    Ok(Bucketing::Sizes(sizes.into_iter().map(size).collect()))
}

/// One length of clips, or several.
pub(super) fn frames(value: Value<'_, '_>) -> Result<Vec<u32>, String> {
    if let Ok(one) = value.extract::<u32>() {
        return Ok(vec![one]);
    }
    extract(value, "a number of frames, or a list of them")
}

/// As it is written: a fraction stays one, and 29.97 is 2997/100.
pub(super) fn rate(value: Value<'_, '_>) -> Result<Rate, String> {
    let must = "frames a second: a number, a fractions.Fraction, or text as in \"30000/1001\"";
    let text = value.str().map(|text| text.to_string()).unwrap_or_default();
    Rate::parse(&text).ok_or_else(|| unfit(value, must))
}

pub(super) fn clip_start(value: Value<'_, '_>) -> Result<Start, String> {
    let names = [
        ("random", Start::Random),
        ("first", Start::First),
        ("center", Start::Center),
        ("windows", Start::Windows),
    ];
    named(value, &names, "")
}

pub(super) fn clip_encoding(value: Value<'_, '_>) -> Result<ClipEncoding, String> {
    let names = [
        (
            "jpeg",
            ClipEncoding::Jpeg {
                quality: DEFAULT_JPEG_QUALITY,
            },
        ),
        ("png", ClipEncoding::Png),
        ("raw", ClipEncoding::Rgb8),
        ("as-is", ClipEncoding::AsIs),
    ];
    match value.extract::<(String, u8)>() {
        Ok((name, quality)) if name == "jpeg" => Ok(ClipEncoding::Jpeg { quality }),
        _ => named(value, &names, ", or (\"jpeg\", quality)"),
    }
}

pub(super) fn small_buckets(value: Value<'_, '_>) -> Result<SmallBuckets, String> {
    let must = "\"keep\", (\"merge\", below) or (\"drop\", below)";
    if is_text(value) {
        let or = ", (\"merge\", below), (\"drop\", below)";
        return named(value, &[("keep", SmallBuckets::Keep)], or);
    }
    let (rule, below) = extract::<(String, u64)>(value, must)?;
    match rule.as_str() {
        "merge" => Ok(SmallBuckets::Merge { below }),
        "drop" => Ok(SmallBuckets::Drop { below }),
        _ => Err(unfit(value, must)),
    }
}

pub(super) fn filter(value: Value<'_, '_>) -> Result<Filter, String> {
    // PIL's and torchvision's own constants say their names.
    let name = match value.getattr("name") {
        Ok(name) if !is_text(value) => name.to_string(),
        _ => extract::<String>(value, "the name of a filter")?,
    };
    filter::by_name(&name).map_err(|error| match error {
        preheat_client::Error::Config { reason, .. } => reason,
        other => other.to_string(),
    })
}

pub(crate) fn crop(value: Value<'_, '_>) -> Result<Crop, String> {
    let or = ", or (least, most) for a part of the area, as in RandomResizedCrop";
    if is_text(value) {
        return named(
            value,
            &[("center", Crop::Center), ("random", Crop::Random)],
            or,
        );
    }
    let must = format!("\"center\", \"random\"{or}");
    let (least, most) = match value.cast::<PyTuple>() {
        Ok(_) => extract(value, &must)?,
        Err(_) => extract::<[f32; 2]>(value, &must)?.into(),
    };
    Ok(Crop::RandomResized { least, most })
}

pub(super) fn posterior(value: Value<'_, '_>) -> Result<Posterior, String> {
    let names = [
        ("mode", Posterior::Mode),
        ("sample", Posterior::Sample),
        ("moments", Posterior::Moments),
    ];
    named(value, &names, "")
}

pub(super) fn scale(value: Value<'_, '_>) -> Result<Scale, String> {
    named(
        value,
        &[("normalized", Scale::Normalized), ("raw", Scale::Raw)],
        "",
    )
}

/// By name, or as torch and NumPy say it: `torch.float16`, `numpy.float16`.
pub(super) fn dtype(value: Value<'_, '_>) -> Result<DType, String> {
    const NAMES: [(&str, DType); 6] = [
        ("float32", DType::F32),
        ("float16", DType::F16),
        ("bfloat16", DType::BF16),
        ("f32", DType::F32),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
    ];
    let must = "float32, float16 or bfloat16, as a string, or torch's or NumPy's";
    let shown = match value.getattr("__name__") {
        Ok(name) => name.to_string(),
        Err(_) => value
            .str()
            .map_or_else(|_| String::new(), |text| text.to_string()),
    };
    let name = shown.rsplit('.').next().unwrap_or_default();
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, dtype)| *dtype)
        .ok_or_else(|| unfit(value, must))
}

pub(super) fn bad_samples(value: Value<'_, '_>) -> Result<BadSamples, String> {
    let names = [
        ("fail", BadSamples::Fail),
        ("substitute", BadSamples::Substitute),
        ("skip", BadSamples::Skip),
    ];
    named(value, &names, "")
}
