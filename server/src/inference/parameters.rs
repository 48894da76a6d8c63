//! The parameters of a call: named as the fields of the native request, each of one type.

use std::collections::{BTreeMap, HashMap};

use preheat_models::image;
use preheat_proto::{
    Code, DType, Error, Filter, Posterior, Scale,
    inference::{InferParameter, infer_parameter::ParameterChoice},
};

use crate::service::shorten;

type Map = HashMap<String, InferParameter>;

const NAMES: [&str; 12] = [
    "width",
    "height",
    "resize_width",
    "resize_height",
    "crop_x",
    "crop_y",
    "filter",
    "flip",
    "posterior",
    "seed",
    "scale",
    "dtype",
];

/// What a call asks for. Pairs are width and height, or x and y, in pixels.
#[derive(Debug)]
pub(crate) struct Parameters {
    size: Option<[u32; 2]>,
    resize: Option<[u32; 2]>,
    crop: Option<[u32; 2]>,
    pub(crate) filter: Filter,
    pub(crate) flip: bool,
    pub(crate) posterior: Posterior,
    pub(crate) seed: u64,
    pub(crate) scale: Scale,
    pub(crate) dtype: DType,
}

/// Which part of which size of a picture, in pixels.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) resize: [u32; 2],
    /// Left and top.
    pub(crate) crop: [u32; 2],
    pub(crate) size: [u32; 2],
}

impl Parameters {
    /// Reads those of the request and those of its input, which mean the same.
    ///
    /// # Errors
    /// [`Code::BadRequest`], naming the parameter: unknown, given twice, of a wrong type or value, or
    /// without the other that it needs.
    pub(crate) fn read(request: &Map, input: &Map) -> Result<Self, Error> {
        let given = Given::new(request, input)?;
        let posterior = given.word(
            "posterior",
            &[
                ("mode", Posterior::Mode),
                ("sample", Posterior::Sample),
                ("moments", Posterior::Moments),
            ],
        )?;
        let posterior = posterior.unwrap_or(Posterior::Mode);
        let seed = given.number("seed")?;
        let scale = given.word(
            "scale",
            &[("raw", Scale::Raw), ("normalized", Scale::Normalized)],
        )?;
        let parameters = Self {
            size: given.pair("width", "height")?,
            resize: given.pair("resize_width", "resize_height")?,
            crop: given.pair("crop_x", "crop_y")?,
            filter: given
                .word(
                    "filter",
                    &[
                        ("lanczos", Filter::Lanczos),
                        ("bicubic", Filter::Bicubic),
                        ("bilinear", Filter::Bilinear),
                    ],
                )?
                .unwrap_or(Filter::Lanczos),
            flip: given.flag("flip")?.unwrap_or(false),
            posterior,
            seed: seed.unwrap_or(0),
            scale: scale.unwrap_or(Scale::Raw),
            dtype: given
                .word(
                    "dtype",
                    &[
                        ("f32", DType::F32),
                        ("f16", DType::F16),
                        ("bf16", DType::BF16),
                        // As the protocol itself calls them.
                        ("FP32", DType::F32),
                        ("FP16", DType::F16),
                        ("BF16", DType::BF16),
                    ],
                )?
                .unwrap_or(DType::F32),
        };
        let wrong = match (posterior, seed) {
            (Posterior::Sample, None) => {
                "posterior `sample` needs a `seed`, from which item i \
                                          draws with seed + i"
            }
            (Posterior::Mode | Posterior::Moments, Some(_)) => {
                "`seed` is for posterior `sample`: set that too, or leave the seed out"
            }
            (Posterior::Moments, _) if parameters.scale == Scale::Normalized => {
                "posterior `moments` is always raw: leave `scale` out"
            }
            _ if parameters.crop.is_some() && parameters.size.is_none() => {
                "`crop_x` and `crop_y` need `width` and `height`, the size to cut out"
            }
            _ => return Ok(parameters),
        };
        Err(bad(wrong.to_owned()))
    }

