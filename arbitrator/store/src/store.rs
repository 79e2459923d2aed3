//! The store: one directory, one voter, one truth.
//!
//! Order of everything that changes the disk, and why a crash at any step is safe:
//! - *create*: `creating`, pulse, segment 1, control files, then `creating` is removed. While it is
//!   there the store does not exist and may be begun again.
//! - *append*: space first (durable zeros), then the batch, then `fdatasync`, then the answer.
//! - *checkpoint*: the new segment completely, then the control files name it (this is the step
//!   that counts), then older segments are deleted, oldest first. A segment beyond the named one
//!   was never acknowledged and is removed at the next opening.
//! - *open*: what is dirty is synced and read back from the disk, a torn end is zeroed, and only
//!   then the incarnation is counted, in the control files and in the pulse.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{self, Control};
use crate::disk::{damaged, failed, sync_dir, write_zeros};
use crate::error::StoreError;
use crate::ids::{Generation, Owner, SegmentNo, Seq, StoreId};
use crate::limits;
use crate::pulse::{Floor, Pulse};
use crate::record::{OwnedRecord, RecordRef, encode_batch};
use crate::replay::Replay;
use crate::segment::{self, Fresh, Header, Reader, Step};

const CREATING: &str = "creating";

/// How much of the past is kept for audit, the live segment included. The live segment always
/// stays, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all segments together.
    pub max_bytes: u64,
    /// Number of segments.
    pub max_segments: usize,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { max_bytes: limits::RETAIN_MAX_BYTES, max_segments: limits::RETAIN_MAX_SEGMENTS }
    }
}

/// What opening a store brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Identity of the store.
    pub store_id: StoreId,
    /// How often it was opened, this time included; durable. Peers are told, because an older copy
    /// of a directory cannot be seen from inside: a number that repeats or goes back is one.
    pub incarnation: u64,
    /// Cluster generation under which the live segment was begun.
    pub generation: Generation,
    /// Records of the last checkpoint, then all that followed.
    pub records: Vec<OwnedRecord>,
    /// How many of `records` are the checkpoint.
    pub checkpoint_records: usize,
    /// Number of the last record, or 0.
    pub last_seq: Seq,
    /// Bytes of an unacknowledged batch that were cut off.
    pub torn_tail_bytes: u64,
}

/// An open store. Dropping it closes it; there is nothing left to flush.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    control: Control,
    pulse: Pulse,
    live: Live,
    /// Segments with their sizes, oldest first; the last one is live.
    segments: VecDeque<(SegmentNo, u64)>,
    next: Seq,
    generation: Generation,
    retention: Retention,
    poison: Option<Arc<str>>,
}

/// The segment that takes appends.
#[derive(Debug)]
struct Live {
    file: File,
    path: PathBuf,
    end: u64,
    size: u64,
}

impl From<Fresh> for Live {
    fn from(fresh: Fresh) -> Live {
        Live { file: fresh.file, path: fresh.path, end: fresh.end, size: fresh.size }
    }
}

// --- creation and opening ---------------------------------------------------------------------

impl Store {
    /// Creates a store in `dir`, which must not exist or be empty. Counts as its first opening.
    pub fn create(dir: &Path, owner: &Owner) -> Result<Store, StoreError> {
        Store::create_with(dir, owner, Retention::default())
    }

    /// [`Store::create`] with another bound on the past.
    pub fn create_with(
        dir: &Path,
        owner: &Owner,
        retention: Retention,
    ) -> Result<Store, StoreError> {
        control::check_name(&owner.tenant)?;
        control::check_name(&owner.member)?;
        std::fs::create_dir_all(dir).map_err(|e| failed("creating", dir, e))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let mark = dir.join(CREATING);
        if is_empty(dir)? {
            File::create_new(&mark).map_err(|e| failed("creating", &mark, e))?;
            sync_dir(dir)?;
        } else if !mark.exists() {
            return Err(StoreError::NotEmpty { dir: dir.to_path_buf() });
        }

        // The lock comes before anything of an earlier, unfinished attempt is removed.
        let mut pulse = Pulse::create(dir)?;
        for number in segment::list(dir)? {
            remove(&segment::path_of(dir, number))?;
        }
        let store = StoreId::random().map_err(|e| failed("drawing an identity for", dir, e))?;
        let (number, generation) = (SegmentNo(1), Generation::default());
        let header = Header { store, number, first: Seq(1), generation };
        let fresh = segment::create(dir, &header, &[])?;
        let mut control = Control {
            turn: 0,
            store,
            owner: owner.clone(),
            incarnation: 1,
            generation,
            live: number,
            oldest: number,
            floor: Seq(0),
        };
        pulse.beat(&store, Floor { incarnation: 1, live: number, seq: Seq(0) })?;
        control::create_both(dir)?;
        control::write_both(dir, &mut control)?;
        sync_dir(dir)?;
        remove(&mark)?;
        sync_dir(dir)?;
        let segments = VecDeque::from([(number, fresh.size)]);
        let live = Live::from(fresh);
        let dir = dir.to_path_buf();
        Ok(Store {
            dir,
            control,
            pulse,
            live,
            segments,
            next: Seq(1),
            generation,
            retention,
            poison: None,
        })
    }

