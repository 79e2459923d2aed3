//! What the tests of this crate share: a reproducible dice, a numbered workload that can be
//! checked after any crash, and a child process that runs it.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // each test file uses a part of it

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tierce_store::{OwnedRecord, Owner, Seq, Store};

pub fn owner() -> Owner {
    Owner { tenant: "acme".to_owned(), member: "north".to_owned() }
}

/// A directory in memory where there is one: these tests write torn files themselves and need no
/// disk; the tests that need one say so.
pub fn memory_dir() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A directory on the disk that holds the build.
pub fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

// --- dice ---------------------------------------------------------------------------------------

/// xorshift64*: small, and the same on every machine.
pub struct Dice(u64);

impl Dice {
    /// Takes its seed from TIERCE_TESTS_SEED or the clock and prints it.
    pub fn from_environment(test: &str) -> Dice {
        let given = std::env::var("TIERCE_TESTS_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or(clock);
        eprintln!("reproduce: TIERCE_TESTS_SEED={seed} cargo nextest run -p tierce-store {test}");
        Dice::new(seed)
    }

    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

// --- the numbered workload ----------------------------------------------------------------------

/// A numbered item, whose bytes follow from its number.
pub const ITEM: u8 = 1;
/// A checkpoint's statement: the number of the next item.
pub const STATE: u8 = 2;

pub fn item(number: u64) -> OwnedRecord {
    let mut dice = Dice::new(number);
    let size = match dice.below(40) {
        0 => 100_000 + dice.below(60_000),
        1..=4 => 500 + dice.below(9_000),
        _ => 8 + dice.below(400),
    };
    let mut payload = number.to_le_bytes().to_vec();
    while (payload.len() as u64) < size {
        payload.extend_from_slice(&dice.next().to_le_bytes());
    }
    OwnedRecord { kind: ITEM, payload }
}

pub fn state(next: u64) -> OwnedRecord {
    OwnedRecord { kind: STATE, payload: next.to_le_bytes().to_vec() }
}

fn number_of(record: &OwnedRecord) -> u64 {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap())
}

/// Checks that recovered records are the workload without gap or change; returns the last number.
pub fn check_recovered(records: &[OwnedRecord]) -> u64 {
    let mut next = 1;
    for (at, record) in records.iter().enumerate() {
        if record.kind == STATE {
            assert_eq!(at, 0, "a checkpoint's statement in the middle");
            next = number_of(record);
        } else {
            assert_eq!(*record, item(next), "record {at} is not item {next}");
            next += 1;
        }
    }
    next - 1
}

/// Checks that the replay of everything retained has no gap and ends with `last`.
pub fn check_replay(store: &Store, last: u64) {
    let (mut expected, mut previous) = (None, None);
    for retained in store.replay_retained().unwrap() {
        let retained = retained.unwrap();
        if let Some(Seq(seq)) = previous {
            assert_eq!(retained.seq, Seq(seq + 1), "a gap in the replay");
        }
        previous = Some(retained.seq);
        assert_eq!(retained.checkpoint, retained.record.kind == STATE);
        let next = number_of(&retained.record);
        if let Some(expected) = expected {
            assert_eq!(next, expected);
        }
        if retained.checkpoint {
            expected = Some(next);
        } else {
            assert_eq!(retained.record, item(next));
            expected = Some(next + 1);
        }
    }
    assert_eq!(expected.unwrap_or(1), last + 1);
    assert_eq!(previous.unwrap_or_default(), store.last_seq());
}

// --- the child ----------------------------------------------------------------------------------

const CHILD: &str = "TIERCE_STORE_TEST_CHILD";

/// In the child: the directory to work in. A test begins by asking this.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

pub fn say(line: &str) {
    // The newline before it ends whatever the test harness has printed.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Appends, checkpoints and pulses until it is killed or the disk fails; says what is
/// acknowledged. Never returns.
pub fn run_child(dir: &Path) -> ! {
    let (mut store, recovered) = match Store::open(dir, &owner()) {
        Ok(opened) => opened,
        Err(error) => {
            say(&format!("refused {error}"));
            std::process::exit(2);
        }
    };
    let mut last = check_recovered(&recovered.records);
    say(&format!("open {}", recovered.incarnation));
    let mut dice = Dice::new(recovered.incarnation);
    loop {
        let result = match dice.below(25) {
            0 => store.checkpoint(&[state(last + 1).borrowed()]),
            1 => store.pulse().map(|()| store.last_seq()),
            _ => {
                let batch: Vec<_> = (0..=dice.below(4)).map(|n| item(last + 1 + n)).collect();
                let refs: Vec<_> = batch.iter().map(OwnedRecord::borrowed).collect();
                store.append(&refs).inspect(|_| last += batch.len() as u64)
            }
        };
        match result {
            Ok(_) => say(&format!("ack {last}")),
            Err(error) => {
                assert!(store.is_poisoned(), "a failed store goes on");
                say(&format!("stop {error}"));
                std::process::exit(3);
            }
        }
    }
}

/// The child as its parent sees it.
pub struct Worker {
    child: Child,
    out: BufReader<ChildStdout>,
    text: String,
}

impl Worker {
    /// Starts this test binary again with the one test `test`, which finds [`child_dir`] set.
    pub fn start(test: &str, dir: &Path) -> Worker {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Worker { child, out, text: String::new() }
    }

    /// Waits until the child has said a line that begins with `word`, or has ended.
    pub fn wait_for(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let got = self.out.read_line(&mut line).unwrap();
            self.text.push_str(&line);
            if got == 0 || line.starts_with(word) {
                return;
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL and returns every whole line that it said.
    pub fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.out.read_to_string(&mut self.text).unwrap();
        let whole = self.text.rfind('\n').map_or("", |end| &self.text[..end]);
        let mut said = Said::default();
        for line in whole.lines() {
            match line.split_once(' ') {
                Some(("ack", number)) => said.acknowledged = number.parse().unwrap(),
                Some(("open", number)) => said.opened = Some(number.parse().unwrap()),
                Some(("stop" | "refused", _)) => said.ended = Some(line.to_owned()),
                _ => {}
            }
        }
        said
    }
}

/// What a child said before it ended.
#[derive(Debug, Default)]
pub struct Said {
    /// The last number it acknowledged, or 0.
    pub acknowledged: u64,
    /// The incarnation it opened as.
    pub opened: Option<u64>,
    /// Why it ended by itself.
    pub ended: Option<String>,
}

// --- disks of our own ---------------------------------------------------------------------------

/// True when the test may mount; otherwise it says so, and fails where nothing may be skipped.
pub fn may_mount() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let strict = std::env::var("TIERCE_TESTS_STRICT").is_ok_and(|value| value == "1");
    assert!(!strict, "this test needs root, and TIERCE_TESTS_STRICT=1 forbids to skip it");
    eprintln!("SKIPPED: mounting a disk of its own needs root");
    false
}

/// An ext4 on a loop device, mounted where only this thread and its children see it. The mount
/// ends with the process at the latest.
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub fn new(mebibytes: u64) -> Disk {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let disk = Disk { dir: disk_dir() };
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(mebibytes * 1024 * 1024).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()));
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    pub fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()));
    }

    pub fn unmount(&self) {
        run(Command::new("umount").arg(self.path()));
    }

    /// Cuts the power: nothing that is not on the disk gets there any more.
    pub fn cut(&self) {
        use std::os::fd::AsRawFd;
        const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const NOLOGFLUSH: u32 = 2;
        let root = std::fs::File::open(self.path()).unwrap();
        let how = NOLOGFLUSH;
        // SAFETY: the request reads one u32 through the pointer, and `how` outlives the call.
        let result =
            unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN as _, &raw const how) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).stderr(Stdio::null()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

// --- copies of a store --------------------------------------------------------------------------

/// All files of a directory, to be laid out again with changes.
#[derive(Clone)]
pub struct Image(pub Vec<(String, Vec<u8>)>);

impl Image {
    pub fn of(dir: &Path) -> Image {
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        Image(files)
    }

    /// Makes the directory hold exactly these files.
    pub fn lay_out(&self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if !self.0.iter().any(|(name, _)| entry.file_name().to_str() == Some(name)) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, bytes) in &self.0 {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    pub fn file(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.0.iter_mut().find(|(found, _)| found == name);
        &mut found.unwrap_or_else(|| panic!("no file {name}")).1
    }

    pub fn without(mut self, name: &str) -> Image {
        self.0.retain(|(found, _)| found != name);
        self
    }

    pub fn with(mut self, name: &str, bytes: Vec<u8>) -> Image {
        self.0.retain(|(found, _)| found != name);
        self.0.push((name.to_owned(), bytes));
        self
    }
}
