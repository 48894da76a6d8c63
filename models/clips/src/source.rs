//! MJPEG passed through: the stream's own JPEGs.

mod huffman;

use crate::{ClipError, Limits, Video, child::Child};
pub(crate) use huffman::ready;

/// FFmpeg's `smjpeg` is a stream of frames with their times in milliseconds: `vidD`, time, length,
/// JPEG; after a header that ends with `HEND`.
const START: [u8; 4] = *b"\0\nSM";
const FRAME: [u8; 4] = *b"vidD";
const HEADER_END: [u8; 4] = *b"HEND";
/// Its header has some 50 bytes.
const MAX_HEADER: usize = 4096;
/// A JPEG of more bytes a pixel than this is none.
const MAX_BYTES_A_PIXEL: u64 = 8;

/// The JPEG of this time, as it lies in the file.
pub(crate) fn source_frame(
    child: &mut Child,
    video: &Video,
    time: i64,
    limits: &Limits,
) -> Result<Vec<u8>, ClipError> {
    let at = video.seconds(time);
    let missing = "its frame is not in the file";
    let wanted = millis(video, time);
    loop {
        let mut tag = [0; 4];
        if child.read_full(&mut tag)? < 4 {
            return Err(child.failure(limits, at, missing));
        }
        if tag == START {
            skip_header(child)?;
            continue;
        }
        let mut head = [0; 8];
        if tag != FRAME || child.read_full(&mut head)? < 8 {
            return Err(child.failure(limits, at, missing));
        }
        let [t0, t1, t2, t3, l0, l1, l2, l3] = head;
        let (millis, length) = (
            i32::from_be_bytes([t0, t1, t2, t3]),
            u64::from(u32::from_be_bytes([l0, l1, l2, l3])),
        );
        let most =
            u64::from(video.width) * u64::from(video.height) * MAX_BYTES_A_PIXEL + (64 << 10);
        if length > most {
            return Err(ClipError::TooLarge {
                what: "a JPEG of the stream",
                is: format!("{length} bytes"),
                most: format!("{most} bytes"),
            });
        }
        let mut jpeg = vec![0; usize::try_from(length).unwrap_or(0)];
        if child.read_full(&mut jpeg)? < jpeg.len() {
            return Err(child.failure(limits, at, missing));
        }
        match i64::from(millis).cmp(&wanted) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(jpeg),
            std::cmp::Ordering::Greater => {
                return Err(ClipError::Damaged {
                    at,
                    reason: missing.into(),
                });
            }
        }
    }
}

/// A timestamp in milliseconds, rounded as FFmpeg rounds: to the nearest, halves away from zero.
fn millis(video: &Video, time: i64) -> i64 {
    let (num, den) = (i128::from(video.time_base.0), i128::from(video.time_base.1));
    let scaled = i128::from(time) * num * 1000;
    let rounded = (2 * scaled.abs() + den) / (2 * den) * scaled.signum();
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

fn skip_header(child: &mut Child) -> Result<(), ClipError> {
    let mut seen = [0; 4];
    for _ in 0..MAX_HEADER {
        let mut byte = [0];
        if child.read_full(&mut byte)? == 0 {
            return Ok(());
        }
        seen.rotate_left(1);
        seen[3] = byte[0];
        if seen == HEADER_END {
            return Ok(());
        }
    }
    Ok(())
}
