//! Resize, crop, flip.

use std::{cell::RefCell, fmt::Display, ops::Range};

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef, TypedImage, TypedImageRef},
    pixels::F32x3,
};

use super::{Filter, ImageError, MAX_SIDE, Rgb, Transform, decode::bad};

/// Width times height of what a resize may hold at once, between and after its two passes.
pub const MAX_RESIZED_PIXELS: u64 = 64 * 1024 * 1024;

/// What a thread keeps of its buffer from one call to the next.
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    /// The picture between the two passes. Kept, because fresh pages cost as much as filling them.
    static BETWEEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Resizes, crops, flips.
///
/// As PIL does: first along the rows, then along the columns, with bytes in between, and
/// antialiased where a side shrinks. The result is within 1 of that of every Pillow up to 12;
/// Pillow 13 goes along the columns first where the height loses more than twice as many pixels as
/// the width, which matters at hard edges. A side that keeps its length is not touched. Rows and
/// columns that the crop cannot see are left out where that cannot change a bit of the rest.
///
/// # Errors
/// [`ImageError::Bad`] for a crop that reaches outside of the resized picture, for a side of zero
/// or above [`MAX_SIDE`], for more than [`MAX_RESIZED_PIXELS`], and for data that do not match the
/// size of `rgb`.
pub fn apply(rgb: Rgb, transform: &Transform) -> Result<Rgb, ImageError> {
    check(&rgb, transform)?;
    let [width, height] = transform.size;
    let mut data = if transform.resize == [rgb.width, rgb.height] {
        crop(rgb, transform)
    } else {
        BETWEEN.with_borrow_mut(|between| {
            let data = resize(&rgb, transform, between);
            between.truncate(MAX_KEPT_BYTES);
            between.shrink_to(MAX_KEPT_BYTES);
            data
        })?
    };
    if transform.flip {
        data.chunks_exact_mut(width as usize * 3).for_each(mirror);
    }
    Ok(Rgb {
        width,
        height,
        data,
    })
}

fn check(rgb: &Rgb, transform: &Transform) -> Result<(), ImageError> {
    let Transform {
        resize, crop, size, ..
    } = *transform;
    let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
    if rgb.data.len() as u64 != pixels(rgb.width, rgb.height) * 3 {
        let (bytes, width, height) = (rgb.data.len(), rgb.width, rgb.height);
        return Err(bad(&format!(
            "{bytes} bytes of pixels for {width}x{height}"
        )));
    }
    for [width, height] in [[rgb.width, rgb.height], resize, size] {
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            let text = format!("a resize through {width}x{height}; sides are 1 to {MAX_SIDE}");
            return Err(bad(&text));
        }
    }
    let inside = |axis: usize| {
        crop[axis]
            .checked_add(size[axis])
            .is_some_and(|end| end <= resize[axis])
    };
    if !inside(0) || !inside(1) {
        let text = format!("a crop of {size:?} at {crop:?} in a picture resized to {resize:?}");
        return Err(bad(&text));
    }
    let largest = pixels(resize[0], rgb.height).max(pixels(size[0], resize[1]));
    if largest > MAX_RESIZED_PIXELS {
        let [width, height] = resize;
        let text = format!(
            "a resize from {}x{} to {width}x{height}",
            rgb.width, rgb.height
        );
        return Err(bad(&format!(
            "{text} holds {largest} pixels, over {MAX_RESIZED_PIXELS}"
        )));
    }
    Ok(())
}

/// Both passes, and the crop. `between` is scratch.
fn resize(rgb: &Rgb, transform: &Transform, between: &mut Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let Transform {
        resize,
        crop: [left, top],
        size: [width, height],
        ..
    } = *transform;
    let mut middle = View {
        width: rgb.width,
        height: rgb.height,
        data: &rgb.data,
    };
    if resize[0] != rgb.width {
        between.resize(
            (resize[0] as usize * rgb.height as usize * 3).max(between.len()),
            0,
        );
        let rows = rows_seen(rgb.height, transform);
        let source = middle.rows(rows.clone());
        let target = &mut between[row_bytes(&rows, resize[0])];
        convolve(
            source,
            [0, source.width],
            target,
            [resize[0], source.height],
            transform.filter,
        )?;
        // Rows outside of `rows` hold leftovers; no pixel of the crop looks at them.
        middle = View {
            width: resize[0],
            height: rgb.height,
            data: between,
        };
    }
    let window = row_bytes(&(top..top + height), width);
    if resize[1] == rgb.height {
        return Ok(middle.cropped(left..left + width, top..top + height));
    }
    let mut data = vec![0; width as usize * resize[1] as usize * 3];
    convolve(
        middle,
        [left, width],
        &mut data,
        [width, resize[1]],
        transform.filter,
    )?;
    data.truncate(window.end);
    data.drain(..window.start);
    Ok(data)
}

