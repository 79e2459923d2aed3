//! The recorder of a process: encodes, stamps, stores, keeps copies.
//!
//! A record costs one encoding into a buffer of the thread, then one short critical section: two
//! clock readings, a checksum and a copy. Taking the stamps inside it makes sequence, hybrid time
//! and place in the ring agree. Nothing is allocated and no other lock is taken.
//!
//! A start never overwrites what the last run left behind: its ring is renamed to
//! `NAME.previous.tfr` first, because the run that crashed is the interesting one.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{OnceLock, PoisonError, TryLockError};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::dump::DumpBudget;
use crate::encode::{Encoder, Field};
use crate::hlc::{Hlc, HlcClock, Observed};
use crate::layout::{Header, Heard, MAX_PAYLOAD, SLOT, Sender};
use crate::limits::{
    DEFAULT_RECORDER_BYTES, MAX_PROCESS_BYTES, MAX_RECORDER_BYTES, MIN_RECORDER_BYTES,
    URGENT_LOCK_ATTEMPTS,
};
use crate::place::{file_safe, prepare_dir};
use crate::ring::{Payload, Ring, Times};
use crate::sync::{AtomicU64, Mutex, MutexGuard, thread_local, yield_now};
use crate::{Clock, Error, Result};

/// A record that only notes a received message: kind "heard", no fields.
const HEARD_NOTE: Payload<'_> = Payload { bytes: b"\x05heard", cut: false };

thread_local! {
    static BUFFER: RefCell<[u8; MAX_PAYLOAD]> = const { RefCell::new([0; MAX_PAYLOAD]) };
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();
/// Gives stamps in processes without a recorder.
static BARE_HLC: HlcClock = HlcClock::new();

/// How a recorder is set up.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// Who records: "agent@paris". Also the file's name.
    pub process: String,
    /// Directory of the ring, on tmpfs; made when missing.
    pub dir: PathBuf,
    /// Size of the ring in bytes.
    pub bytes: usize,
    /// Where panics and safety violations leave their dump; `dir/dumps` when none.
    pub dump_dir: Option<PathBuf>,
    /// Source of time.
    pub clock: Clock,
}

impl RecorderOptions {
    /// The usual settings, in that directory.
    pub fn new(process: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            process: process.into(),
            dir: dir.into(),
            bytes: DEFAULT_RECORDER_BYTES,
            dump_dir: None,
            clock: Clock::system(),
        }
    }
}

/// A flight recorder. Usually there is one per process, made by [`crate::init`].
pub struct Recorder {
    ring: Mutex<Ring>,
    hlc: HlcClock,
    clock: Clock,
    process: String,
    path: PathBuf,
    dump_dir: PathBuf,
    lost: AtomicU64,
    pub(crate) budget: Mutex<DumpBudget>,
    /// Held for as long as the ring is ours.
    _lock: Flock<File>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Makes the ring; sets the one of the last run aside.
    pub fn create(options: RecorderOptions) -> Result<Self> {
        let RecorderOptions { process, dir, bytes, dump_dir, clock } = options;
        check(&process, bytes)?;
        prepare_dir(&dir).map_err(Error::io("using", &dir))?;
        let name = file_safe(&process, MAX_PROCESS_BYTES);
        let lock = lock(&dir.join(format!("{name}.lock")))?;
        let path = dir.join(format!("{name}.tfr"));
        if path.exists() {
            let previous = dir.join(format!("{name}.previous.tfr"));
            fs::rename(&path, &previous).map_err(Error::io("setting aside", &path))?;
        }
        let file = open_private(&path, OFlag::O_EXCL).map_err(Error::io("creating", &path))?;
        let header = Header {
            capacity: bytes.next_multiple_of(SLOT) as u64,
            run: draw_run()?,
            pid: std::process::id(),
            process: process.clone(),
            boot_id: boot_id(),
            started_wall_ns: clock.wall_ns(),
        };
        let ring = Ring::create(&file, &header).map_err(|e| {
            // A ring without its space would only be in the way.
            let _ = fs::remove_file(&path);
            Error::io("allocating", &path)(e)
        })?;
        Ok(Self {
            ring: Mutex::new(ring),
            hlc: HlcClock::new(),
            clock,
            process,
            dump_dir: dump_dir.unwrap_or_else(|| dir.join("dumps")),
            path,
            lost: AtomicU64::new(0),
            budget: Mutex::new(DumpBudget::full()),
            _lock: lock,
        })
    }

