//! The durable truth of one voter, and an index that can always be rebuilt from it.
//!
//! # What
//! A [`Store`] is one directory that belongs to one voter of one tenant. It keeps opaque records,
//! a kind and some bytes; what they mean is decided elsewhere. [`Writer`] is one thread that owns
//! many stores and commits their batches in groups. [`Index`] is a sled database for questions
//! (history, attributes, status) whose loss costs time, never truth.
//!
//! # Why a journal of our own
//! A voter that answers "fenced" or "promised" and forgets it after a power cut gives one ticket
//! to two sites. So an answer leaves only after `fdatasync`, and a store that may have forgotten
//! something must say so instead of guessing. General databases were measured for this and lost
//! acknowledged writes or did not open again; an append log with `fdatasync` did neither, and a
//! log is what a ledger is anyway.
//!
//! # Files of a store
//! | file | what |
//! |---|---|
//! | `segment-000000000007` | header block, then batches of records; one is live, older ones are audit |
//! | `control.0`, `control.1` | who owns the store, which segment is live, how often it was opened |
//! | `pulse` | lock, proof that the disk still takes durable writes, newest known acknowledgement |
//! | `creating` | only while [`Store::create`] works: such a store never existed |
//!
//! # Invariants
//! - **acknowledged-is-durable**: `append` returns after `fdatasync`; nothing is answered before.
//! - **all-or-nothing**: a batch is recovered as a whole or not at all.
//! - **never-cut-acknowledged**: recovery cuts only what a power cut can leave of the *one* batch
//!   that was in flight: sectors that are either complete or still zero. Whatever else is wrong
//!   (a bad sector, a gap, a later batch, an end before a known acknowledgement) is damage, and a
//!   damaged store is refused: it is not that voter any more (R5).
//! - **no-second-try**: after a failed write or sync the kernel may have dropped the data and
//!   forgotten the error, so the store is poisoned and the process has to stop (R6).
//! - **no-shared-block**: a batch starts in a block of its own; the block of an acknowledged batch
//!   is never written again, so a torn write cannot reach it.
//!
//! # What it assumes
//! A 512-byte sector is written whole or not at all, and `fdatasync` means what it says. A sector
//! that breaks the first assumption is seen (each carries a checksum) and leads to a refusal.
//!
//! # What it cannot see
//! A directory restored from an older copy (backup, snapshot of a virtual machine) is flawless by
//! every local test. For that the *incarnation* counts every opening, durably, and peers are told:
//! whoever has seen a higher incarnation of this store id, or the same one twice, knows that
//! this is an old copy and must not count its votes.

#![deny(unsafe_code)]

mod control;
mod disk;
mod error;
mod ids;
mod index;
pub mod limits;
mod pulse;
mod record;
mod replay;
mod sector;
mod segment;
mod session;
mod store;
mod sync;
mod writer;

pub use disk::check_room;
pub use error::{IndexError, StoreError};
pub use ids::{Generation, Owner, Seq, StoreId};
pub use index::{AppliedMark, HistoryKey, Index, IndexBatch, OpenedIndex, Row, Table};
pub use record::{OwnedRecord, RecordRef};
pub use replay::{Replay, Retained};
pub use store::{Recovered, Retention, Store};
pub use writer::{Completion, StoreKey, SubmitError, What, Writer};