/// The source rows that the crop can see, with one to spare at either end.
fn rows_seen(source: u32, transform: &Transform) -> Range<u32> {
    let scale = f64::from(source) / f64::from(transform.resize[1]);
    let support = match transform.filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    } * scale.max(1.0);
    let first = f64::from(transform.crop[1]) * scale - support - 1.0;
    let last = f64::from(transform.crop[1] + transform.size[1]) * scale + support + 2.0;
    (first.max(0.0) as u32).min(source)..(last as u32).min(source)
}

/// Resizes along the one axis on which source and target differ. `[left, width]` chooses columns of
/// the source; `size` is that of `target`.
fn convolve(
    source: View<'_>,
    [left, width]: [u32; 2],
    target: &mut [u8],
    size: [u32; 2],
    filter: Filter,
) -> Result<(), ImageError> {
    let enlarges = size[0] > width || size[1] > source.height;
    let kernel = match filter {
        Filter::Bilinear => FilterType::Bilinear,
        // Keys' cubic with a = -0.5, which PIL calls bicubic.
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(kernel))
        .crop(left.into(), 0.0, width.into(), source.height.into())
        .use_alpha(false);
    if enlarges && filter != Filter::Bilinear {
        return enlarge(source, target, size, &options);
    }
    let pixel = PixelType::U8x3;
    let source = ImageRef::new(source.width, source.height, source.data, pixel).map_err(failed)?;
    let mut target = Image::from_slice_u8(size[0], size[1], target, pixel).map_err(failed)?;
    // Allocates nothing: its buffers are for two passes at once.
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(failed)
}

/// As [`convolve`], in floats. With bytes, weights near one have 14 bits where PIL has 22, and a
/// cubic or a sinc that overshoots turns two wrong roundings into a difference of 2.
fn enlarge(
    source: View<'_>,
    target: &mut [u8],
    size: [u32; 2],
    options: &ResizeOptions,
) -> Result<(), ImageError> {
    let float = |pixel: &[u8; 3]| F32x3::new(pixel.map(f32::from));
    let pixels: Vec<_> = source.data.as_chunks().0.iter().map(float).collect();
    let source = TypedImageRef::new(source.width, source.height, &pixels).map_err(failed)?;
    let mut floats = TypedImage::<F32x3>::new(size[0], size[1]);
    Resizer::new()
        .resize_typed(&source, &mut floats, options)
        .map_err(failed)?;
    for (target, float) in target.as_chunks_mut().0.iter_mut().zip(floats.pixels()) {
        // The cast cuts off what over- and undershoots.
        *target = float.0.map(|value| (value + 0.5) as u8);
    }
    Ok(())
}

fn failed(error: impl Display) -> ImageError {
    bad(&format!("the resize failed: {error}"))
}

/// Rows of RGB bytes.
#[derive(Clone, Copy)]
struct View<'a> {
    width: u32,
    height: u32,
    data: &'a [u8],
}

impl<'a> View<'a> {
    fn rows(self, rows: Range<u32>) -> Self {
        let data = &self.data[row_bytes(&rows, self.width)];
        Self {
            width: self.width,
            height: rows.end - rows.start,
            data,
        }
    }

    fn cropped(self, columns: Range<u32>, rows: Range<u32>) -> Vec<u8> {
        let columns = row_bytes(&columns, 1);
        let mut data = Vec::with_capacity(columns.len() * rows.len());
        for row in self.rows(rows).data.chunks_exact(self.width as usize * 3) {
            data.extend_from_slice(&row[columns.clone()]);
        }
        data
    }
}

/// Where rows of this width lie in bytes.
fn row_bytes(rows: &Range<u32>, width: u32) -> Range<usize> {
    let row = width as usize * 3;
    rows.start as usize * row..rows.end as usize * row
}

fn crop(rgb: Rgb, transform: &Transform) -> Vec<u8> {
    let Transform {
        crop: [left, top],
        size: [width, height],
        ..
    } = *transform;
    if [width, height] == [rgb.width, rgb.height] {
        return rgb.data;
    }
    let whole = View {
        width: rgb.width,
        height: rgb.height,
        data: &rgb.data,
    };
    whole.cropped(left..left + width, top..top + height)
}

/// Mirrors a row left to right.
fn mirror(row: &mut [u8]) {
    let mut pixels = row.chunks_exact_mut(3);
    while let (Some(left), Some(right)) = (pixels.next(), pixels.next_back()) {
        left.swap_with_slice(right);
    }
}
