//! The table of tickets: places fixed at start, an ordered directory, no hashing, no growth.
//!
//! A place is never freed, because it remembers the newest term of its ticket (`terms-grow`); when
//! all places are taken, an idle one is given to the next ticket. Places are handed out in order,
//! so that memory of a large table is touched, and locked, only as far as tickets exist.

use super::{BootTime, Lease, Term, Ticket};

/// A place in the table; side tables of the driver use the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(u16);

impl SlotId {
    /// As an index into a side table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How far a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not guarded; only its term is remembered.
    Idle,
    /// Guarded, nothing begun.
    Armed,
    /// Its stop command runs.
    Running,
    /// Its stop command failed and will be run again.
    Failed {
        /// When.
        retry_at: BootTime,
    },
    /// A reset was asked for.
    Reset,
}

impl Phase {
    /// Something may still be running for this ticket and a deadline stands.
    pub fn guarded(self) -> bool {
        matches!(self, Self::Armed | Self::Running | Self::Failed { .. })
    }

    /// Its number in list packets.
    pub fn number(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Armed => 1,
            Self::Running => 2,
            Self::Failed { .. } => 3,
            Self::Reset => 4,
        }
    }

    /// The word for status lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Armed => "armed",
            Self::Running => "stopping",
            Self::Failed { .. } => "stop-failed",
            Self::Reset => "reset",
        }
    }
}

/// One ticket.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Whose place this is.
    pub ticket: Ticket,
    /// The newest term seen.
    pub term: Term,
    /// How far it is.
    pub phase: Phase,
    /// Its own lease; the common one may be later.
    pub(super) own: Lease,
    /// The common lease extends it.
    pub(super) follows: bool,
    /// Number of common renewals before it was armed: only later ones count.
    pub(super) since: u64,
}

#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Sorted by ticket; an insertion moves at most 128 KiB.
    directory: Vec<(Ticket, SlotId)>,
    max: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        assert!(max <= crate::limits::MAX_TICKETS, "a slot number must fit its width");
        Self { slots: Vec::with_capacity(max), directory: Vec::with_capacity(max), max }
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<SlotId> {
        let at = self.directory.binary_search_by_key(&ticket, |entry| entry.0).ok()?;
        Some(self.directory[at].1)
    }

    pub(super) fn get(&self, id: SlotId) -> &Slot {
        &self.slots[id.index()]
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id.index()]
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..self.slots.len()).map(|index| SlotId(index as u16))
    }

    pub(super) fn from(&self, ticket: Ticket) -> impl Iterator<Item = &Slot> + '_ {
        let start = self.directory.partition_point(|entry| entry.0 < ticket);
        self.directory[start..].iter().map(|entry| self.get(entry.1))
    }

    pub(super) fn admit(&mut self, ticket: Ticket) -> Option<(SlotId, bool)> {
        if let Some(id) = self.find(ticket) {
            return Some((id, false));
        }
        let id = if self.slots.len() < self.max {
            self.slots.push(empty(ticket));
            SlotId((self.slots.len() - 1) as u16)
        } else {
            let idle = self.slots.iter().position(|slot| slot.phase == Phase::Idle)?;
            let gone = self.slots[idle].ticket;
            self.directory.retain(|entry| entry.0 != gone);
            self.slots[idle] = empty(ticket);
            SlotId(idle as u16)
        };
        let at = self.directory.partition_point(|entry| entry.0 < ticket);
        self.directory.insert(at, (ticket, id));
        Some((id, true))
    }
}

fn empty(ticket: Ticket) -> Slot {
    Slot {
        ticket,
        term: Term(0),
        phase: Phase::Idle,
        own: Lease::default(),
        follows: true,
        since: 0,
    }
}