    /// From a picture of this size to the model's input, whose sides are multiples of `multiple`.
    ///
    /// # Errors
    /// [`Code::BadRequest`] where the picture is smaller than any input of the model and no size is
    /// given.
    pub(crate) fn cut(&self, source: [u32; 2], multiple: u32) -> Result<Cut, Error> {
        let resize = match (self.resize, self.crop, self.size) {
            (Some(resize), ..) => resize,
            (None, None, Some(size)) => {
                let cover = image::cover(source, size, image::Filter::default());
                return Ok(Cut {
                    resize: cover.resize,
                    crop: cover.crop,
                    size,
                });
            }
            (None, ..) => source,
        };
        let size = self
            .size
            .unwrap_or(resize.map(|side| side / multiple * multiple));
        if size.contains(&0) && self.size.is_none() {
            let [width, height] = resize;
            return Err(bad(format!(
                "is {width}x{height}, but this model takes multiples of {multiple}: set `width` and \
                 `height`, and it is scaled"
            )));
        }
        let centre = |axis: usize| resize[axis].saturating_sub(size[axis]) / 2;
        Ok(Cut {
            resize,
            crop: self.crop.unwrap_or([centre(0), centre(1)]),
            size,
        })
    }
}

/// Parameters by name, each known and given once.
struct Given<'a>(BTreeMap<&'a str, &'a ParameterChoice>);

impl<'a> Given<'a> {
    fn new(request: &'a Map, input: &'a Map) -> Result<Self, Error> {
        let mut given = BTreeMap::new();
        for (name, parameter) in request.iter().chain(input) {
            if !NAMES.contains(&name.as_str()) {
                let (name, known) = (shorten(name, 64), NAMES.join(", "));
                let deadline = match name {
                    "timeout" => "; a deadline is set through gRPC",
                    _ => "",
                };
                return Err(bad(format!(
                    "unknown parameter `{name}`: known are {known}{deadline}"
                )));
            }
            let choice = parameter.parameter_choice.as_ref();
            let choice = choice.ok_or_else(|| bad(format!("parameter `{name}` has no value")))?;
            if given.insert(name.as_str(), choice).is_some() {
                return Err(bad(format!(
                    "parameter `{name}` is given for the request and for its input: give it once"
                )));
            }
        }
        Ok(Self(given))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let number = |choice: &ParameterChoice| match choice {
            ParameterChoice::Int64Param(value) => u64::try_from(*value).ok(),
            ParameterChoice::Uint64Param(value) => Some(*value),
            _ => None,
        };
        self.read(name, number, || "a whole number of 0 or more".to_owned())
    }

    fn pair(&self, first: &str, second: &str) -> Result<Option<[u32; 2]>, Error> {
        let side = |name| {
            let fits = |number: u64| {
                let side = u32::try_from(number);
                side.map_err(|_| bad(format!("parameter `{name}` is {number}, which no side is")))
            };
            self.number(name)?.map(fits).transpose()
        };
        match (side(first)?, side(second)?) {
            (Some(first), Some(second)) => Ok(Some([first, second])),
            (None, None) => Ok(None),
            (Some(_), None) => Err(bad(format!("`{first}` needs `{second}`"))),
            (None, Some(_)) => Err(bad(format!("`{second}` needs `{first}`"))),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let flag = |choice: &ParameterChoice| match choice {
            ParameterChoice::BoolParam(value) => Some(*value),
            _ => None,
        };
        self.read(name, flag, || "true or false".to_owned())
    }

    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Error> {
        let word = |choice: &ParameterChoice| match choice {
            ParameterChoice::StringParam(value) => words.iter().find(|(word, _)| word == value),
            _ => None,
        };
        let names = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let word = self.read(name, word, || format!("one of {}", names().join(", ")))?;
        Ok(word.map(|(_, value)| *value))
    }

    fn read<T>(
        &self,
        name: &str,
        value: impl FnOnce(&ParameterChoice) -> Option<T>,
        wanted: impl FnOnce() -> String,
    ) -> Result<Option<T>, Error> {
        let Some(choice) = self.0.get(name) else {
            return Ok(None);
        };
        value(choice).map(Some).ok_or_else(|| {
            let seen = match choice {
                ParameterChoice::BoolParam(value) => value.to_string(),
                ParameterChoice::Int64Param(value) => value.to_string(),
                ParameterChoice::Uint64Param(value) => value.to_string(),
                ParameterChoice::DoubleParam(value) => format!("the float {value}"),
                ParameterChoice::StringParam(value) => format!("the text `{}`", shorten(value, 64)),
            };
            bad(format!(
                "parameter `{name}` is {seen}, must be {}",
                wanted()
            ))
        })
    }
}

fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}
