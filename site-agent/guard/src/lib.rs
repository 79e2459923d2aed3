//! The node's own dead man: stops dependents and resets the node when a deadline passes.
//!
//! An agent that holds a ticket promises that nothing of it runs past the deadline. This crate is
//! the process that keeps the promise when the agent is killed, frozen or starved (layer L2 of
//! "The deadline is enforced on every node"). It is small on purpose: no runtime, memory locked,
//! nothing allocated after start, real-time scheduling where permitted, a socket and a clock.
//!
//! - [`core`]: what to do when, as a state machine without clock or I/O (rules R13, R14).
//! - [`wire`], [`client`]: the protocol between agent and guard, and the agent's end.
//! - [`stopper`]: runs stop commands without allocating, several at a time.
//! - [`resort`]: the last resort: watchdog device, sysrq, kill, or a recording for tests.
//! - [`daemon`]: the loop; [`options`]: the command line.
//!
//! How it behaves that an operator may not expect:
//! - The agent gone is no reason to stop anything before `stop_at`: it may be restarted in time.
//! - SIGTERM and SIGINT are refused, with a line in the log, while anything is guarded: stop the
//!   agent first. `--force` changes that, and leaves the node unguarded (a watchdog device is then
//!   left running, so that the node is reset).
//! - A guard that was itself held up past D − W first reads the renewals that wait in its socket.
//!   Only if none of them helps does it reset.
//! - It knows nothing across its own restarts: the agent registers every ticket again.

#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod core;
#[forbid(unsafe_code)]
pub mod daemon;
pub mod limits;
mod log;
#[forbid(unsafe_code)]
mod opening;
#[forbid(unsafe_code)]
pub mod options;
pub mod resort;
pub mod stopper;
mod sys;
#[forbid(unsafe_code)]
pub mod wire;

pub use client::{ClientError, GuardClient};
pub use core::{BootTime, Lease, Term, Ticket};
pub use daemon::{Daemon, GuardError, run};
pub use options::{Options, main_with_args};
pub use resort::ResortSpec;
pub use sys::boot_now;
pub use wire::{Ack, ArmEntry, Code, EventKind, Listed, Reply, Role, Status};
