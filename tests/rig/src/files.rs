//! Waiting for something, and following a file that others append to.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::limits::{LOG_TAIL, LOOK};

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
