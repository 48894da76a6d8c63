//! Pictures, with the sizes that their headers tell.

pub(crate) const ASTRONAUT: (&[u8], [u32; 2]) =
    (include_bytes!("../data/astronaut-0.jpg"), [512, 512]);
pub(crate) const CHELSEA: (&[u8], [u32; 2]) = (include_bytes!("../data/chelsea-1.jpg"), [512, 384]);
pub(crate) const ROCKET: (&[u8], [u32; 2]) = (include_bytes!("../data/rocket-0.jpg"), [512, 512]);
/// Stored on its side (orientation 6): this is the size after turning.
pub(crate) const TURNED: (&[u8], [u32; 2]) =
    (include_bytes!("../data/exif-orientation-6.jpg"), [300, 451]);
pub(crate) const PNG: (&[u8], [u32; 2]) = (include_bytes!("../data/palette.png"), [160, 120]);
pub(crate) const WEBP: (&[u8], [u32; 2]) = (include_bytes!("../data/photo.webp"), [451, 300]);
pub(crate) const TRUNCATED: &[u8] = include_bytes!("../data/truncated.jpg");
pub(crate) const EMPTY: &[u8] = include_bytes!("../data/empty.jpg");
pub(crate) const NOT_AN_IMAGE: &[u8] = include_bytes!("../data/not-an-image.jpg");
pub(crate) const BOMB: &[u8] = include_bytes!("../data/claims-65500x65500.jpg");
