//! Tests that belong to no single crate: the rules of the house in `tests/house.rs`.
