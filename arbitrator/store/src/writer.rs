//! One thread that owns many stores and commits in groups.
//!
//! A sync costs a fraction of a millisecond and an arbitrator has a thousand tenants, so whoever
//! waits for one must not hold up the others' protocol, and batches that arrive during a sync share
//! the next one. The protocol side submits without blocking; what became of it comes back through
//! a callback on this thread.
//!
//! Rules: batches of one store complete in the order of submission. Batches that were submitted in
//! a row to one store are one write and one sync; since none of them is acknowledged before, they
//! may succeed or fail together. A full queue is an error that the caller sees, with its records.
//! A failed store fails all its batches from then on (R6) and leaves the others alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, PoisonError};

use crate::error::StoreError;
use crate::ids::Seq;
use crate::limits::{BATCH_MAX_BYTES, GROUP_MAX_BYTES, GROUP_MAX_COMMANDS};
use crate::record::{OwnedRecord, RecordRef, batch_bytes};
use crate::store::Store;
use crate::sync::{AtomicU64, Builder, JoinHandle, Mutex, MutexGuard};
use crate::sync::{Receiver, SyncSender, sync_channel};

/// Names a store within one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey(u64);

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Records were appended.
    Append,
    /// A checkpoint was made.
    Checkpoint,
    /// The disk took a durable write.
    Pulse,
    /// The store was closed.
    Close,
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Which store.
    pub store: StoreKey,
    /// The number that the caller gave.
    pub batch_id: u64,
    /// What it was.
    pub what: What,
    /// The number of its last record, durable; or why not.
    pub result: Result<Seq, StoreError>,
}

/// Why a submission was not taken; the records come back.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue has reached its bound: the disk is slower than what is asked of it.
    #[error("the journal's queue is full; nothing was taken, so wait for completions")]
    QueueFull(Vec<OwnedRecord>),
    /// The thread has ended.
    #[error("the journal's thread has ended; nothing was taken, so stop the process")]
    Stopped(Vec<OwnedRecord>),
}

/// The handle to the thread. Dropping it drains the queue and waits for the thread.
#[derive(Debug)]
pub struct Writer {
    queue: Option<SyncSender<Command>>,
    arrivals: Arc<Mutex<BTreeMap<StoreKey, Store>>>,
    next_key: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Command {
    store: StoreKey,
    batch_id: u64,
    what: What,
    records: Vec<OwnedRecord>,
}

impl Writer {
    /// Starts the thread. `queue_bound` submissions may wait; `on_done` is called on the thread,
    /// once per submission, and must not block: while it does, nothing is written.
    pub fn spawn(
        queue_bound: usize,
        on_done: impl FnMut(Completion) + Send + 'static,
    ) -> std::io::Result<Writer> {
        let (queue, commands) = sync_channel(queue_bound.max(1));
        let arrivals = Arc::default();
        let worker = Worker {
            stores: BTreeMap::new(),
            arrivals: Arc::clone(&arrivals),
            on_done: Box::new(on_done),
        };
        let thread = Builder::new()
            .name("tierce-journal".to_owned())
            .spawn(move || worker.run(&commands))?;
        let next_key = AtomicU64::new(1);
        Ok(Writer { queue: Some(queue), arrivals, next_key, thread: Some(thread) })
    }

    /// Hands a store over to the thread.
    pub fn register(&self, store: Store) -> StoreKey {
        let key = StoreKey(self.next_key.fetch_add(1, Ordering::Relaxed));
        held(&self.arrivals).insert(key, store);
        key
    }

    /// Appends records as one batch.
    pub fn submit(
        &self,
        store: StoreKey,
        batch_id: u64,
        records: Vec<OwnedRecord>,
    ) -> Result<(), SubmitError> {
        self.send(Command { store, batch_id, what: What::Append, records })
    }

    /// Makes a checkpoint of these records.
    pub fn submit_checkpoint(
        &self,
        store: StoreKey,
        batch_id: u64,
        records: Vec<OwnedRecord>,
    ) -> Result<(), SubmitError> {
        self.send(Command { store, batch_id, what: What::Checkpoint, records })
    }

    /// Asks for the proof that the disk still takes durable writes.
    pub fn submit_pulse(&self, store: StoreKey, batch_id: u64) -> Result<(), SubmitError> {
        self.send(Command { store, batch_id, what: What::Pulse, records: Vec::new() })
    }

