//! The name of an entry: a hash of everything that a latent depends on.

use std::fmt;

use preheat_proto::{Filter, Posterior, Scale, Source};

use crate::{embed::Item, model::Ask, plan::Size};

/// Version of what a name covers and of how an entry is laid out: another finds nothing of this one's.
const VERSION: u32 = 1;
/// Separates these hashes from all others.
const CONTEXT_RECIPE: &str = "preheat latent cache: what is the same through a run";
const CONTEXT_KEY: &str = "preheat latent cache: one latent";
const CONTEXT_NAMED: &str = "preheat latent cache: one latent of what has a name";
/// Hexadecimal digits of a recipe that name its folder. A collision mixes two recipes in one folder,
/// where their entries still differ by name.
const FOLDER_DIGITS: usize = 16;

/// What is the same for all latents of a run.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    hash: blake3::Hash,
    /// Whether the seed of an item changes its latent.
    draws: bool,
}

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl Recipe {
    pub(crate) fn new(fingerprint: &str, ask: Ask, filter: Filter) -> Self {
        let Ask {
            posterior,
            scale,
            dtype,
        } = ask;
        // Moments have no scale: whatever was asked, they are the same.
        let scale = match posterior {
            Posterior::Moments => Scale::Raw,
            Posterior::Mode | Posterior::Sample => scale,
        };
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_RECIPE);
        hasher.update(&VERSION.to_le_bytes());
        hasher.update(&[posterior as u8, scale as u8, dtype as u8, filter as u8]);
        hasher.update(fingerprint.as_bytes());
        Self {
            hash: hasher.finalize(),
            draws: posterior == Posterior::Sample,
        }
    }

    /// Where the entries of this recipe are, so that those of others are known as such.
    pub(crate) fn folder(&self) -> String {
        format!("v{VERSION}-{}", &self.hash.to_hex()[..FOLDER_DIGITS])
    }

    /// The sample's id is no part of it: equal bytes have equal latents, under whatever name.
    pub(crate) fn key(&self, size: Size, item: &Item) -> Key {
        if let Some(named) = &item.named {
            return self.key_of(&named.name, item.seed);
        }
        let drawn = item.transform;
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_KEY);
        hasher.update(self.hash.as_bytes());
        hasher.update(payloads(item).as_bytes());
        for number in [
            size.width,
            size.height,
            drawn.source.width,
            drawn.source.height,
            drawn.resize.width,
            drawn.resize.height,
            drawn.crop_x,
            drawn.crop_y,
            u32::from(drawn.flip),
        ] {
            hasher.update(&number.to_le_bytes());
        }
        let seed = if self.draws { item.seed } else { 0 };
        hasher.update(&seed.to_le_bytes());
        // Nothing of an image: its name is that of before there were clips.
        if size.frames != 1 || item.source == Source::Video {
            hasher.update(&size.frames.to_le_bytes());
            hasher.update(&[item.source as u8]);
            for time in &item.times {
                hasher.update(&time.to_le_bytes());
            }
        }
        Key(*hasher.finalize().as_bytes())
    }

    /// That of an item whose name covers all but the model and the draw.
    pub(crate) fn key_of(&self, name: &blake3::Hash, seed: u64) -> Key {
        let seed = if self.draws { seed } else { 0 };
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_NAMED);
        hasher.update(self.hash.as_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&seed.to_le_bytes());
        Key(*hasher.finalize().as_bytes())
    }
}

/// A hash of the content: that of an image, or over those of a clip's frames.
fn payloads(item: &Item) -> blake3::Hash {
    if let [payload] = &item.payloads[..] {
        return blake3::hash(payload);
    }
    let mut hasher = blake3::Hasher::new();
    for payload in &item.payloads {
        hasher.update(blake3::hash(payload).as_bytes());
    }
    hasher.finalize()
}

impl Key {
    /// In hexadecimal.
    pub(crate) fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use preheat_proto::DType;

    use super::*;
    use crate::{embed::Named, plan::Transform};

    fn item() -> Item {
        Item {
            id: 1,
            seed: 2,
            transform: Transform {
                source: Size::new(64, 48),
                resize: Size::new(43, 32),
                crop_x: 5,
                crop_y: 0,
                flip: false,
            },
            source: Source::Encoded,
            payloads: vec![Bytes::from_static(b"a photo")],
            times: Vec::new(),
            named: None,
        }
    }

