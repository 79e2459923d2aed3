//! Runs a function of this test program again as a process of its own.
#![allow(dead_code, unreachable_pub)] // each test program uses a part

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tierce_trace::{Recorder, RecorderOptions};

const DIR: &str = "TIERCE_TEST_CHILD_DIR";

/// The command that runs test `name` of this program as a child working in `dir`.
pub fn child(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env_remove("TIERCE_LOG")
        .stdin(Stdio::null());
    command
}

/// In a child: the directory to work in. None in the test program itself.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

pub fn small(process: &str, dir: &Path) -> Recorder {
    Recorder::create(RecorderOptions { bytes: 64 << 10, ..RecorderOptions::new(process, dir) })
        .unwrap()
}

/// Reproducible numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
