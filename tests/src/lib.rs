//! Tests that belong to no single crate: the rules of the house in `tests/house.rs`; and what the
//! fuzz targets of all crates share ([`fuzz`], [`memory`]).

pub mod fuzz;
pub mod memory;
