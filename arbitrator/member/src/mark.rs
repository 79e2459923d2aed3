//! How far a store has come, noted outside of it where a reboot forgets and no backup reaches (R5).
//!
//! A store cannot tell from inside whether it is an older copy of itself. The others can, but one
//! of them may be down when a process is started again, and waiting for it would cost a lease. So
//! each write that is known to be durable is also noted here, on a tmpfs; as long as the machine is
//! up, the note proves that nothing is missing, or that something is.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tierce_store::StoreId;

/// The note of one store.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    file: File,
    noted: Option<u64>,
    /// The last record that a process before this one knew to be durable.
    pub(crate) seen: Option<u64>,
}

impl Mark {
    /// Reads and keeps the note. Nothing when it cannot be had, or the place outlives a reboot.
    pub(crate) fn open(dir: &Path, store: StoreId) -> Option<Self> {
        let mark = Self::try_open(dir, store);
        if let Err(e) = &mark {
            tracing::warn!(
                dir = %dir.display(),
                "no note is kept of how far the store has come: {e}; started again, this member \
                 will wait for the word of all others"
            );
        }
        mark.ok()
    }

    fn try_open(dir: &Path, store: StoreId) -> std::io::Result<Self> {
        let dir = dir.join("marks");
        fs::create_dir_all(&dir)?;
        if !tierce_trace::is_volatile(&dir) {
            return Err(std::io::Error::other("it is on no tmpfs"));
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let path = dir.join(store.to_string());
        let file = options.open(&path)?;
        let mut bytes = [0; 8];
        let seen = match file.read_at(&mut bytes, 0)? {
            8 => Some(u64::from_le_bytes(bytes)),
            _ => None,
        };
        Ok(Self { path, file, noted: None, seen })
    }

    /// Notes the last record that is durable, in a store in which nothing is missing.
    pub(crate) fn note(&mut self, record: u64) -> std::io::Result<()> {
        if self.noted.replace(record) == Some(record) {
            return Ok(());
        }
        let noted = self.file.write_all_at(&record.to_le_bytes(), 0);
        if noted.is_err() {
            // One that stays behind would prove what is not so.
            let _ = fs::remove_file(&self.path);
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_again_and_only_where_a_reboot_forgets() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = StoreId([7; 16]);
        let mut mark = Mark::open(dir.path(), store).unwrap();
        assert_eq!(mark.seen, None, "nothing was noted");
        mark.note(12).unwrap();
        mark.note(19).unwrap();
        assert_eq!(Mark::open(dir.path(), store).unwrap().seen, Some(19));
        assert_eq!(Mark::open(dir.path(), StoreId([8; 16])).unwrap().seen, None);
        let proc = Path::new("/proc/self");
        assert!(Mark::open(proc, store).is_none());
    }
}
