//! Shows what is in a file of video, and takes some of its frames:
//!
//! ```text
//! cargo run --release -p preheat-clips --example frames -- clip.mp4 [every-nth [width height]]
//! ```

use std::time::Instant;

use preheat_clips::{Cut, Encoding, Ffmpeg, Input, Limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file?")?;
    let numbers: Vec<u32> = arguments
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let (every, resize) = match numbers[..] {
        [] => (1, None),
        [every] => (every, None),
        [every, width, height] => (every, Some([width, height])),
        _ => return Err("at most: every-nth width height".into()),
    };
    let (ffmpeg, limits) = (Ffmpeg::find()?, Limits::default());
    let input = Input::Path(path.into());
    let since = Instant::now();
    let video = ffmpeg.probe(&input, &limits)?;
    println!(
        "{} {}x{}, {} frames in {:.3} s, turned {} degrees; probed in {:?}",
        video.codec,
        video.width,
        video.height,
        video.times.len(),
        video.duration(),
        video.rotation,
        since.elapsed()
    );
    let times = video.times.iter().copied().step_by(every as usize);
    let mut cut = Cut::whole(times.collect(), Encoding::Jpeg { quality: 95 });
    cut.resize = resize;
    let (since, mut bytes, mut frames) = (Instant::now(), 0, 0);
    for frame in ffmpeg.frames(&input, &video, &cut, &limits)? {
        bytes += frame?.len();
        frames += 1;
    }
    println!(
        "{frames} frames, {bytes} bytes of JPEG in {:?}",
        since.elapsed()
    );
    Ok(())
}
