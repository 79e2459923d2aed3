//! The pulse file: lock of the store, proof that the disk still writes, newest known floor.
//!
//! A holder renews only while its disk takes durable writes (R15), so there must be a write that
//! proves it and changes nothing: two preallocated blocks are written in turn and synced; the file
//! never grows. Since something has to be written anyway, it is the number of the newest
//! acknowledged record. Recovery must reach it: that catches a live segment that lost its end,
//! which looks like a clean one.
//!
//! One of the two blocks is always whole, because they are written in turn.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Packer, Unpacker, damaged, failed, read_up_to, settle, write_zeros};
use crate::error::StoreError;
use crate::ids::{SegmentNo, Seq, StoreId};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::sector::{Seal, Sector};

pub(crate) const NAME: &str = "pulse";
const DOMAIN: [u8; 8] = *b"pulse\0\0\0";

/// What was acknowledged when the pulse was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) incarnation: u64,
    pub(crate) live: SegmentNo,
    pub(crate) seq: Seq,
}

/// The open, locked pulse file.
#[derive(Debug)]
pub(crate) struct Pulse {
    file: File,
    path: PathBuf,
    turn: u64,
}

struct Beat {
    turn: u64,
    store: StoreId,
    floor: Floor,
    pid: u32,
}

impl Pulse {
    /// Creates and locks the file, with no pulse in it yet.
    pub(crate) fn create(dir: &Path) -> Result<Pulse, StoreError> {
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| failed("creating", &path, e))?;
        lock(&file, &path)?;
        write_zeros(&file, &path, 0, 2 * BLOCK_BYTES)?;
        file.sync_all().map_err(|e| failed("syncing", &path, e))?;
        Ok(Pulse { file, path, turn: 0 })
    }

    /// Opens and locks the file, whatever is in it.
    pub(crate) fn open(dir: &Path) -> Result<Pulse, StoreError> {
        let path = dir.join(NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, 0, "it is missing"));
            }
            Err(e) => return Err(failed("opening", &path, e)),
        };
        lock(&file, &path)?;
        Ok(Pulse { file, path, turn: 0 })
    }

    /// Reads the newest floor and takes its turn up.
    pub(crate) fn read(&mut self, store: &StoreId) -> Result<Floor, StoreError> {
        settle(&self.file, &self.path)?;
        let beats = beats(&self.file).map_err(|e| failed("reading", &self.path, e))?;
        let newest = beats.into_iter().flatten().max_by_key(|beat| beat.turn);
        let Some(beat) = newest else {
            return Err(damaged(&self.path, 0, "neither of its blocks is whole"));
        };
        if beat.store != *store {
            let what = format!("it belongs to store {}, not to {store}", beat.store);
            return Err(damaged(&self.path, 0, what));
        }
        self.turn = beat.turn;
        Ok(beat.floor)
    }

    /// Writes a floor into the older block, durably.
    pub(crate) fn beat(&mut self, store: &StoreId, floor: Floor) -> Result<(), StoreError> {
        self.turn += 1;
        let fields = Packer::default()
            .bytes(&store.0)
            .u64(floor.incarnation)
            .u64(floor.live.0)
            .u64(floor.seq.0)
            .u32(std::process::id());
        let slot = self.turn % 2;
        let sector = Seal::new(DOMAIN, None, slot).single(0, self.turn, &fields.0);
        self.file
            .write_all_at(&sector, slot * BLOCK_BYTES)
            .map_err(|e| failed("writing", &self.path, e))?;
        self.file.sync_data().map_err(|e| failed("syncing", &self.path, e))
    }
}

fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let beats = beats(file).unwrap_or([None, None]);
            let newest = beats.into_iter().flatten().max_by_key(|beat| beat.turn);
            Err(StoreError::Locked { pid: newest.map(|beat| beat.pid) })
        }
        Err(TryLockError::Error(e)) => Err(failed("locking", path, e)),
    }
}

fn beats(file: &File) -> io::Result<[Option<Beat>; 2]> {
    let mut found = [None, None];
    for (slot, found) in (0..).zip(&mut found) {
        let mut sector = [0; SECTOR_BYTES];
        match read_up_to(file, &mut sector, slot * BLOCK_BYTES) {
            Ok(SECTOR_BYTES) => *found = decode(slot, &sector),
            Ok(_) => {}
            // A block that the disk cannot read is a lost copy, and there are two.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn decode(slot: u64, sector: &[u8; SECTOR_BYTES]) -> Option<Beat> {
    let Sector::Sealed { tag: turn, data } = Seal::new(DOMAIN, None, slot).read(0, sector) else {
        return None;
    };
    let mut fields = Unpacker(data);
    let store = StoreId(fields.array()?);
    let incarnation = fields.u64()?;
    let live = SegmentNo(fields.u64()?);
    let seq = Seq(fields.u64()?);
    let pid = fields.u32()?;
    Some(Beat { turn, store, floor: Floor { incarnation, live, seq }, pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_block_wins_and_the_file_never_grows() {
        let dir = tempfile::tempdir().unwrap();
        let id = StoreId([1; 16]);
        let floor = |n| Floor { incarnation: n, live: SegmentNo(1), seq: Seq(n * 10) };
        let mut pulse = Pulse::create(dir.path()).unwrap();
        for n in 1..=5 {
            pulse.beat(&id, floor(n)).unwrap();
            assert_eq!(pulse.read(&id).unwrap(), floor(n));
        }
        let path = dir.path().join(NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * BLOCK_BYTES);

        // Turn 5 stands in block 1: tear it, and turn 4 is what remains.
        pulse.file.write_all_at(&[0xFF; 9], BLOCK_BYTES + 30).unwrap();
        assert_eq!(pulse.read(&id).unwrap(), floor(4));
        pulse.file.write_all_at(&[0xFF; 9], 30).unwrap();
        assert!(matches!(pulse.read(&id), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let mut pulse = Pulse::create(dir.path()).unwrap();
        let floor = Floor { incarnation: 1, live: SegmentNo(1), seq: Seq(0) };
        pulse.beat(&StoreId([1; 16]), floor).unwrap();
        let refused = Pulse::open(dir.path());
        let me = std::process::id();
        assert!(matches!(refused, Err(StoreError::Locked { pid: Some(pid) }) if pid == me));
    }
}
