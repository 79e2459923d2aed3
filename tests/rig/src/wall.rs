//! A daemon's wall clock: libfaketime (package faketime) stands between it and the system's, and
//! reads what it is to show from a file. Clocks that do not step are left alone.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Result, RigError};

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of those that are started with its [environment](WallClock::environment).
#[derive(Clone, Debug)]
pub struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// Right until told otherwise; `file` is where it is set.
    pub fn new(file: PathBuf) -> Result<Self> {
        let places = std::fs::read_dir("/usr/lib").map_err(RigError::system("/usr/lib"))?;
        let found = places.flatten().map(|e| e.path().join(LIBRARY)).find(|p| p.is_file());
        let next = || "apt-get install faketime".to_owned();
        let missing = || RigError::Missing { path: LIBRARY.into(), next: next() };
        let clock = Self { library: found.ok_or_else(missing)?, file };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a daemon needs to be under it.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.file.clone().into()),
            ("FAKETIME_CACHE_DURATION".to_owned(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".into()),
        ]
    }

    /// So many seconds from the right time; seen within a second.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        let set = std::fs::write(&new, format!("{seconds:+}\n"));
        let set = set.and_then(|()| std::fs::rename(&new, &self.file));
        set.map_err(RigError::system("setting a wall clock"))
    }
}