    /// The ring's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where dumps go when the caller has no better place.
    pub fn dump_dir(&self) -> &Path {
        &self.dump_dir
    }

    /// Who records.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Records left out because one was made inside the formatting of another.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records something that happened. Names and values beyond the limits are cut.
    pub fn record(&self, kind: &str, fields: &[(&str, Field<'_>)]) {
        self.write(kind, |encoder| {
            for (key, value) in fields {
                encoder.field(key, *value);
            }
        });
    }

    pub(crate) fn write(&self, kind: &str, fill: impl FnOnce(&mut Encoder<'_>)) {
        BUFFER.with(|buffer| {
            let Ok(mut buffer) = buffer.try_borrow_mut() else {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let mut encoder = Encoder::new(&mut buffer[..], kind);
            fill(&mut encoder);
            let (used, cut) = encoder.finish();
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            self.store(ring, Payload { bytes: &buffer[..used], cut });
        });
    }

    /// As `record`, but neither waits for the lock for long nor uses the thread's buffer: for a
    /// panic, which may come from anywhere.
    pub(crate) fn record_urgent(&self, kind: &str, fields: &[(&str, Field<'_>)]) {
        let mut buffer = [0; MAX_PAYLOAD];
        let mut encoder = Encoder::new(&mut buffer, kind);
        for (key, value) in fields {
            encoder.field(key, *value);
        }
        let (used, cut) = encoder.finish();
        if let Some(ring) = self.ring_urgent() {
            self.store(ring, Payload { bytes: &buffer[..used], cut });
        }
    }

    /// Appends, after bare records for what the record itself cannot note.
    fn store(&self, mut ring: MutexGuard<'_, Ring>, payload: Payload<'_>) {
        while ring.heard_more_than_one() {
            self.append(&mut ring, HEARD_NOTE);
        }
        self.append(&mut ring, payload);
    }

    fn append(&self, ring: &mut Ring, payload: Payload<'_>) {
        let boot_ns = Clock::boot_ns();
        let wall_ns = ring.wall_at(boot_ns, self.clock);
        let hlc = self.hlc.tick(wall_ns / 1_000_000).0;
        ring.append(Times { boot_ns, wall_ns, hlc }, payload);
    }

    fn ring_urgent(&self) -> Option<MutexGuard<'_, Ring>> {
        for _ in 0..URGENT_LOCK_ATTEMPTS {
            match self.ring.try_lock() {
                Ok(ring) => return Some(ring),
                Err(TryLockError::Poisoned(ring)) => return Some(ring.into_inner()),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
        None
    }

    /// The recording as it stands, and the number its next record will get.
    pub(crate) fn copy(&self, urgent: bool) -> std::io::Result<(Vec<u8>, u64)> {
        let mut bytes = Vec::with_capacity(fs::metadata(&self.path)?.len() as usize);
        let ring = if urgent {
            self.ring_urgent()
        } else {
            Some(self.ring.lock().unwrap_or_else(PoisonError::into_inner))
        };
        if let Some(mut ring) = ring {
            ring.copy_to(&mut bytes);
            return Ok((bytes, ring.sequence()));
        }
        // Somebody died with the lock: take what the file has; torn records are told apart.
        File::open(&self.path)?.take(MAX_RECORDER_BYTES as u64 * 2).read_to_end(&mut bytes)?;
        Ok((bytes, 0))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A stamp for an outgoing message.
    pub fn hlc_now(&self) -> Hlc {
        self.hlc.tick(self.clock.wall_ns() / 1_000_000)
    }

    /// Takes over the stamp of a received message. The next record notes the message, so that
    /// `merge` keeps the order even when the clocks disagree and the stamp is refused. `sender`
    /// is the sending process as it names itself, or empty when unknown.
    pub fn hlc_observe_from(&self, stamp: Hlc, sender: &str) -> Observed {
        let heard = Heard { sender: Sender::of(sender), stamp: stamp.0 };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if !ring.hear(heard) {
            self.append(&mut ring, HEARD_NOTE);
            let noted = ring.hear(heard);
            assert!(noted, "a record takes one out of the table");
        }
        drop(ring);
        self.hlc.observe(stamp, self.clock.wall_ns() / 1_000_000)
    }

    pub(crate) fn install(self) -> Result<&'static Self> {
        self.hlc.raise(BARE_HLC.last());
        RECORDER.set(self).map_err(|_| Error::AlreadyStarted)?;
        recorder().ok_or(Error::AlreadyStarted)
    }
}

/// This process's recorder, once [`crate::init`] made one.
pub fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

/// Records something that happened in this process's recorder, if it has one.
pub fn record(kind: &str, fields: &[(&str, Field<'_>)]) {
    if let Some(recorder) = recorder() {
        recorder.record(kind, fields);
    }
}

/// Copies this process's recording to a file in `to_dir` whose name carries `reason`.
pub fn dump(reason: &str, to_dir: &Path) -> Result<PathBuf> {
    recorder().ok_or(Error::NoRecorder)?.dump(reason, to_dir)
}

/// A hybrid logical stamp for an outgoing message.
pub fn hlc_now() -> u64 {
    match recorder() {
        Some(recorder) => recorder.hlc_now().0,
        None => BARE_HLC.tick(Clock::system().wall_ns() / 1_000_000).0,
    }
}

/// Takes over the stamp of a received message of an unknown sender.
pub fn hlc_observe(stamp: u64) -> Observed {
    hlc_observe_from(stamp, "")
}

/// Takes over the stamp of a message received from the process of that name ("agent@paris").
pub fn hlc_observe_from(stamp: u64, sender: &str) -> Observed {
    match recorder() {
        Some(recorder) => recorder.hlc_observe_from(Hlc(stamp), sender),
        None => BARE_HLC.observe(Hlc(stamp), Clock::system().wall_ns() / 1_000_000),
    }
}

fn check(process: &str, bytes: usize) -> Result<()> {
    let named = process.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !named || process.len() > MAX_PROCESS_BYTES {
        return Err(Error::Setting {
            what: "process name",
            found: format!("{process:?}"),
            allowed: format!("1 to {MAX_PROCESS_BYTES} bytes, a letter or digit first"),
        });
    }
    if !(MIN_RECORDER_BYTES..=MAX_RECORDER_BYTES).contains(&bytes) {
        return Err(Error::Setting {
            what: "recorder size",
            found: format!("{bytes} bytes"),
            allowed: format!("{MIN_RECORDER_BYTES} to {MAX_RECORDER_BYTES} bytes"),
        });
    }
    Ok(())
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let file = open_private(path, OFlag::empty()).map_err(Error::io("opening", path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EAGAIN => Error::Busy { path: path.to_owned() },
        other => Error::io("locking", path)(other.into()),
    })
}

/// Opens for writing, makes when missing, readable by us alone, never through a link.
pub(crate) fn open_private(path: &Path, more: OFlag) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | more).bits())
        .open(path)
}

fn draw_run() -> Result<u64> {
    let source = Path::new("/dev/urandom");
    let mut run = [0; 8];
    File::open(source)
        .and_then(|mut f| f.read_exact(&mut run))
        .map_err(Error::io("reading", source))?;
    Ok(u64::from_le_bytes(run))
}

/// Which boot of the machine this is; empty where the kernel does not tell.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod orders;
