//! What can go wrong, what follows from it, and what to do next.

use std::path::PathBuf;
use std::time::Duration;

/// Errors of logging and of the flight recorder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the recorder could not be used.
    #[error(
        "{doing} {path}: {source}; no recording there; check the directory, its owner and space"
    )]
    Io {
        /// What was attempted, as a verb in progress.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// None of the usual places can hold a recording.
    #[error("no usable directory for the flight recorder (tried {tried}); name one in the options")]
    NoPlace {
        /// The places tried, with the reason for each.
        tried: String,
    },
    /// Another process of this name records there.
    #[error(
        "{path} belongs to a running process of the same name; nothing was touched; \
         stop that process or give this one another recorder directory"
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// A setting is outside its bounds.
    #[error("{what} is {found}, allowed is {allowed}; correct the options")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        found: String,
        /// Its bounds.
        allowed: String,
    },
    /// The log filter does not parse.
    #[error(
        "log filter {filter:?}: {reason}; logging not started; write e.g. info,tierce_link=debug"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What the parser said.
        reason: String,
    },
    /// `init` was called before in this process.
    #[error("logging was already started in this process; the first settings stay; call init once")]
    AlreadyStarted,
    /// There is no recorder in this process.
    #[error("this process has no flight recorder; nothing dumped; start it with one")]
    NoRecorder,
    /// Dumps follow too closely.
    #[error(
        "dump {reason:?} skipped: too many in short time; retry in {retry:?}, or read the ring"
    )]
    TooManyDumps {
        /// The reason given for the dump.
        reason: String,
        /// When one is allowed again.
        retry: Duration,
    },
    /// The file is no recording.
    #[error("{path}: {why}; not read; name a .tfr file of this version")]
    NotARecording {
        /// The file.
        path: PathBuf,
        /// What gives it away.
        why: String,
    },
}

impl Error {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
