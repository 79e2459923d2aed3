//! The one thing that the runner remembers across its own death: until when its lease ran.
//!
//! A restarted agent leaves alone what runs, for a while, in the hope of an order to run it. That
//! while must not reach beyond the lease of the agent before, whether a guard is there or not. The
//! file is written at every renewal and never synced: it has to outlive the process, not the
//! machine, and the boot's identity in it tells the two apart.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tierce_ticket::time::HolderTime;

use super::clock;

/// Digits of the largest instant.
const WIDTH: usize = 20;

/// The file.
pub(crate) struct Memory {
    file: Option<File>,
    boot: String,
}

impl Memory {
    /// Opens it and says what the agent before had: the deadline of its last lease in this boot.
    pub(crate) fn open(data: &Path) -> (Self, Option<HolderTime>) {
        let path = data.join("runner.lease");
        let boot = clock::boot_id();
        let before = std::fs::read_to_string(&path).ok().and_then(|text| {
            let (of, at) = text.trim().split_once(' ')?;
            (of == boot && !boot.is_empty()).then(|| at.parse().ok())?
        });
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        if let Err(error) = &open {
            tracing::warn!(path = %path.display(), %error, "the lease is not remembered");
        }
        (Self { file: open.ok(), boot }, before.map(HolderTime::from_nanos))
    }

    /// Remembers the deadline in force.
    pub(crate) fn keep(&self, deadline: HolderTime) {
        if let Some(file) = &self.file {
            let line = format!("{} {:0WIDTH$}\n", self.boot, deadline.as_nanos());
            let _ = file.write_all_at(line.as_bytes(), 0); // the guard is what enforces
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lease_is_remembered_within_a_boot_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let (memory, before) = Memory::open(dir.path());
        assert_eq!(before, None);
        memory.keep(HolderTime::from_nanos(5_000_000_000));
        memory.keep(HolderTime::from_nanos(17));
        assert_eq!(Memory::open(dir.path()).1, Some(HolderTime::from_nanos(17)));
        std::fs::write(dir.path().join("runner.lease"), "another-boot 00000000000000000017\n")
            .unwrap();
        assert_eq!(Memory::open(dir.path()).1, None);
        std::fs::write(dir.path().join("runner.lease"), "garbage").unwrap();
        assert_eq!(Memory::open(dir.path()).1, None);
    }
}