    /// Opens the store of `owner` in `dir` and recovers it, or says why it is refused.
    pub fn open(dir: &Path, owner: &Owner) -> Result<(Store, Recovered), StoreError> {
        Store::open_with(dir, owner, Retention::default())
    }

    /// [`Store::open`] with another bound on the past.
    pub fn open_with(
        dir: &Path,
        owner: &Owner,
        retention: Retention,
    ) -> Result<(Store, Recovered), StoreError> {
        if !dir.exists() || is_empty(dir)? || dir.join(CREATING).exists() {
            return Err(StoreError::Empty { dir: dir.to_path_buf() });
        }
        let mut pulse = Pulse::open(dir)?;
        let mut control = control::read_newest(dir)?;
        if control.owner != *owner {
            return Err(StoreError::Foreign { expected: owner.clone(), found: control.owner });
        }
        let floor = pulse.read(&control.store)?;
        check_floor(dir, &control, floor)?;
        let segments = take_stock(dir, &control)?;
        let recovery = recover_live(dir, &control, floor.seq.max(control.floor))?;
        let reached = recovery.next;

        control.incarnation += 1;
        control.floor = Seq(reached.0 - 1);
        control::write_both(dir, &mut control)?;
        let floor =
            Floor { incarnation: control.incarnation, live: control.live, seq: control.floor };
        pulse.beat(&control.store, floor)?;
        let recovered = Recovered {
            store_id: control.store,
            incarnation: control.incarnation,
            generation: recovery.generation,
            records: recovery.records,
            checkpoint_records: recovery.checkpoint_records,
            last_seq: control.floor,
            torn_tail_bytes: recovery.torn,
        };
        let store = Store {
            dir: dir.to_path_buf(),
            generation: control.generation,
            control,
            pulse,
            live: recovery.live,
            segments,
            next: reached,
            retention,
            poison: None,
        };
        Ok((store, recovered))
    }
}

fn is_empty(dir: &Path) -> Result<bool, StoreError> {
    let mut entries = std::fs::read_dir(dir).map_err(|e| failed("listing", dir, e))?;
    Ok(entries.next().is_none())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("deleting", path, e)),
        _ => Ok(()),
    }
}

/// The pulse is written after the control files, so it never runs ahead of them.
fn check_floor(dir: &Path, control: &Control, floor: Floor) -> Result<(), StoreError> {
    if floor.incarnation > control.incarnation || floor.live > control.live {
        let what = format!(
            "it says opening {} and segment {}, but the pulse has seen opening {} and segment {}",
            control.incarnation, control.live, floor.incarnation, floor.live
        );
        return Err(damaged(&dir.join(control::NAMES[0]), 0, what));
    }
    Ok(())
}

/// Removes what interrupted checkpoints left, and checks that every retained segment is there.
fn take_stock(dir: &Path, control: &Control) -> Result<VecDeque<(SegmentNo, u64)>, StoreError> {
    let mut leftovers = false;
    for number in segment::list(dir)? {
        let path = segment::path_of(dir, number);
        if number > control.live.following() {
            let what = format!("no crash leaves it: segment {} is live", control.live);
            return Err(damaged(&path, 0, what));
        }
        if number < control.oldest || number > control.live {
            tracing::info!(segment = number.0, "removing what an interrupted checkpoint left");
            remove(&path)?;
            leftovers = true;
        }
    }
    if leftovers {
        sync_dir(dir)?;
    }
    let mut segments = VecDeque::new();
    let mut previous = Seq(0);
    for number in (control.oldest.0..=control.live.0).map(SegmentNo) {
        let (header, _, size) = segment::open(dir, number, &control.store)?;
        if header.first < previous {
            let what = format!("it begins with record {}, before its predecessor", header.first);
            return Err(damaged(&segment::path_of(dir, number), 0, what));
        }
        previous = header.first;
        segments.push_back((number, size));
    }
    Ok(segments)
}

