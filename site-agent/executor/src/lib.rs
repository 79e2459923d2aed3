//! Runs resource actions: OCF, LSB, systemd, service.
//!
//! A resource agent is a program written by somebody else. It may hang, flood its output, leave
//! children behind, start a daemon that holds its pipes, or not exist. Whatever it does, the
//! caller gets one [`Outcome`] within a bound, because a site that must stop before its lease
//! ends cannot wait for a script. The failures prevented are the stop that waits for ever on a
//! pipe, the killed script whose children go on running the service, and the action that is still
//! under way when the next one for the same resource begins.
//!
//! Invariants:
//! * One action at a time per resource; the next begins only after the last one's process group
//!   is gone or was reported as unkillable.
//! * An action ends at its timeout: TERM, then after a grace KILL, to the whole process group.
//! * No process is left a zombie, whichever way an action ends, dropping its future included.
//! * The agent's environment is made, not inherited.
//! * A stop never waits for a monitor or for other resources.
//!
//! Actions under way when this process dies run on (they may be in the middle of a stop): the next
//! start probes before it believes anything.
//!
//! Data flow: [`ResourceSpec`] → [`Executor::run`] (turns, limits) → `command` (which program,
//! which environment) → `process` (run, watch, kill, capture) or `systemd` (D-Bus) → [`Outcome`].

pub mod limits;

mod command;
mod error;
mod executor;
mod metadata;
mod outcome;
mod process;
mod settings;
mod spec;
mod systemd;

pub use error::Error;
pub use executor::Executor;
pub use metadata::{ActionDefaults, Metadata, Parameter};
pub use outcome::{Outcome, Status};
pub use settings::{Bus, Settings};
pub use spec::{Action, AgentName, Class, Context, ResourceSpec, Timeouts};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;
