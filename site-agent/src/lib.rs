//! The node daemon of a site: voter, session and runner of its resources.
//!
//! The protocol (`tierce-ticket`) decides; the member driver (`tierce-member`) carries its messages
//! and keeps its journal; this crate does what is left at a site: it reads the site's file, lets
//! the runner start and stop what depends on the tickets, answers the operator on the control
//! socket, and leaves in order when asked to.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | the file: read, checked, its digest |
//! | [`cib`] | the CIB on disk |
//! | `cli` | the command line of the daemon |
//! | `agent` | the main loop between member and runner |
//! | [`runner`] | everything that happens on this node because of orders |
//! | `facts`, `view` | what the member knows, and what an operator reads of it |
//! | `control` | the control socket |
//! | `history` | decisions, kept for questions |
//! | `told` | how a site tells the others that what was granted runs |
//! | `metrics` | Prometheus and health |
//! | `limits` | every bound |

mod agent;
pub mod cib;
mod cli;
pub mod config;
mod control;
mod facts;
mod history;
pub mod limits;
mod metrics;
pub mod runner;
mod shared;
mod told;
mod view;

pub use cli::{AgentArgs, AgentCommand, run};
