//! What other libraries call the interpolations that replicas offer.
//!
//! All of ours antialias as they shrink: the kernel widens with the scale, which is what PIL does and
//! what a trainer's data pipeline usually relies on. A replica's resize agrees with PIL's within 1 of
//! 255. So these are the same picture:
//!
//! | name here | PIL | torchvision, on PIL images or with `antialias=True` | kernel |
//! |---|---|---|---|
//! | `bilinear` | `BILINEAR` | `BILINEAR` | triangle, support 1 |
//! | `bicubic` | `BICUBIC` | `BICUBIC` | Keys cubic, a = -0.5, support 2 |
//! | `lanczos` | `LANCZOS` | `LANCZOS` (PIL images only) | windowed sinc, support 3 |
//!
//! diffusers' training scripts resize with torchvision, `BILINEAR` unless told otherwise; diffusers'
//! `VaeImageProcessor` with PIL's `LANCZOS`. Not offered, because they are other pictures: whatever
//! OpenCV or torch compute without antialiasing (`INTER_LINEAR`, `INTER_CUBIC` and `INTER_LANCZOS4`
//! alias as they shrink, and the cubic has a = -0.75), `INTER_AREA`, `box`, `hamming` and `nearest`.

use preheat_proto::Filter;

use crate::error::Error;

/// Names and what they mean here.
const NAMES: [(&str, Filter); 3] = [
    ("bilinear", Filter::Bilinear),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];
/// What may stand before a name.
const PREFIXES: [&str; 5] = [
    "pil.",
    "image.",
    "image.resampling.",
    "interpolationmode.",
    "torchvision.",
];

/// The filter of this name, in any case, with or without PIL's or torchvision's name before it:
/// `lanczos`, `Image.BICUBIC`, `InterpolationMode.BILINEAR`.
///
/// # Errors
/// [`Error::Config`] for names whose picture would be another one, with what is offered.
pub fn by_name(name: &str) -> Result<Filter, Error> {
    let lower = name.to_ascii_lowercase();
    let plain = PREFIXES
        .iter()
        .filter_map(|prefix| lower.strip_prefix(prefix))
        .min_by_key(|rest| rest.len())
        .unwrap_or(&lower);
    let known = NAMES.iter().find(|(known, _)| *known == plain);
    known.map(|(_, filter)| *filter).ok_or_else(|| {
        let why = match plain {
            "inter_area" | "area" | "box" | "hamming" | "nearest" | "nearest_exact" => {
                "is not offered"
            }
            _ if plain.contains("inter_") => "is not offered: OpenCV's aliases as it shrinks",
            _ => "is not known",
        };
        let offered = NAMES.map(|(name, _)| name).join(", ");
        Error::config("filter", format!("`{name}` {why}; use one of {offered}"))
    })
}

/// The name here of a filter.
pub fn name(filter: Filter) -> &'static str {
    match filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
        Filter::Lanczos => "lanczos",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_libraries() {
        for (known, filter) in NAMES {
            assert_eq!(name(filter), known);
            assert_eq!(by_name(known).unwrap(), filter);
        }
        let by = |name: &str| by_name(name).unwrap();
        assert_eq!(by("InterpolationMode.BILINEAR"), Filter::Bilinear);
        assert_eq!(by("Image.Resampling.BICUBIC"), Filter::Bicubic);
        assert_eq!(by("PIL.LANCZOS"), Filter::Lanczos);
    }

    #[test]
    fn other_pictures_are_refused_with_what_is_offered() {
        let text = |name: &str| by_name(name).unwrap_err().to_string();
        assert!(text("cv2.INTER_LINEAR").contains("aliases as it shrinks"));
        assert!(text("nearest").contains("is not offered; use one of bilinear, bicubic, lanczos"));
        assert!(text("lanzcos").contains("`lanzcos` is not known"));
    }
}
