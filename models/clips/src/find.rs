//! Finding FFmpeg, and checking that it is one.

use std::{
    env,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use crate::{ClipError, Limits, child::Child};

/// The oldest release that is known to do: that of the oldest distribution still supported.
const OLDEST: (u32, u32) = (4, 4);
const OLDEST_NAME: &str = "4.4";
/// From here on `-vsync` is called `-fps_mode`.
const FPS_MODE: (u32, u32) = (5, 1);
/// A program that does not say its version in this time never will; cold disks take seconds.
const VERSION_WALL: Duration = Duration::from_secs(20);
/// An answer to `-version` is some 2 KiB, of which the first line matters.
const VERSION_BYTES: usize = 512;

/// An FFmpeg that was found and that is new enough. Cheap to clone; use one for all clips.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    found: Arc<Found>,
}

#[derive(Debug)]
struct Found {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    version: String,
    fps_mode: bool,
}

impl Ffmpeg {
    /// Looks for `ffmpeg` and `ffprobe` in the variables `PREHEAT_FFMPEG` and `PREHEAT_FFPROBE`, else
    /// in `PATH`, and asks both for their version.
    ///
    /// # Errors
    ///
    /// [`ClipError::Missing`] and [`ClipError::Version`], which say what to install.
    pub fn find() -> Result<Self, ClipError> {
        let ffmpeg = look("ffmpeg", "PREHEAT_FFMPEG")?;
        let ffprobe = look("ffprobe", "PREHEAT_FFPROBE")?;
        Self::at(ffmpeg, ffprobe)
    }

    /// These two binaries, by their paths.
    ///
    /// # Errors
    ///
    /// [`ClipError::Missing`] and [`ClipError::Version`].
    pub fn at(ffmpeg: impl Into<PathBuf>, ffprobe: impl Into<PathBuf>) -> Result<Self, ClipError> {
        let (ffmpeg, ffprobe) = (ffmpeg.into(), ffprobe.into());
        let version = ask("ffmpeg", &ffmpeg)?;
        ask("ffprobe", &ffprobe)?;
        let fps_mode = number(&version).is_none_or(|number| number >= FPS_MODE);
        Ok(Self {
            found: Arc::new(Found {
                ffmpeg,
                ffprobe,
                version,
                fps_mode,
            }),
        })
    }

    /// Its version, as it says: `5.1.6`, `n7.1`, ...
    #[must_use]
    pub fn version(&self) -> &str {
        &self.found.version
    }

    /// Where its `ffmpeg` is, for programs that make videos.
    #[must_use]
    pub fn ffmpeg(&self) -> &Path {
        &self.found.ffmpeg
    }

    pub(crate) fn ffprobe(&self) -> &Path {
        &self.found.ffprobe
    }

    /// The option that keeps FFmpeg from dropping and repeating frames.
    pub(crate) fn every_frame(&self) -> [&'static str; 2] {
        if self.found.fps_mode {
            ["-fps_mode", "passthrough"]
        } else {
            ["-vsync", "passthrough"]
        }
    }
}

fn look(program: &'static str, variable: &str) -> Result<PathBuf, ClipError> {
    if let Some(named) = env::var_os(variable).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            std::path::absolute(path).map_err(|source| ClipError::Io {
                doing: format!("{variable} names no path"),
                source,
            })
        } else {
            Err(ClipError::Missing {
                program,
                looked: format!("{variable} is {}", path.display()),
            })
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // Made absolute, because the child works in another directory.
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .and_then(|candidate| std::path::absolute(candidate).ok())
        .ok_or(ClipError::Missing {
            program,
            looked: format!("{variable} is not set, and no directory of PATH has it"),
        })
}

/// The version in the first line of `ffmpeg version X Copyright ...`.
fn ask(program: &'static str, path: &Path) -> Result<String, ClipError> {
    if !path.is_file() {
        return Err(ClipError::Missing {
            program,
            looked: format!("there is no file {}", path.display()),
        });
    }
    let limits = Limits {
        wall: VERSION_WALL,
        ..Limits::default()
    };
    let mut child = Child::spawn(path, &["-version".into()], Stdio::null(), &limits)?;
    let mut answer = vec![0; VERSION_BYTES];
    let length = child.read_full(&mut answer).or_else(|error| match error {
        ClipError::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => Err(other),
    })?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    let line = answer.lines().next().unwrap_or_default();
    let version = line
        .strip_prefix(program)
        .and_then(|rest| rest.strip_prefix(" version "))
        .and_then(|rest| rest.split_whitespace().next());
    match version {
        // Builds from a repository have no number, and are new.
        Some(version) if number(version).is_none_or(|number| number >= OLDEST) => {
            Ok(version.to_owned())
        }
        _ => Err(ClipError::Version {
            program: path.to_owned(),
            said: if line.is_empty() {
                child.said().to_owned()
            } else {
                line.to_owned()
            },
            oldest: OLDEST_NAME,
        }),
    }
}

/// Major and minor, of `5.1.9-0+deb12u1` or `n7.1`; none of `N-109542-g3b2c4e2` or `git-2024`.
fn number(version: &str) -> Option<(u32, u32)> {
    let version = version.strip_prefix('n').unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse().ok());
    Some((major, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn versions_as_distributions_write_them() {
        assert_eq!(number("5.1.9-0+deb12u1"), Some((5, 1)));
        assert_eq!(number("n7.1"), Some((7, 1)));
        assert_eq!(number("8"), Some((8, 0)));
        assert_eq!(number("4.4.2-0ubuntu0.22.04.1"), Some((4, 4)));
        assert_eq!(number("N-109542-g3b2c4e2"), None);
        assert_eq!(number("git-2024-01-01-abc"), None);
    }
}
