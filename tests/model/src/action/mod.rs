//! What may happen: every action that is possible in a state (`possible`), and what it does (`happen`).

mod happen;
mod possible;

use tierce_ticket::entry::FenceTarget;

pub use happen::{happen, steward_at};
pub use possible::possible;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the words say it
pub enum Act {
    /// Real time moves by one tick.
    Tick,
    /// The message at this place of the net arrives.
    Deliver(usize),
    /// A member applies its next entry.
    Apply(usize),
    /// A voter is asked for its vote, and gives it: durable, and on its way to whoever leads. It
    /// may be asked at any time, so no request is kept and the question needs no message.
    Vote(usize, FenceTarget, bool),
    /// A member that could lead decides what the steward would decide on its log view.
    Decide(usize),
    /// A holder's command is decided by this leader.
    Command(usize, usize),
    /// What was told to stop has stopped, and the holder is told.
    Stopped(usize),
    Pause(usize),
    Resume(usize),
    Crash(usize),
    /// From a snapshot, or from the log.
    Restart(usize, bool),
    Handover,
    CancelHandover,
    TakeBack,
    /// An operator grants the free ticket to the second site.
    Grant,
    /// T and with it H change.
    SetTiming,
    /// All nodes of the site are powered off, and a device says so.
    PowerOff(usize),
    /// A voter's disk is lost.
    Wipe(usize),
    /// A voter comes back with an older copy of its disk.
    OldDisk(usize),
    /// The next step of the plan of voter changes; these have it at once and make it final.
    Change(usize, u8),
    /// The node asks its coordinator.
    Ask,
    /// The coordinator answers the question at this place of the net.
    Answer(usize),
    /// With ledgers: a member campaigns, another hears it.
    Elect(usize, usize),
    /// With ledgers: a leader and a follower talk.
    Exchange(usize, usize),
}
