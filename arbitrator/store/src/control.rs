//! Control files: whose store this is, where recovery begins, how often it was opened.
//!
//! Two files of one sector each are written in place, one after the other, each with its own
//! sync, and which one comes first alternates. So at rest both say the same, and at every moment
//! at least one of them is whole and says either the last acknowledged state or the next. The
//! newest whole one wins; if neither is whole the store is damaged. Because both are written,
//! losing one to a bad sector later costs nothing: the other is not older.
//!
//! The seal, the magic and the version keep their place in every format to come, so that another
//! version is recognised as such and not as damage.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Packer, Unpacker, damaged, failed, read_up_to, settle, write_zeros};
use crate::error::StoreError;
use crate::ids::{Generation, Owner, SegmentNo, Seq, StoreId};
use crate::limits::{BLOCK_BYTES, FORMAT_VERSION, NAME_MAX_BYTES, SECTOR_BYTES};
use crate::sector::{Seal, Sector};

pub(crate) const NAMES: [&str; 2] = ["control.0", "control.1"];
const MAGIC: &[u8; 8] = b"TIERCEct";
const DOMAIN: [u8; 8] = *b"control\0";

/// What the control files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// Grows with every change; the file with the larger one is newer.
    pub(crate) turn: u64,
    pub(crate) store: StoreId,
    pub(crate) owner: Owner,
    /// Openings so far.
    pub(crate) incarnation: u64,
    pub(crate) generation: Generation,
    /// The live segment: it begins with the checkpoint from which recovery begins.
    pub(crate) live: SegmentNo,
    /// The oldest segment that must be there.
    pub(crate) oldest: SegmentNo,
    /// Known to be acknowledged: recovery must reach at least this.
    pub(crate) floor: Seq,
}

/// What one control file turned out to be.
enum Finding {
    Whole(Control),
    OtherVersion(u32),
    NotWhole(&'static str),
}

/// A name that fits into a control file.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    if name.is_empty() {
        return Err(StoreError::BadName { what: "it is empty" });
    }
    if name.chars().any(char::is_control) {
        return Err(StoreError::BadName { what: "it holds control characters" });
    }
    if name.len() > NAME_MAX_BYTES {
        let (size, limit) = (name.len() as u64, NAME_MAX_BYTES as u64);
        return Err(StoreError::TooLarge { what: "a name", size, limit });
    }
    Ok(())
}

fn encode(control: &Control) -> [u8; SECTOR_BYTES] {
    let fields = Packer::default()
        .bytes(MAGIC)
        .u32(FORMAT_VERSION)
        .bytes(&control.store.0)
        .u64(control.turn)
        .u64(control.incarnation)
        .u32(control.generation.0)
        .u64(control.live.0)
        .u64(control.oldest.0)
        .u64(control.floor.0)
        .text(&control.owner.tenant)
        .text(&control.owner.member);
    Seal::new(DOMAIN, None, 0).single(0, control.turn, &fields.0)
}

fn decode(sector: &[u8; SECTOR_BYTES]) -> Finding {
    match Seal::new(DOMAIN, None, 0).read(0, sector) {
        Sector::Zero => Finding::NotWhole("it is empty"),
        Sector::Bad => Finding::NotWhole("its checksum is wrong"),
        Sector::Sealed { tag, data } => {
            let mut fields = Unpacker(data);
            if fields.bytes(8) != Some(MAGIC) {
                return Finding::NotWhole("it is not a control file");
            }
            match fields.u32() {
                Some(FORMAT_VERSION) => decode_fields(tag, &mut fields)
                    .map_or(Finding::NotWhole("its fields make no sense"), Finding::Whole),
                Some(other) => Finding::OtherVersion(other),
                None => Finding::NotWhole("it ends early"),
            }
        }
    }
}

fn decode_fields(tag: u64, fields: &mut Unpacker<'_>) -> Option<Control> {
    let store = StoreId(fields.array()?);
    let turn = fields.u64()?;
    let incarnation = fields.u64()?;
    let generation = Generation(fields.u32()?);
    let live = SegmentNo(fields.u64()?);
    let oldest = SegmentNo(fields.u64()?);
    let floor = Seq(fields.u64()?);
    let owner = Owner { tenant: fields.text()?, member: fields.text()? };
    let sane = turn == tag && oldest.0 >= 1 && oldest <= live && fields.only_zeros_left();
    let control = Control { turn, store, owner, incarnation, generation, live, oldest, floor };
    sane.then_some(control)
}

fn read_one(dir: &Path, name: &str) -> Result<Finding, StoreError> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(Finding::NotWhole("it is missing"));
        }
        Err(e) => return Err(failed("opening", &path, e)),
    };
    settle(&file, &path)?;
    let mut sector = [0; SECTOR_BYTES];
    match read_up_to(&file, &mut sector, 0) {
        Ok(SECTOR_BYTES) => Ok(decode(&sector)),
        Ok(_) => Ok(Finding::NotWhole("it is cut off")),
        // A sector that the disk cannot read is a lost copy, and there are two.
        Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(Finding::NotWhole("it is unreadable")),
        Err(e) => Err(failed("reading", &path, e)),
    }
}

