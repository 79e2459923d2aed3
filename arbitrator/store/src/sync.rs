//! What the writer and its callers meet at, from one place: std's in every program; in the unit
//! tests of this crate shuttle's, which tries the orders in which they can (`writer/orders.rs`). The
//! tests under `tests/` see what programs see.

#[cfg(not(test))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::AtomicU64,
    mpsc::{Receiver, SyncSender, sync_channel},
};
#[cfg(not(test))]
pub(crate) use std::thread::{Builder, JoinHandle};

#[cfg(test)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::AtomicU64,
    mpsc::{Receiver, SyncSender, sync_channel},
};
#[cfg(test)]
pub(crate) use shuttle::thread::{Builder, JoinHandle};
