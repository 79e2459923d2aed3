//! Waiting for something, following a file that others append to, directories that do not stay.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

use crate::disk::unmount_below;
use crate::error::{Result, RigError};
use crate::limits::{LOG_TAIL, LOOK};

/// Where [`directory_in`] may make directories that a signal removes.
const PLACES: [&str; 2] = ["/tmp", "/dev/shm"];

/// Looks until there is something, or `within` has gone.
pub fn until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() >= within {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn own_prefix() -> String {
    format!("tierce-rig-{}-", std::process::id())
}

/// A directory of this rig in the usual place, removed when dropped.
pub fn directory(word: &str) -> Result<TempDir> {
    directory_in(&std::env::temp_dir(), word)
}

/// The same in another place.
pub fn directory_in(place: &Path, word: &str) -> Result<TempDir> {
    let prefix = own_prefix() + word;
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(place);
    made.map_err(RigError::system(format!("a directory in {}", place.display())))
}

/// SIGINT and SIGTERM end this process with its directories removed. Its machines end with it in
/// any case. To be called before any other thread is started.
pub fn tidy_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(RigError::system("blocking signals"))?;
    let waiter = std::thread::Builder::new().name("signals".to_owned());
    let waiter = waiter.spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        remove_own_directories();
        std::process::exit(128 + signal as i32);
    });
    waiter.map(drop).map_err(RigError::system("a thread for signals"))
}

fn remove_own_directories() {
    let places = PLACES.iter().map(PathBuf::from).chain([std::env::temp_dir()]);
    for entry in places.flat_map(std::fs::read_dir).flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&own_prefix()) {
            unmount_below(&entry.path());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The complete lines of a file that were not read before.
#[derive(Clone, Debug)]
pub struct Lines {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Lines {
    /// From the beginning of the file, which need not be there yet.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), at: 0, rest: Vec::new() }
    }

    /// From what is there now.
    pub fn from_now(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let at = path.metadata().map_or(0, |m| m.len());
        Self { path, at, rest: Vec::new() }
    }

    /// New lines.
    pub fn next_lines(&mut self) -> Vec<String> {
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.at))?;
            self.at += file.read_to_end(&mut self.rest)? as u64;
            Ok(())
        };
        if read().is_err() {
            return Vec::new();
        }
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let after = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, after);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

/// The end of a log, for an error.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL);
    format!("\n--- {}\n{}", path.display(), lines[from..].join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_once_and_only_when_they_are_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::of(file.path());
        assert!(lines.next_lines().is_empty());
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.next_lines(), ["one"]);
        let mut late = Lines::from_now(file.path());
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(lines.next_lines(), ["two", "three"]);
        assert_eq!(late.next_lines(), ["o", "three"]);
    }
}
