//! Real processes on machines of their own, joined by a network that can be told to fail.
//!
//! What Tierce promises can only be believed of the programs that people run. So benchmarks, the
//! nemesis and the lab run those programs, unmodified (but for an upgrade's other build,
//! [`Programs::held_back`]), each member on a *machine*: network, process numbers, mounts and `/run`
//! of its own. Machines are joined by a *switch* in user space, which delays, loses, repeats,
//! reorders and cuts each direction as told, at run time, and counts what passes. A peer product
//! runs on the same machines behind the same switch, so that both have the same network, the same
//! faults and the same clock.
//!
//! The failure it prevents is the flattering measurement: a daemon that *says* that it has stopped.
//! Here a *witness* is the resource; it notes when it really began and when it was last alive.
//!
//! Invariants:
//! * *Nothing stays.* Namespaces have no names, so that they go with their last process; the first
//!   process of a machine is told by the kernel to die when the rig does, however the rig ends, and
//!   the kernel ends every other process of the machine with it.
//! * *One clock.* Every stamp is `CLOCK_MONOTONIC` in nanoseconds, [`Mono`].
//! * *Same for both.* No rule of the switch knows which product's packets it carries; the only look
//!   into a packet is [`net::Look`], for a peer whose datagrams are not encrypted.
//!
//! Reading order: `net` (namespaces, switch) → `machine` (power on, processes, power off), `disk`,
//! `freezer` → `witness` (what really ran), `shared` (what a fenced store took) → `tierce`, `booth`
//! (the products).

pub mod booth;
mod build;
mod clock;
mod disk;
mod error;
mod files;
mod freezer;
pub mod limits;
mod machine;
pub mod net;
mod proc;
mod random;
mod shared;
pub mod tierce;
mod wall;
mod witness;

pub use build::Programs;
pub use clock::{Mono, mono_of_utc};
pub use disk::{Disk, own_mounts};
pub use error::{Result, RigError};
pub use files::{Lines, directory, directory_in, tidy_on_signals, until};
pub use freezer::Frozen;
pub use machine::Machine;
pub use proc::{Cpu, Proc, cpu_of, rss_kib_of};
pub use random::Random;
pub use shared::{Shared, Write, write_to};
pub use wall::WallClock;
pub use witness::{Life, Stop, Witness, both, lives};