/// The newest whole control file, or why there is none.
pub(crate) fn read_newest(dir: &Path) -> Result<Control, StoreError> {
    let findings = [read_one(dir, NAMES[0])?, read_one(dir, NAMES[1])?];
    let mut newest: Option<Control> = None;
    let (mut older, mut newer, mut broken) = (None, None, [""; 2]);
    for (finding, broken) in findings.into_iter().zip(&mut broken) {
        match finding {
            Finding::Whole(control) => {
                if newest.as_ref().is_none_or(|best| best.turn < control.turn) {
                    newest = Some(control);
                }
            }
            Finding::OtherVersion(found) if found > FORMAT_VERSION => newer = Some(found),
            Finding::OtherVersion(found) => older = Some(found),
            Finding::NotWhole(what) => *broken = what,
        }
    }
    // One file of a newer format means that a newer release has begun to take the store over.
    if let Some(found) = newer {
        return Err(StoreError::NewerFormat { found, newest: FORMAT_VERSION });
    }
    match (newest, older) {
        (Some(control), _) => Ok(control),
        (None, Some(found)) => Err(StoreError::OlderFormat { found, oldest: FORMAT_VERSION }),
        (None, None) => {
            let what = format!("{}: {}; {}: {}", NAMES[0], broken[0], NAMES[1], broken[1]);
            Err(damaged(&dir.join(NAMES[0]), 0, what))
        }
    }
}

/// Creates both files, empty; the caller syncs the directory.
pub(crate) fn create_both(dir: &Path) -> Result<(), StoreError> {
    for name in NAMES {
        let path = dir.join(name);
        let file = File::create(&path).map_err(|e| failed("creating", &path, e))?;
        write_zeros(&file, &path, 0, BLOCK_BYTES)?;
        file.sync_all().map_err(|e| failed("syncing", &path, e))?;
    }
    Ok(())
}

/// Takes the next turn and writes it to both files, durably, the older one first.
pub(crate) fn write_both(dir: &Path, control: &mut Control) -> Result<(), StoreError> {
    control.turn += 1;
    let sector = encode(control);
    let first = usize::from(control.turn % 2 == 1);
    for name in [NAMES[first], NAMES[1 - first]] {
        let path = dir.join(name);
        write_in_place(&path, &sector)?;
    }
    Ok(())
}

fn write_in_place(path: &PathBuf, sector: &[u8; SECTOR_BYTES]) -> Result<(), StoreError> {
    // `create`: a lost copy is made again, and the one beside it is whole meanwhile.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| failed("opening", path, e))?;
    file.write_all_at(sector, 0).map_err(|e| failed("writing", path, e))?;
    file.sync_all().map_err(|e| failed("syncing", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SECTOR_DATA_BYTES;
    use tierce_tests::fuzz;

    fn sample(turn: u64) -> Control {
        Control {
            turn,
            store: StoreId([3; 16]),
            owner: Owner { tenant: "t".repeat(NAME_MAX_BYTES), member: "m".repeat(NAME_MAX_BYTES) },
            incarnation: 4,
            generation: Generation(2),
            live: SegmentNo(9),
            oldest: SegmentNo(2),
            floor: Seq(77),
        }
    }

    #[test]
    fn the_longest_names_fit_and_come_back() {
        let Finding::Whole(back) = decode(&encode(&sample(6))) else { panic!("not whole") };
        assert_eq!(back, sample(6));
    }

    #[test]
    fn another_version_is_recognised_as_such() {
        let mut fields = Packer::default().bytes(MAGIC).u32(FORMAT_VERSION + 1).0;
        fields.extend_from_slice(b"whatever a later format says");
        let sector = Seal::new(DOMAIN, None, 0).single(0, 5, &fields);
        assert!(matches!(decode(&sector), Finding::OtherVersion(2)));
    }

    #[test]
    fn whichever_copy_is_torn_the_other_one_carries_the_last_acknowledged_state() {
        let dir = tempfile::tempdir().unwrap();
        create_both(dir.path()).unwrap();
        let mut control = sample(0);
        for round in 0..6 {
            control.incarnation = round;
            write_both(dir.path(), &mut control).unwrap();
            for name in NAMES {
                let path = dir.path().join(name);
                let whole = std::fs::read(&path).unwrap();
                let mut torn = whole.clone();
                torn[100] ^= 1;
                std::fs::write(&path, &torn).unwrap();
                assert_eq!(read_newest(dir.path()).unwrap(), control);
                std::fs::remove_file(&path).unwrap();
                assert_eq!(read_newest(dir.path()).unwrap(), control);
                std::fs::write(&path, &whole).unwrap();
            }
        }
    }

    /// A good seal does not make its fields good.
    #[test]
    fn any_fields_under_a_good_seal_are_a_control_file_or_are_refused() {
        let turn = 7;
        let samples = vec![encode(&sample(turn))[..SECTOR_DATA_BYTES].to_vec()];
        let seal = Seal::new(DOMAIN, None, 0);
        bolero::check!().for_each(|bytes: &[u8]| {
            for input in fuzz::inputs(&samples, bytes) {
                let fields = &input[..input.len().min(SECTOR_DATA_BYTES)];
                let sector = seal.single(0, turn, fields);
                if let Finding::Whole(control) = decode(&sector) {
                    assert_eq!(encode(&control), sector);
                }
                let mut raw = [0; SECTOR_BYTES];
                raw[..fields.len()].copy_from_slice(fields);
                assert!(!matches!(decode(&raw), Finding::Whole(_)), "a seal by accident");
            }
        });
    }

    #[test]
    fn the_newer_of_two_whole_copies_wins() {
        let dir = tempfile::tempdir().unwrap();
        for (at, turn) in [(0, 8), (1, 9)] {
            std::fs::write(dir.path().join(NAMES[at]), encode(&sample(turn))).unwrap();
        }
        assert_eq!(read_newest(dir.path()).unwrap().turn, 9);
    }
}
