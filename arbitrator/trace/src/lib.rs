//! Structured logs and the flight recorder.
//!
//! When a service moved, or should have and did not, the question is always the same: what did
//! each member know, and in which order? Logs answer badly: they are filtered to what somebody
//! thought interesting beforehand, they end where the process was killed, and their clocks
//! disagree. So every process of Tierce keeps, beside its log, a *flight recorder*: a ring in a
//! file on tmpfs that takes every event of debug level and above at a price low enough to be
//! always on. The failures it prevents are an incident without a cause, and a cause that is
//! guessed from two logs whose clocks were an hour apart.
//!
//! Invariants:
//! * *Survival.* A record is in the page cache once `record` returned. SIGKILL loses at most the
//!   record being written; a reader tells by its CRC and takes all the others.
//! * *Self-description.* A recording is read without the program that wrote it.
//! * *Causality.* Messages carry a hybrid logical clock ([`hlc_now`], [`hlc_observe_from`]);
//!   [`merge`] never puts an effect before its cause, whatever the wall clocks say.
//! * *Bounds.* Everything has a size limit ([`limits`]); recording neither allocates nor waits.
//!
//! Data flow: [`init`] sets up log and recorder → `tracing` events and [`record`] are encoded
//! (`encode`), stamped and stored (`ring`) → [`dump`] keeps a copy → [`Recording::read`] finds
//! records again (`reading`) → [`merge`] orders those of many processes → [`Entry`] prints itself.

pub mod limits;

mod clock;
mod dump;
mod encode;
mod entry;
mod error;
mod hlc;
mod layer;
mod layout;
mod logs;
mod merging;
mod place;
mod reading;
mod recorder;
mod ring;
mod sync;
mod violation;

pub use clock::Clock;
pub use encode::Field;
pub use entry::{Entry, Value, render};
pub use error::Error;
pub use hlc::{Hlc, Observed};
pub use layer::RecorderLayer;
pub use logs::{Guard, Options, RecorderAt, init};
pub use merging::merge;
pub use place::{default_recorder_dir, default_volatile_dir, is_volatile};
pub use reading::Recording;
pub use recorder::{Recorder, RecorderOptions, dump, hlc_now, hlc_observe, hlc_observe_from};
pub use recorder::{record, recorder};
pub use violation::safety_violation;

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;
