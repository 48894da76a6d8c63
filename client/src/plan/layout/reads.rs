//! The first look-ups in a layout that is mapped from a file, all of a batch at a time.
//!
//! Where a mapping has not been looked at yet, each look-up is a page fault, and each of those several
//! times what a read of four bytes costs; and where the page is not in memory it waits for the disk, one
//! after the other. A run that resumes needs its first batch now. So the first batches are read, members
//! that are near each other in one go, and the disk is told of all pages before any of them is waited
//! for. Later ones find their pages mapped.

use std::{
    fs::File,
    sync::atomic::{AtomicU32, Ordering},
};

use super::Words;

/// Batches that are read before the mapping is looked at: a window of them, when a run begins.
const READS: u32 = 16;
/// Members of a batch that are read at most; a larger one is worth its faults.
const MAX_MEMBERS: usize = 4096;
/// Members at most so far apart are read together, with all between them: a page, which costs less
/// to copy than to ask for. A read is then of 16 MiB at most.
const NEAR: usize = 4096 / Words::BYTES;

/// The members of a layout, in the file that they are mapped from.
#[derive(Debug)]
pub(crate) struct Reads {
    file: File,
    /// Where they begin, in bytes.
    start: u64,
    left: AtomicU32,
}

impl Reads {
    pub(crate) fn new(file: File, start: u64) -> Self {
        let left = AtomicU32::new(READS);
        Self { file, start, left }
    }

    /// The members at these places of the list; `None` where the mapping will do.
    pub(super) fn members(&self, places: &[usize]) -> Option<Vec<u32>> {
        let take = |left: u32| left.checked_sub(1);
        let (order, again) = (Ordering::Relaxed, Ordering::Relaxed);
        if places.len() > MAX_MEMBERS || self.left.fetch_update(order, again, take).is_err() {
            return None;
        }
        let mut sorted: Vec<(usize, usize)> = places.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|(place, _), (next, _)| next - place <= NEAR);
        let mut members = vec![0; places.len()];
        let mut buffer = Vec::new();
        let mut missing = Vec::new();
        for run in runs {
            let at = self.room(run, &mut buffer);
            if system::at_hand(&self.file, &mut buffer, at) {
                hand_out(run, &buffer, &mut members);
            } else {
                system::wanted(&self.file, buffer.len(), at);
                missing.push(run);
            }
        }
        for run in missing {
            let at = self.room(run, &mut buffer);
            // What cannot be read is left to the mapping, as everything is later.
            system::read(&self.file, &mut buffer, at).ok()?;
            hand_out(run, &buffer, &mut members);
        }
        Some(members)
    }

    /// Where in the file a run of places begins; makes `buffer` as long as the run.
    fn room(&self, run: &[(usize, usize)], buffer: &mut Vec<u8>) -> u64 {
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        buffer.resize((last - first + 1) * Words::BYTES, 0);
        self.start + (first * Words::BYTES) as u64
    }
}

/// Puts the members of a run where they were asked for.
fn hand_out(run: &[(usize, usize)], bytes: &[u8], members: &mut [u32]) {
    let words = bytes.as_chunks().0;
    for &(place, index) in run {
        members[index] = u32::from_le_bytes(words[place - run[0].0]);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{
        fs::File,
        io::{self, IoSliceMut},
        num::NonZeroU64,
        os::unix::fs::FileExt,
    };

    use rustix::{
        fs::{Advice, fadvise},
        io::{ReadWriteFlags, preadv2},
    };

    /// Fills a buffer with what is at an offset, if it takes no waiting.
    pub(super) fn at_hand(file: &File, buffer: &mut [u8], at: u64) -> bool {
        let wanted = buffer.len();
        let mut buffer = [IoSliceMut::new(buffer)];
        preadv2(file, &mut buffer, at, ReadWriteFlags::NOWAIT) == Ok(wanted)
    }

    /// Has it brought from the disk. Advice that is not taken costs time alone.
    pub(super) fn wanted(file: &File, bytes: usize, at: u64) {
        let _ = fadvise(file, at, NonZeroU64::new(bytes as u64), Advice::WillNeed);
    }

    /// Fills a buffer with what is at an offset.
    pub(super) fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(buffer, at)
    }
}

/// Elsewhere there is no telling whether a page is at hand: the mapping does.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::{fs::File, io};

    pub(super) fn at_hand(_: &File, _: &mut [u8], _: u64) -> bool {
        false
    }

    pub(super) fn wanted(_: &File, _: usize, _: u64) {}

    pub(super) fn read(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn reads_what_is_there_and_then_leaves_it_to_the_mapping() {
        let mut file = tempfile::tempfile().unwrap();
        let words: Vec<u8> = (0..9000_u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
        file.write_all(b"head").unwrap();
        file.write_all(&words).unwrap();
        let reads = Reads::new(file, 4);
        for _ in 0..READS {
            // Two runs, the same place twice, and the last one.
            let members = reads.members(&[8999, 0, 5, 8990, 5]);
            assert_eq!(members, Some(vec![62_993, 0, 35, 62_930, 35]));
        }
        assert_eq!(reads.members(&[1]), None);
    }

    #[test]
    fn a_file_that_was_cut_off_is_left_to_the_mapping() {
        let reads = Reads::new(tempfile::tempfile().unwrap(), 0);
        assert_eq!(reads.members(&[3]), None);
        assert_eq!(reads.members(&vec![0; MAX_MEMBERS + 1]), None);
    }
}