    #[test]
    fn a_name_stands_for_the_payloads() {
        let named = |name: &[u8], seed, payload| Item {
            named: Some(Named {
                name: blake3::hash(name),
                latent: None,
            }),
            seed,
            payloads: vec![Bytes::from_static(payload)],
            ..item()
        };
        let [mode, sample] = [Posterior::Mode, Posterior::Sample].map(|posterior| {
            let ask = ask(posterior, Scale::Raw, DType::F32);
            Recipe::new("model", ask, Filter::Bicubic)
        });
        let size = Size::new(32, 32);
        let key = |recipe: &Recipe, item| recipe.key(size, &item);
        let first = key(&mode, named(b"a", 1, b"x"));
        assert_eq!(first, key(&mode, named(b"a", 2, b"y")));
        assert_ne!(first, key(&mode, named(b"b", 1, b"x")));
        assert_ne!(first, key(&mode, item()));
        let drawn = [1, 2].map(|seed| key(&sample, named(b"a", seed, b"x")));
        assert_ne!(drawn[0], drawn[1]);
        assert_ne!(drawn[0], first);
    }

    fn ask(posterior: Posterior, scale: Scale, dtype: DType) -> Ask {
        Ask {
            posterior,
            scale,
            dtype,
        }
    }

    fn recipe(posterior: Posterior) -> Recipe {
        Recipe::new(
            "ab",
            ask(posterior, Scale::Raw, DType::F32),
            Filter::Lanczos,
        )
    }

    const SIZE: Size = Size::new(32, 32);

    #[test]
    fn everything_that_changes_a_latent_changes_its_name() {
        let mut seen = HashSet::new();
        let (ours, changes): (_, [fn(&mut Item); 9]) = (
            recipe(Posterior::Sample),
            [
                |_| {},
                |item| item.seed = 3,
                |item| item.payloads = vec![Bytes::from_static(b"A photo")],
                |item| item.transform.source.width = 65,
                |item| item.transform.resize.width = 44,
                |item| item.transform.resize.height = 33,
                |item| item.transform.crop_x = 0,
                |item| (item.transform.crop_x, item.transform.crop_y) = (0, 5),
                |item| item.transform.flip = true,
            ],
        );
        for change in changes {
            let mut item = item();
            change(&mut item);
            assert!(seen.insert(ours.key(SIZE, &item)));
        }
        assert!(seen.insert(ours.key(Size::new(32, 24), &item())));
        let mut clip = item();
        clip.payloads = vec![Bytes::from_static(b"a photo"); 2];
        assert!(seen.insert(ours.key(SIZE.with_frames(2), &clip)));
        clip.payloads[1] = Bytes::from_static(b"another");
        assert!(seen.insert(ours.key(SIZE.with_frames(2), &clip)));
        let mut video = item();
        (video.source, video.times) = (Source::Video, vec![0, 5]);
        assert!(seen.insert(ours.key(SIZE.with_frames(2), &video)));
        video.times = vec![0, 6];
        assert!(seen.insert(ours.key(SIZE.with_frames(2), &video)));
        let (sample, raw) = (Posterior::Sample, Scale::Raw);
        for (fingerprint, ask, filter) in [
            ("ac", ask(sample, raw, DType::F32), Filter::Lanczos),
            ("ab", ask(Posterior::Mode, raw, DType::F32), Filter::Lanczos),
            (
                "ab",
                ask(sample, Scale::Normalized, DType::F32),
                Filter::Lanczos,
            ),
            ("ab", ask(sample, raw, DType::F16), Filter::Lanczos),
            ("ab", ask(sample, raw, DType::F32), Filter::Bicubic),
        ] {
            assert!(seen.insert(Recipe::new(fingerprint, ask, filter).key(SIZE, &item())));
        }
    }

    #[test]
    fn what_changes_no_latent_changes_no_name() {
        let mut other = item();
        other.id = 7;
        let sample = recipe(Posterior::Sample);
        assert_eq!(sample.key(SIZE, &item()), sample.key(SIZE, &other));
        other.seed = 9;
        for posterior in [Posterior::Mode, Posterior::Moments] {
            let recipe = recipe(posterior);
            assert_eq!(recipe.key(SIZE, &item()), recipe.key(SIZE, &other));
        }
        let ask = ask(Posterior::Moments, Scale::Normalized, DType::F32);
        let scaled = Recipe::new("ab", ask, Filter::Lanczos);
        assert_eq!(scaled.folder(), recipe(Posterior::Moments).folder());
    }

    /// A change here loses every cache that there is: it needs a new `VERSION`. The values are those
    /// of BLAKE3's Python package, fed by hand.
    #[test]
    fn names_are_frozen() {
        let recipe = recipe(Posterior::Sample);
        assert_eq!(recipe.folder(), "v1-02e5907d97f9064b");
        assert_eq!(
            recipe.key(SIZE, &item()).to_hex(),
            "320120e4d5f692a59a1f32189afde9ee54d8dc30bf3c8b7045394ae48413dfad"
        );
    }
}
