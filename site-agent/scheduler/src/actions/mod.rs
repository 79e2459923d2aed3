//! Actions: what each resource and each node needs to get from what it is to what it will be.
//!
//! All possible actions are made, optional ones too (a stop and a start of what stays): an ordering may yet
//! require them. `make` is the only place where actions are born and where it is decided whether one can run at all.

pub mod changes;
pub mod collective;
pub mod fencing;
pub mod make;
pub mod migration;
pub mod notify;
pub mod params;
pub mod primitive;
pub mod probes;
pub mod recurring;
