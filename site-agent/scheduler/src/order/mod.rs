//! Orderings applied: first resolved to actions, then followed until nothing changes.
//!
//! Required-ness and un-runnability travel along the edges. Both only ever grow (but for gates that wait for enough of several),
//! so a work list reaches the fix-point, and the order in which it is worked off does not matter.

mod apply;
mod blocked;
mod collective;
mod connection;
mod interleave;
mod update;