struct Recovery {
    live: Live,
    generation: Generation,
    next: Seq,
    records: Vec<OwnedRecord>,
    checkpoint_records: usize,
    torn: u64,
}

/// Reads the live segment, checks that it reaches what is known to be acknowledged, and zeroes a
/// torn end, durably.
fn recover_live(dir: &Path, control: &Control, acknowledged: Seq) -> Result<Recovery, StoreError> {
    let (header, mut reader) = Reader::open(dir, control.live, &control.store)?;
    let mut records = Vec::new();
    let mut checkpoint_records = 0;
    let tail = loop {
        match reader.step()? {
            Step::Batch(batch) => {
                checkpoint_records += batch.iter().filter(|stored| stored.checkpoint).count();
                records.extend(batch.into_iter().map(|stored| stored.record));
            }
            Step::End(tail) => break tail,
        }
    };
    let (_, file, size) = segment::open(dir, control.live, &control.store)?;
    let path = segment::path_of(dir, control.live);
    // Refuse before repairing: a store that lost acknowledged records stays as it was found.
    let reached = reader.next_seq();
    if reached <= acknowledged {
        let what = format!("it ends before record {reached}, but {acknowledged} was there");
        return Err(damaged(&path, tail.end, what));
    }
    if tail.torn > 0 {
        tracing::warn!(file = %path.display(), bytes = tail.torn, "cutting an unacknowledged batch");
        let to = (tail.end + tail.torn).next_multiple_of(limits::BLOCK_BYTES);
        write_zeros(&file, &path, tail.end, to)?;
        file.sync_all().map_err(|e| failed("syncing", &path, e))?;
    }
    Ok(Recovery {
        live: Live { file, path, end: tail.end, size },
        generation: header.generation,
        next: reached,
        records,
        checkpoint_records,
        torn: tail.torn,
    })
}

// --- use ----------------------------------------------------------------------------------------

impl Store {
    /// Identity of the store.
    pub fn store_id(&self) -> StoreId {
        self.control.store
    }

    /// Whose store it is.
    pub fn owner(&self) -> &Owner {
        &self.control.owner
    }

    /// How often it was opened, this time included.
    pub fn incarnation(&self) -> u64 {
        self.control.incarnation
    }

    /// Number of the last record, or 0.
    pub fn last_seq(&self) -> Seq {
        Seq(self.next.0 - 1)
    }

    /// Bytes used in the live segment: a checkpoint is due beyond
    /// [`limits::CHECKPOINT_HINT_BYTES`].
    pub fn live_bytes(&self) -> u64 {
        self.live.end
    }

    /// Bytes of all retained segments.
    pub fn retained_bytes(&self) -> u64 {
        self.segments.iter().map(|(_, size)| size).sum()
    }

    /// The cluster generation that the next checkpoint writes into its segment header.
    pub fn set_generation(&mut self, generation: Generation) {
        self.generation = generation;
    }

