//! Whole members on virtual time: founding, grants, moves, takeovers, faults.
//!
//! `world/` is the world that they live in: clocks that run wrong within rho, a network that delays,
//! loses, doubles and reorders, disks that forget what was not synced, nodes whose guard stops
//! dependents at D − W when the agent does not. It asserts after every event that no two sites run
//! under one ticket, and that terms grow (`world/physical.rs`). `scenarios.rs` tells stories, `schedule.rs` draws lots.

#![allow(unreachable_pub)] // a test crate has no outside

mod scenarios;
mod schedule;
mod world;
