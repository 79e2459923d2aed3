//! The real command: against a daemon that speaks the control socket, and on files.
#![allow(clippy::unwrap_used, reason = "tests; clippy knows only the functions marked so")]

mod asking;
mod cib;
mod cluster;
mod drill;
mod files;
mod plan;
mod support;
mod world;
