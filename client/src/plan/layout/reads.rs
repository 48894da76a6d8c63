//! The first look-ups in a layout that is mapped from a file, all of a batch at a time.
//!
//! Where a mapping has not been looked at yet, each look-up is a page fault, and each of those several
//! times what a read of four bytes costs; and where the page is not in memory it waits for the disk, one
//! after the other. A run that resumes needs its first batch now. So the first batches are read: the
//! disk is told of all pages before any of them is waited for. Later ones find their pages mapped.

use std::{
    fs::File,
    sync::atomic::{AtomicU32, Ordering},
};

use super::Words;

/// Batches that are read before the mapping is looked at: a window of them, when a run begins.
const READS: u32 = 16;
/// Members of a batch that are read at most; a larger one is worth its faults.
const MAX_MEMBERS: usize = 4096;

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
        let at = |&place: &usize| self.start + (place * Words::BYTES) as u64;
        let mut members: Vec<Option<u32>> = places
            .iter()
            .map(|place| system::at_hand(&self.file, at(place)))
            .collect();
        let missing: Vec<_> = (0..places.len())
            .filter(|&index| members[index].is_none())
            .collect();
        missing
            .iter()
            .for_each(|&index| system::wanted(&self.file, at(&places[index])));
        for index in missing {
            members[index] = system::read(&self.file, at(&places[index]));
        }
        // What cannot be read is left to the mapping, as everything is later.
        members.into_iter().collect()
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{fs::File, io::IoSliceMut, num::NonZeroU64, os::unix::fs::FileExt};

    use rustix::{
        fs::{Advice, fadvise},
        io::{ReadWriteFlags, preadv2},
    };

    use super::Words;

    /// The word at an offset, if it takes no waiting.
    pub(super) fn at_hand(file: &File, at: u64) -> Option<u32> {
        let mut word = [0; Words::BYTES];
        let mut buffer = [IoSliceMut::new(&mut word)];
        let read = preadv2(file, &mut buffer, at, ReadWriteFlags::NOWAIT);
        (read == Ok(Words::BYTES)).then(|| u32::from_le_bytes(word))
    }

    /// Has it brought from the disk. Advice that is not taken costs time alone.
    pub(super) fn wanted(file: &File, at: u64) {
        let _ = fadvise(
            file,
            at,
            NonZeroU64::new(Words::BYTES as u64),
            Advice::WillNeed,
        );
    }

    /// The word at an offset.
    pub(super) fn read(file: &File, at: u64) -> Option<u32> {
        let mut word = [0; Words::BYTES];
        file.read_exact_at(&mut word, at).ok()?;
        Some(u32::from_le_bytes(word))
    }
}

/// Elsewhere there is no telling whether a page is at hand: the mapping does.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;

    pub(super) fn at_hand(_: &File, _: u64) -> Option<u32> {
        None
    }

    pub(super) fn wanted(_: &File, _: u64) {}

    pub(super) fn read(_: &File, _: u64) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn reads_what_is_there_and_then_leaves_it_to_the_mapping() {
        let mut file = tempfile::tempfile().unwrap();
        let words: Vec<u8> = (0..100_u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
        file.write_all(b"head").unwrap();
        file.write_all(&words).unwrap();
        let reads = Reads::new(file, 4);
        for _ in 0..READS {
            assert_eq!(reads.members(&[99, 0, 5]), Some(vec![693, 0, 35]));
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
