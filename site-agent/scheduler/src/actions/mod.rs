//! Actions: what each resource and each node needs to get from what it is to what it will be.
//!
//! All possible actions are made, optional ones too (a stop and a start of what stays): an ordering may yet
//! require them. `make` is the only place where actions are born and where it is decided whether one can run at all.

pub(crate) mod changes;
pub(crate) mod collective;
pub(crate) mod fencing;
pub(crate) mod make;
pub(crate) mod migration;
pub(crate) mod notify;
pub(crate) mod params;
pub(crate) mod primitive;
pub(crate) mod probes;
pub(crate) mod recurring;
pub(crate) mod unfencing;