    /// True after a failed write or sync: every call fails and the process has to stop (R6).
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Stores records as one batch: all of them or none. When it returns they are on the disk.
    /// Returns the number of the last record. No records: nothing is done.
    pub fn append(&mut self, records: &[RecordRef<'_>]) -> Result<Seq, StoreError> {
        self.guarded(|store| store.append_batch(records))
    }

    /// Begins a new segment with a set of records that says everything that recovery needs; they
    /// are on the disk when it returns. Earlier segments become audit and are deleted beyond the
    /// retention. Returns the number of the last record.
    pub fn checkpoint(&mut self, records: &[RecordRef<'_>]) -> Result<Seq, StoreError> {
        self.guarded(|store| store.begin_segment(records))
    }

    /// Proves that the disk still takes durable writes, without growing anything.
    pub fn pulse(&mut self) -> Result<(), StoreError> {
        self.guarded(Store::beat)
    }

    /// All retained records, oldest first, checkpoints included (and marked).
    pub fn replay_retained(&self) -> Result<Replay, StoreError> {
        self.check_poison()?;
        Ok(Replay {
            dir: self.dir.clone(),
            store: self.control.store,
            segments: self.segments.iter().map(|(number, _)| *number).collect(),
            until: self.next,
            current: None,
            ready: VecDeque::new(),
            expected: None,
        })
    }

    fn check_poison(&self) -> Result<(), StoreError> {
        match &self.poison {
            Some(cause) => Err(StoreError::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Runs one change; a failure that may have lost something poisons the store for good.
    fn guarded<T>(
        &mut self,
        change: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_poison()?;
        let result = change(self);
        if let Err(error) = &result
            && error.must_stop()
        {
            self.poison = Some(Arc::from(error.to_string()));
        }
        result
    }

    fn beat(&mut self) -> Result<(), StoreError> {
        let floor = Floor {
            incarnation: self.control.incarnation,
            live: self.control.live,
            seq: self.last_seq(),
        };
        self.pulse.beat(&self.control.store, floor)
    }

    fn append_batch(&mut self, records: &[RecordRef<'_>]) -> Result<Seq, StoreError> {
        if records.is_empty() {
            return Ok(self.last_seq());
        }
        let bytes = encode_batch(self.next, records, false)?;
        let seal = segment::batch_seal(&self.control.store, self.control.live);
        let sealed = segment::seal_batch(seal, self.live.end, self.next, &bytes);
        let end = self.live.end + sealed.len() as u64;
        if end > limits::SEGMENT_MAX_BYTES {
            let (what, limit) = ("the live segment", limits::SEGMENT_MAX_BYTES);
            return Err(StoreError::TooLarge { what, size: end, limit });
        }
        self.make_room(end)?;

        let live = &mut self.live;
        live.file
            .write_all_at(&sealed, live.end)
            .map_err(|e| failed("appending to", &live.path, e))?;
        live.file.sync_data().map_err(|e| failed("syncing", &live.path, e))?;
        live.end = end;
        self.next = self.next.plus(records.len() as u64);
        Ok(self.last_seq())
    }

    /// Space up to `end`, zeroed and durable before anything is written into it.
    fn make_room(&mut self, end: u64) -> Result<(), StoreError> {
        let live = &mut self.live;
        if end <= live.size {
            return Ok(());
        }
        let step =
            (live.size / 4).clamp(limits::SEGMENT_ALIGN_BYTES, limits::SEGMENT_GROWTH_MAX_BYTES);
        let size = (end + step).next_multiple_of(limits::SEGMENT_ALIGN_BYTES);
        segment::grow(&live.file, &live.path, live.size, size)?;
        live.file.sync_all().map_err(|e| failed("syncing", &live.path, e))?;
        live.size = size;
        if let Some((_, known)) = self.segments.back_mut() {
            *known = size;
        }
        Ok(())
    }

    fn begin_segment(&mut self, records: &[RecordRef<'_>]) -> Result<Seq, StoreError> {
        let bytes = encode_batch(self.next, records, true)?;
        let header = Header {
            store: self.control.store,
            number: self.control.live.following(),
            first: self.next,
            generation: self.generation,
        };
        let fresh = segment::create(&self.dir, &header, &bytes)?;
        let next = self.next.plus(records.len() as u64);
        self.segments.push_back((header.number, fresh.size));
        let doomed = self.beyond_retention();

        let mut control = self.control.clone();
        control.live = header.number;
        control.generation = header.generation;
        control.floor = Seq(next.0 - 1);
        control.oldest = self.segments.get(doomed).map_or(header.number, |(number, _)| *number);
        control::write_both(&self.dir, &mut control)?;
        self.control = control;
        self.live = Live::from(fresh);
        self.next = next;
        // From now on control files that name an earlier segment are an older copy.
        self.beat()?;

        for (number, _) in self.segments.drain(..doomed) {
            remove(&segment::path_of(&self.dir, number))?;
        }
        if doomed > 0 {
            sync_dir(&self.dir)?;
        }
        Ok(self.last_seq())
    }

    /// How many of the oldest segments must go. The live one stays.
    fn beyond_retention(&self) -> usize {
        let (mut count, mut bytes) = (self.segments.len(), self.retained_bytes());
        let mut doomed = 0;
        for (_, size) in &self.segments {
            let fits = count <= self.retention.max_segments && bytes <= self.retention.max_bytes;
            if fits || count == 1 {
                break;
            }
            (count, bytes, doomed) = (count - 1, bytes - size, doomed + 1);
        }
        doomed
    }
}
