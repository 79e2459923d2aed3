//! The few system steps that every file of a store needs, each with its error in words.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::error::StoreError;
use crate::limits::ROOM_BYTES;

/// Zeros are written in pieces of this size.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Turns what the system said into what the operator reads.
pub(crate) fn failed(doing: &'static str, file: &Path, source: io::Error) -> StoreError {
    let full = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG];
    if source.raw_os_error().is_some_and(|code| full.contains(&code)) {
        return StoreError::Full { doing, file: file.to_path_buf() };
    }
    StoreError::Io { doing, file: file.to_path_buf(), source: Arc::new(source) }
}

/// Whether there is room to go on in a store's directory, or where it will be made. To be asked
/// before a store is opened for use: one that a full disk has stopped would be stopped again by
/// its next decision, and a voter that comes and goes is worse than one that is away.
///
/// It only looks. To try by writing would take the last room from somebody who needs it just then.
/// What it cannot see (a user's quota, a file system that does not tell) counts as room: the next
/// write says more.
pub fn check_room(dir: &Path) -> Result<(), StoreError> {
    let there = dir.ancestors().map(statvfs).find(|told| !matches!(told, Err(Errno::ENOENT)));
    let Some(Ok(told)) = there else { return Ok(()) };
    if told.blocks() == 0 {
        return Ok(());
    }
    // Some file systems keep a part for root.
    let blocks = if geteuid().is_root() { told.blocks_free() } else { told.blocks_available() };
    let free = blocks.saturating_mul(told.fragment_size());
    if free < ROOM_BYTES {
        return Err(StoreError::NoRoom { dir: dir.to_path_buf(), free });
    }
    Ok(())
}

/// Damage, in words.
pub(crate) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> StoreError {
    StoreError::Damaged { file: file.to_path_buf(), offset, what: what.into() }
}

/// Makes creations, renames and deletions in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(|e| failed("opening", dir, e))?;
    opened.sync_all().map_err(|e| failed("syncing the directory", dir, e))
}

/// Makes the kernel read from the disk what it will be asked for next.
///
/// After a failed sync the kernel keeps the pages, marks them clean and shows them to readers,
/// although the disk never got them. Whoever recovers from such pages believes in records that the
/// next power cut takes away. So: first push what is dirty, then drop what is clean, then read.
pub(crate) fn settle(file: &File, path: &Path) -> Result<(), StoreError> {
    file.sync_data().map_err(|e| failed("syncing", path, e))?;
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|e| failed("dropping cached pages of", path, e.into()))
}

/// Writes zeros from `from` up to `to`, so that later writes there change no metadata.
pub(crate) fn write_zeros(file: &File, path: &Path, from: u64, to: u64) -> Result<(), StoreError> {
    let mut at = from;
    while at < to {
        let piece = (to - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..piece], at).map_err(|e| failed("preallocating", path, e))?;
        at += piece as u64;
    }
    Ok(())
}

/// Reads as much as there is, up to the length of `into`.
pub(crate) fn read_up_to(file: &File, into: &mut [u8], from: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], from + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// A byte writer for the fixed layouts of headers and control files: little-endian, in order.
#[derive(Default)]
pub(crate) struct Packer(pub(crate) Vec<u8>);

impl Packer {
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Packer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Packer {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Packer {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Packer {
        let length = text.len() as u32;
        self.u32(length).bytes(text.as_bytes())
    }
}

/// Its counterpart: total, returns `None` at the first thing that does not fit.
pub(crate) struct Unpacker<'a>(pub(crate) &'a [u8]);

impl<'a> Unpacker<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    /// The rest must be zero: a sector is padded with zeros and nothing else.
    pub(crate) fn only_zeros_left(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}
