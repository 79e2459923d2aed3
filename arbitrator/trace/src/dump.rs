//! Copies of a recording that outlive the ring: few, named by reason, never a flood.
//!
//! An alarm that repeats must not fill a disk or keep a daemon busy writing, so dumps are
//! limited in number (the oldest goes) and in rate. Panics and safety violations are not limited
//! in rate: they end the process.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::entry::utc;
use crate::limits::{DUMP_BURST, DUMP_REFILL, MAX_DUMPS, MAX_PROCESS_BYTES};
use crate::place::{file_safe, prepare_dir};
use crate::recorder::{Recorder, open_private};
use crate::{Error, Result};

const MAX_REASON_CHARS: usize = 48;

impl Recorder {
    /// Copies the ring to `to_dir/PROCESS-TIME-REASON.tfr`, durable, and removes the oldest
    /// dumps beyond the limit. Takes milliseconds on a disk: not for a protocol path.
    pub fn dump(&self, reason: &str, to_dir: &Path) -> Result<PathBuf> {
        let now = Duration::from_nanos(crate::Clock::boot_ns());
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget
            .take(now)
            .map_err(|retry| Error::TooManyDumps { reason: reason.to_owned(), retry })?;
        drop(budget);
        self.record("dump", &[("reason", reason.into()), ("lost", self.lost().into())]);
        self.write_dump(reason, to_dir, false)
    }

    /// As `dump`, from a process that is about to end.
    pub(crate) fn dump_urgent(&self, reason: &str) -> Result<PathBuf> {
        self.write_dump(reason, self.dump_dir(), true)
    }

    fn write_dump(&self, reason: &str, dir: &Path, urgent: bool) -> Result<PathBuf> {
        prepare_dir(dir).map_err(Error::io("using", dir))?;
        let (bytes, sequence) = self.copy(urgent).map_err(Error::io("copying", self.path()))?;
        let stem = dump_prefix(self.process());
        let time = utc(self.clock().wall_ns()).replace([':', '-'], "");
        let reason = file_safe(reason, MAX_REASON_CHARS);
        let path = dir.join(format!("{stem}{time}-{sequence}-{reason}.tfr"));
        let partial = dir.join(format!("{stem}{sequence}.partial"));
        write_durably(&partial, &bytes).and_then(|()| fs::rename(&partial, &path)).map_err(
            |e| {
                let _ = fs::remove_file(&partial);
                Error::io("writing", &path)(e)
            },
        )?;
        remove_oldest(dir, &stem, &path);
        Ok(path)
    }
}

fn dump_prefix(process: &str) -> String {
    format!("{}-", file_safe(process, MAX_PROCESS_BYTES))
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = open_private(path, OFlag::O_TRUNC)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Keeps the newest dumps of this process, and the one just written in any case: after the wall
/// clock stepped back its name sorts first. A file that will not go is tried again next time.
fn remove_oldest(dir: &Path, prefix: &str, just_written: &Path) {
    let Ok(listing) = fs::read_dir(dir) else { return };
    let mut dumps: Vec<PathBuf> = listing
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p != just_written && is_dump_of(p, prefix))
        .collect();
    dumps.sort();
    let surplus = (dumps.len() + 1).saturating_sub(MAX_DUMPS);
    for old in &dumps[..surplus] {
        let _ = fs::remove_file(old);
    }
}

/// A dump's name goes on with a date after the process: "agent@paris-2" has dumps of its own.
fn is_dump_of(path: &Path, prefix: &str) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return false };
    let Some(rest) = name.strip_prefix(prefix).and_then(|r| r.strip_suffix(".tfr")) else {
        return false;
    };
    let rest = rest.as_bytes();
    rest.len() > 9 && rest[..8].iter().all(u8::is_ascii_digit) && rest[8] == b'T'
}

/// A bucket of dumps that fills with time.
#[derive(Debug)]
pub(crate) struct DumpBudget {
    left: u32,
    refilled: Duration,
}

impl DumpBudget {
    pub(crate) fn full() -> Self {
        Self { left: DUMP_BURST, refilled: Duration::ZERO }
    }

    /// Takes one out, or says how long until there is one. `now` is time since boot.
    fn take(&mut self, now: Duration) -> std::result::Result<(), Duration> {
        let elapsed = now.saturating_sub(self.refilled);
        let earned = elapsed.as_secs() / DUMP_REFILL.as_secs();
        if earned > 0 {
            self.left = DUMP_BURST.min(self.left.saturating_add(earned.min(100) as u32));
            self.refilled = now;
        }
        if self.left == 0 {
            return Err(DUMP_REFILL.saturating_sub(now.saturating_sub(self.refilled)));
        }
        if self.left == DUMP_BURST {
            self.refilled = now;
        }
        self.left -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_come_in_a_burst_and_then_one_at_a_time() {
        let mut budget = DumpBudget::full();
        let start = Duration::from_secs(1_000);
        for _ in 0..DUMP_BURST {
            assert_eq!(budget.take(start), Ok(()));
        }
        assert_eq!(budget.take(start), Err(DUMP_REFILL));
        assert_eq!(budget.take(start + DUMP_REFILL), Ok(()));
        assert!(budget.take(start + DUMP_REFILL).is_err());
    }

    #[test]
    fn dumps_of_a_process_with_a_longer_name_are_not_ours() {
        let mine = "agent@paris-";
        assert!(is_dump_of(Path::new("/x/agent@paris-20260102T030405.000001Z-7-cut.tfr"), mine));
        assert!(!is_dump_of(Path::new("/x/agent@paris-2-20260102T030405Z-7-cut.tfr"), mine));
        assert!(!is_dump_of(Path::new("/x/agent@paris.tfr"), mine));
    }
}
