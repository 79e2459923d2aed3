//! What can go wrong with a rig: what, effect, next step.

use std::path::PathBuf;
use std::time::Duration;

/// Result of the rig's operations.
pub type Result<T> = std::result::Result<T, RigError>;

/// Why the rig cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A call to the system failed.
    #[error("{what}: {source}; the rig cannot go on; it needs root, /dev/net/tun and namespaces")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program did not do what it was told.
    #[error("{what} ended with {code:?}: {said}; the rig cannot go on; run it by hand")]
    Program {
        /// Which.
        what: String,
        /// Exit code.
        code: Option<i32>,
        /// Its stderr.
        said: String,
    },
    /// A program is missing.
    #[error("{} is not there; the rig runs real programs; {next}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// How to get it.
        next: String,
    },
    /// Something did not happen in time.
    #[error("not within {within:?}: {what}; the rig cannot go on; look at the members' logs{logs}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// Ends of the logs.
        logs: String,
    },
    /// An answer that was not to be expected.
    #[error("{what}: {said}; the rig cannot go on; look at the members' logs")]
    Answer {
        /// What was asked.
        what: String,
        /// What came.
        said: String,
    },
    /// A machine that is off was told to do something.
    #[error("machine {0} is off; nothing was started; power it on first")]
    Off(String),
}

impl RigError {
    /// Names what was tried.
    pub fn system<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System { what, source: source.into() }
    }
}