    /// Closes a store after everything that was submitted to it; its lock is free on completion.
    pub fn submit_close(&self, store: StoreKey, batch_id: u64) -> Result<(), SubmitError> {
        self.send(Command { store, batch_id, what: What::Close, records: Vec::new() })
    }

    /// Commits and completes everything that was submitted, closes all stores and ends the thread.
    pub fn shutdown(mut self) {
        self.finish();
    }

    fn send(&self, command: Command) -> Result<(), SubmitError> {
        let Some(queue) = &self.queue else { return Err(SubmitError::Stopped(command.records)) };
        queue.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(command) => SubmitError::QueueFull(command.records),
            TrySendError::Disconnected(command) => SubmitError::Stopped(command.records),
        })
    }

    fn finish(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread died; what it had not completed is lost");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave the map half changed: insert and remove are its only uses.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    stores: BTreeMap<StoreKey, Store>,
    arrivals: Arc<Mutex<BTreeMap<StoreKey, Store>>>,
    on_done: Box<dyn FnMut(Completion) + Send>,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut groups: BTreeMap<StoreKey, VecDeque<Command>> = BTreeMap::new();
            groups.entry(first.store).or_default().push_back(first);
            for command in commands.try_iter().take(GROUP_MAX_COMMANDS - 1) {
                groups.entry(command.store).or_default().push_back(command);
            }
            for (key, mut group) in groups {
                while !group.is_empty() {
                    self.one_write(key, &mut group);
                }
            }
        }
    }

    /// Takes the longest run of commands that one write can serve, and serves it.
    fn one_write(&mut self, key: StoreKey, group: &mut VecDeque<Command>) {
        let run = run_length(group);
        let commands: Vec<Command> = group.drain(..run).collect();
        let Some(what) = commands.first().map(|command| command.what) else { return };
        let records = commands.iter().flat_map(|c| &c.records).map(OwnedRecord::borrowed);
        let records: Vec<RecordRef<'_>> = records.collect();

        let result = match (self.store(key), what) {
            (None, _) => Err(StoreError::Poisoned { cause: Arc::from("it is closed") }),
            (Some(_), What::Close) => Ok(self.close(key)),
            (Some(store), What::Append) => store.append(&records),
            (Some(store), What::Checkpoint) => store.checkpoint(&records),
            (Some(store), What::Pulse) => store.pulse().map(|()| store.last_seq()),
        };

        // Of the records after this one in the write, each took one number.
        let mut behind = records.len() as u64;
        drop(records);
        for command in commands {
            behind -= command.records.len() as u64;
            let result = result.clone().map(|last| Seq(last.0 - behind));
            let Command { store, batch_id, what, .. } = command;
            (self.on_done)(Completion { store, batch_id, what, result });
        }
    }

    fn store(&mut self, key: StoreKey) -> Option<&mut Store> {
        if !self.stores.contains_key(&key) {
            let arrived = held(&self.arrivals).remove(&key)?;
            self.stores.insert(key, arrived);
        }
        self.stores.get_mut(&key)
    }

    fn close(&mut self, key: StoreKey) -> Seq {
        let closed = self.stores.remove(&key);
        closed.map_or(Seq(0), |store| store.last_seq())
    }
}

/// How many commands from the front can share one write: appends up to a bound, or pulses. A
/// batch that is itself over a bound stays alone, so that its error is not its neighbours'.
fn run_length(group: &VecDeque<Command>) -> usize {
    let Some(first) = group.front() else { return 0 };
    match first.what {
        What::Checkpoint | What::Close => 1,
        What::Pulse => group.iter().take_while(|command| command.what == What::Pulse).count(),
        What::Append => {
            let mut total = 0_usize;
            let fits = |command: &&Command| {
                let refs: Vec<_> = command.records.iter().map(OwnedRecord::borrowed).collect();
                let size = batch_bytes(&refs).unwrap_or(BATCH_MAX_BYTES);
                total = total.saturating_add(size);
                command.what == What::Append && total <= GROUP_MAX_BYTES
            };
            group.iter().take_while(fits).count().max(1)
        }
    }
}

#[cfg(test)]
mod orders;
