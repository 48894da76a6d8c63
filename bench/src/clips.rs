//! The sample clips, carried inside the binary, and longer footage made of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use include_dir::{Dir, include_dir};
use preheat_clips::Ffmpeg;

static CLIPS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/clips");

/// Frames a second of [`footage`].
pub const FOOTAGE_RATE: u32 = 24;
/// Frames of one of its files: so many clips may begin in it that no two epochs are the same.
pub const FOOTAGE_FRAMES: u32 = 121;
/// Frames from one key frame to the next, as encoders for the web have them: a clip costs the frames
/// before it, too.
const FOOTAGE_GROUP: &str = "48";

/// The FFmpeg of this machine.
///
/// # Errors
/// Where there is none, or an old one; the error says what to install.
pub fn ffmpeg(what: &str) -> anyhow::Result<Ffmpeg> {
    Ffmpeg::find().with_context(|| format!("{what} reads videos with FFmpeg"))
}

/// Writes `copies` of every sample clip into `folder`.
///
/// # Errors
/// Where the folder cannot be written.
pub fn unpack(folder: &Path, copies: usize) -> anyhow::Result<()> {
    let all = all();
    write(folder, &all, copies * all.len())
}

/// Writes `count` files into `folder`: the sample clips that were not made of JPEGs, again and again.
///
/// # Errors
/// Where the folder cannot be written.
pub fn unpack_videos(folder: &Path, count: usize) -> anyhow::Result<()> {
    write(folder, &videos(), count)
}

fn write(folder: &Path, clips: &[(PathBuf, &[u8])], count: usize) -> anyhow::Result<()> {
    for (number, (name, bytes)) in clips.iter().cycle().take(count).enumerate() {
        let folder = folder.join((number / clips.len()).to_string());
        fs::create_dir_all(&folder).context("creating a folder for the clips")?;
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Those that were not made of JPEGs, sorted by name.
pub fn videos() -> Vec<(PathBuf, &'static [u8])> {
    let mut all = all();
    all.retain(|(name, _)| name.extension().is_some_and(|e| e == "mp4"));
    all
}

/// Name and bytes of every sample clip, sorted by name.
pub fn all() -> Vec<(PathBuf, &'static [u8])> {
    let is_clip = |path: &Path| path.extension().is_some_and(|e| e == "mp4" || e == "avi");
    let files = CLIPS.files().filter(|file| is_clip(file.path()));
    let mut clips: Vec<_> = files
        .map(|file| (file.path().to_owned(), file.contents()))
        .collect();
    clips.sort();
    clips
}

/// How footage is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    /// H.264 in mp4: decoded on the trainer's host.
    H264,
    /// MJPEG in avi: sent as it lies.
    Mjpeg,
}

/// Makes one file of real footage in `folder`: a sample clip, forwards and again, scaled.
///
/// # Errors
/// Where FFmpeg cannot encode it.
pub fn footage(
    ffmpeg: &Ffmpeg,
    (folder, number): (&Path, usize),
    codec: Codec,
    [width, height]: [u32; 2],
) -> anyhow::Result<PathBuf> {
    let videos = videos();
    let (_, bytes) = videos[number % videos.len()];
    let source = folder.join("source");
    fs::write(&source, bytes).context("writing a clip")?;
    // One frame after the other at the rate of the file, whatever the clip's: none dropped or doubled.
    let scale = format!("scale={width}:{height}:flags=bicubic,setpts=N/({FOOTAGE_RATE}*TB)");
    let (name, encoder): (_, &[&str]) = match codec {
        Codec::H264 => ("mp4", &["libx264", "-preset", "veryfast", "-crf", "20"]),
        // The tables that all decoders know, so that frames need nothing added.
        Codec::Mjpeg => ("avi", &["mjpeg", "-q:v", "3", "-huffman", "default"]),
    };
    let path = folder.join(format!("{number:05}.{name}"));
    let made = Command::new(ffmpeg.ffmpeg())
        .args(["-y", "-v", "error", "-nostdin", "-stream_loop", "-1"])
        .arg("-i")
        .arg(&source)
        .args(["-frames:v", &FOOTAGE_FRAMES.to_string(), "-vf", &scale])
        .args(["-r", &FOOTAGE_RATE.to_string(), "-g", FOOTAGE_GROUP, "-an"])
        .arg("-c:v")
        .args(encoder)
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .context("starting FFmpeg")?;
    let _ = fs::remove_file(&source);
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(
        made.status.success(),
        "FFmpeg cannot make {}: {}",
        path.display(),
        said.trim()
    );
    Ok(path)
}
