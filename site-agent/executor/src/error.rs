//! What is refused before anything runs.

use std::path::PathBuf;

/// Errors of specifications and settings. What goes wrong while an action runs is no error but
/// an [`Outcome`](crate::Outcome).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent's name cannot be read.
    #[error(
        "{found:?} names no resource agent; the resource is not managed; \
         write ocf:PROVIDER:TYPE, lsb:SCRIPT, systemd:UNIT or service:NAME"
    )]
    AgentName {
        /// The text as given.
        found: String,
    },
    /// A name contains what does not belong in a path or an environment.
    #[error("{what} {found:?} is not usable; the resource is not managed; {hint}")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        found: String,
        /// What is allowed.
        hint: &'static str,
    },
    /// A setting is outside its bounds.
    #[error("{what} is {found}, allowed is {allowed}; nothing runs; correct the settings")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        found: String,
        /// Its bounds.
        allowed: String,
    },
    /// A directory cannot be made.
    #[error("cannot make {path}: {source}; agents could not keep state; check the directory")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The agent's metadata could not be had or read.
    #[error("metadata of {agent}: {why}; its defaults are not known; set timeouts yourself")]
    Metadata {
        /// The agent.
        agent: String,
        /// What is wrong.
        why: String,
    },
}
