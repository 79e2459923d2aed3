//! A site's wall clock: libfaketime (package faketime) stands between its daemon and the system's,
//! and reads what it is to show from a file.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;

const HOUR_SECONDS: f64 = 3_600.0;

#[derive(Debug)]
pub(crate) struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// Right until told otherwise; `file` is where it is set.
    pub(crate) fn new(file: PathBuf) -> anyhow::Result<Self> {
        let places = std::fs::read_dir("/usr/lib")?.flatten().map(|e| e.path());
        let found = places.map(|p| p.join("faketime/libfaketimeMT.so.1")).find(|p| p.is_file());
        let library = found.context("libfaketime is missing; install the package faketime")?;
        let clock = Self { library, file };
        clock.set_right()?;
        Ok(clock)
    }

    /// What a daemon needs to be under it. Clocks that decide are left alone: they do not step.
    pub(crate) fn environment(&self) -> Vec<(String, OsString)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.file.clone().into()),
            ("FAKETIME_CACHE_DURATION".to_owned(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".into()),
        ]
    }

    /// Steps by up to an hour: back below a half, forward above.
    pub(crate) fn step(&self, much: f64) -> anyhow::Result<()> {
        let by = ((much - 0.5) * 2.0 * HOUR_SECONDS) as i64;
        self.write(&format!("{by:+}"))
    }

    pub(crate) fn set_right(&self) -> anyhow::Result<()> {
        self.write("+0")
    }

    fn write(&self, what: &str) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let set = std::fs::write(&new, format!("{what}\n"));
        set.and_then(|()| std::fs::rename(&new, &self.file)).context("setting the wall clock")
    }
}
