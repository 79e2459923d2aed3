//! The session file of the index: what became of it last time.
//!
//! sled never asks the disk to keep what it writes, so after a power cut its contents are a guess
//! even when it opens; after a killed process they are not, for the kernel lives on. The boot id
//! tells the two apart. And a damaged sled may panic while it opens, which ends the process: so the
//! attempt is noted first, and an index on which attempts died is set aside instead of killing the
//! process forever.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the last session got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Closed in order and synced, with this checksum over its files.
    Closed(u32),
    /// It was open and was not closed.
    Open,
    /// So many attempts to open it did not return.
    Opening(u32),
    /// Damage was met.
    Damaged,
}

/// The open, locked session file.
#[derive(Debug)]
pub(crate) struct Session {
    file: File,
    boot: String,
}

impl Session {
    /// Opens and locks the file. `None` when another process holds it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Session>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // Without a boot id every session looks like one before a power cut: that only costs time.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Some(Session { file, boot: boot.trim().to_owned() }))
    }

    /// The state it was left in, and whether the machine has run on since. Unreadable: `None`.
    pub(crate) fn last(&mut self) -> io::Result<Option<(State, bool)>> {
        let mut text = String::new();
        match self.file.read_to_string(&mut text) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(e) => return Err(e),
        }
        let mut words = text.split_whitespace();
        let state = match (words.next(), words.next().and_then(|n| n.parse().ok())) {
            (Some("closed"), Some(checksum)) => State::Closed(checksum),
            (Some("open"), _) => State::Open,
            (Some("opening"), Some(attempts)) => State::Opening(attempts),
            (Some("damaged"), _) => State::Damaged,
            _ => return Ok(None),
        };
        let same_boot = !self.boot.is_empty() && words.next() == Some(self.boot.as_str());
        Ok(Some((state, same_boot)))
    }

    /// Notes a state, durably.
    pub(crate) fn note(&self, state: State) -> io::Result<()> {
        let (word, number) = match state {
            State::Closed(checksum) => ("closed", checksum),
            State::Open => ("open", 0),
            State::Opening(attempts) => ("opening", attempts),
            State::Damaged => ("damaged", 0),
        };
        // Fixed width: an older, longer text never shows through.
        let text = format!("{word:<8} {number:>10} {:<40}\n", self.boot);
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.sync_all()
    }
}
