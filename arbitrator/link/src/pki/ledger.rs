//! What an authority remembers: one JSON object per line, appended and synced before it counts.
//!
//! Lines are never changed. A line without its newline at the end of the file is a write that a
//! crash cut short; nobody was told of it, so it is cut off. A damaged line before the end is not
//! explained by any crash: it is refused, because a forgotten "used" would let an invitation be
//! used twice.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PkiError;
use super::cert::Serial;
use crate::error::at;
use crate::identity::Identity;
use crate::limits::MAX_PKI_FILE_BYTES;

/// One line. Times are seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub(super) enum Entry {
    /// A certificate was signed.
    Issued { at: u64, identity: Identity, serial: Serial, not_before: u64, not_after: u64 },
    /// Somebody was invited; only the hash of the secret is kept.
    Invited { at: u64, identity: Identity, hash: String, expires: u64, addresses: Vec<String> },
    /// The invitation with this hash is spent.
    Used { at: u64, hash: String },
    /// A certificate was taken back.
    Revoked { at: u64, serial: Serial },
}

/// The ledger, opened and locked against other processes until it is dropped.
pub(super) struct Ledger {
    file: File,
    path: PathBuf,
    pub(super) entries: Vec<Entry>,
}

impl Ledger {
    /// Opens, locks, repairs a torn end and reads.
    pub(super) fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("ledger.jsonl");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        // Released when the file is closed. Held for a few disk syncs at most.
        file.lock().map_err(at(&path))?;
        let mut text = Vec::new();
        (&mut file).take(MAX_PKI_FILE_BYTES + 1).read_to_end(&mut text).map_err(at(&path))?;
        let damaged = |what: String| PkiError::Damaged { path: path.clone(), what };
        if text.len() as u64 > MAX_PKI_FILE_BYTES {
            return Err(damaged("the ledger is larger than 16 MiB".into()));
        }
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
            text.truncate(whole);
        }
        let mut entries = Vec::new();
        for (index, line) in text.split(|&b| b == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let entry = serde_json::from_slice(line)
                .map_err(|e| damaged(format!("line {} is not an entry: {e}", index + 1)))?;
            entries.push(entry);
        }
        Ok(Self { file, path, entries })
    }

    /// Appends lines durably.
    pub(super) fn append(&mut self, new: &[Entry]) -> Result<(), PkiError> {
        let mut lines = Vec::new();
        for entry in new {
            serde_json::to_writer(&mut lines, entry)
                .map_err(PkiError::crypto("writing a ledger entry"))?;
            lines.push(b'\n');
        }
        let before = self.file.seek(SeekFrom::End(0)).map_err(at(&self.path))?;
        if before + lines.len() as u64 > MAX_PKI_FILE_BYTES {
            let what = "the ledger has reached its bound of 16 MiB".to_owned();
            return Err(PkiError::Damaged { path: self.path.clone(), what });
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_all());
        if let Err(source) = written {
            // Take back what may stand there in part: the caller is told that nothing happened.
            let _ = self.file.set_len(before);
            let _ = self.file.sync_all();
            return Err(PkiError::File { path: self.path.clone(), source });
        }
        self.entries.extend_from_slice(new);
        Ok(())
    }

    pub(super) fn is_used(&self, hash: &str) -> bool {
        self.entries.iter().any(|e| matches!(e, Entry::Used { hash: h, .. } if h == hash))
    }

    pub(super) fn is_revoked(&self, serial: &Serial) -> bool {
        self.entries.iter().any(|e| matches!(e, Entry::Revoked { serial: s, .. } if s == serial))
    }

    /// Who has this name, by a certificate or an invitation that still counts.
    pub(super) fn holder_of(&self, who: &Identity, now: u64) -> Option<&Identity> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Issued { identity, serial, not_after, .. }
                if identity.name == who.name
                    && identity.role != who.role
                    && *not_after > now
                    && !self.is_revoked(serial) =>
            {
                Some(identity)
            }
            Entry::Invited { identity, hash, expires, .. }
                if identity.name == who.name
                    && identity.role != who.role
                    && *expires > now
                    && !self.is_used(hash) =>
            {
                Some(identity)
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(hash: &str) -> Entry {
        Entry::Used { at: 1, hash: hash.into() }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_what_was_acknowledged_stays() {
        let dir = tempfile::tempdir().unwrap();
        Ledger::open(dir.path()).unwrap().append(&[used("aa"), used("bb")]).unwrap();
        let path = dir.path().join("ledger.jsonl");
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..60 {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&whole[..torn.min(whole.len() / 2 - 1)]);
            std::fs::write(&path, &bytes).unwrap();
            let ledger = Ledger::open(dir.path()).unwrap();
            assert!(ledger.is_used("aa") && ledger.is_used("bb"));
            assert_eq!(ledger.entries.len(), 2);
            drop(ledger);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn damage_before_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Ledger::open(dir.path()).unwrap().append(&[used("aa"), used("bb")]).unwrap();
        let path = dir.path().join("ledger.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Ledger::open(dir.path()), Err(PkiError::Damaged { .. })));
    }
}
