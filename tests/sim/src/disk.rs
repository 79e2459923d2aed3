//! A node's disk: what is durable, what is on its way, and how it fails.
//!
//! The journal makes a write atomic and cuts an unacknowledged torn tail (proved on real disks by
//! the store's own tests); so a crash leaves a prefix of the writes that were under way, whole ones.
//! Rot is found by checksum when the journal is opened, and the store is refused (R5).

use std::collections::VecDeque;

use tierce_ticket::durable::{Age, Record};
use tierce_ticket::ids::{PersistId, StoreId};

use crate::lots::Lots;

/// A write under way.
#[derive(Clone, Debug)]
struct Write {
    id: PersistId,
    records: Vec<Record>,
    checkpoint: bool,
}

/// A copy of a store.
#[derive(Clone, Debug)]
pub struct Backup {
    store: StoreId,
    records: Vec<Record>,
    age: Age,
}

/// How writes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// They succeed.
    Works,
    /// There is no room, or fsync fails: the first failure ends the member (R6).
    Fails,
}

/// One node's disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Identity of the store on it.
    pub store: StoreId,
    /// How far that store has come.
    pub age: Age,
    /// What the machine remembers outside of the disk, until it is off: records known as durable in
    /// a store in which nothing is missing.
    pub mark: Option<u64>,
    /// What is durable.
    records: Vec<Record>,
    under_way: VecDeque<Write>,
    /// The last write that the process knows to be durable.
    pub acked: PersistId,
    /// Writes are carried out one after the other.
    pub busy_until: u64,
    /// How writes end.
    pub health: Health,
    /// Longest time of a write, nanoseconds.
    pub slowest: u64,
    /// A sector has rotted: the next opening finds it.
    pub rotten: bool,
}

impl Disk {
    /// An empty one.
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            age: Age::default(),
            mark: None,
            records: Vec::new(),
            under_way: VecDeque::new(),
            acked: PersistId(0),
            busy_until: 0,
            health: Health::Works,
            slowest: crate::MS,
            rotten: false,
        }
    }

    /// A write is handed to the disk.
    pub fn begin(&mut self, id: PersistId, records: Vec<Record>, checkpoint: bool) {
        self.under_way.push_back(Write { id, records, checkpoint });
    }

    /// That write has reached the platter.
    pub fn done(&mut self, id: PersistId) {
        while self.under_way.front().is_some_and(|w| w.id <= id) {
            self.land();
        }
        self.acked = id;
    }

    fn land(&mut self) {
        if let Some(w) = self.under_way.pop_front() {
            if w.checkpoint {
                self.records.clear();
            }
            self.age.written += w.records.len() as u64;
            self.records.extend(w.records);
        }
    }

    /// The process ends: of the writes under way the first few may have reached the platter though
    /// nobody was told.
    pub fn crash(&mut self, lots: &mut Lots) {
        let landed = lots.below(self.under_way.len() as u64 + 1);
        for _ in 0..landed {
            self.land();
        }
        self.under_way.clear();
        self.acked = PersistId(0);
    }

    /// The records of the journal, at an opening.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// All is lost; the next store is another one.
    pub fn wipe(&mut self, fresh: u64) {
        let mut store = self.store;
        store.0[..8].copy_from_slice(&fresh.to_le_bytes());
        *self = Self::new(store);
    }

    /// What a backup would contain now.
    pub fn backup(&self) -> Backup {
        Backup { store: self.store, records: self.records.clone(), age: self.age }
    }

    /// Such a backup is put back; one of another store has been replaced for good.
    pub fn restore(&mut self, backup: Backup) {
        if backup.store == self.store {
            (self.records, self.age) = (backup.records, backup.age);
            self.under_way.clear();
        }
    }
}
