//! Figures of real processes, with a peer measured in the same run.
fn main() {}
