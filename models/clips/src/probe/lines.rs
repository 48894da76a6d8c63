//! The lines of ffprobe's `compact` form.

use crate::{ClipError, child::Child};

/// One read of its output.
const READ: usize = 64 << 10;
/// The longest line that is believed; ffprobe's have some hundred bytes.
const MAX_LINE: usize = 64 << 10;

/// Lines of a child's output, one by one.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    at: usize,
}

impl Lines {
    /// The next line; none at the end.
    pub(super) fn next(&mut self, child: &mut Child) -> Result<Option<String>, ClipError> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.at += end + 1;
                return Ok(Some(line));
            }
            if rest.len() > MAX_LINE {
                return Err(ClipError::Crashed {
                    how: "answered what it does not answer".into(),
                    at: 0.0,
                    said: format!("a line of more than {MAX_LINE} bytes"),
                });
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let length = self.buffer.len();
            self.buffer.resize(length + READ, 0);
            let read = child.read(&mut self.buffer[length..])?;
            self.buffer.truncate(length + read);
            if read == 0 {
                // Half a line is what a crash leaves.
                return Ok(None);
            }
        }
    }
}

/// `key=value|key=value`.
pub(super) fn fields(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('|').filter_map(|field| field.split_once('='))
}
