//! A machine's disk: an ext4 of its own on a loop device, which can be filled and can lose what was
//! not on it yet.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Result, RigError};

/// What a process that was killed may take to let its files go, on a busy machine.
const LET_GO: Duration = Duration::from_secs(10);
/// Sparse: what is not used takes no room.
const MEBIBYTES: u64 = 384;
const FILLER: &str = "filler";
/// The filler's pieces, largest first: the last ones leave less than a block.
const PIECES: [usize; 3] = [1 << 20, 1 << 16, 1 << 12];

/// Mounts that this process makes from now on end with it. To be called before any other thread
/// is started.
pub fn own_mounts() -> Result<()> {
    let own = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // Shared with the machines, which are slaves: an unmounted disk goes there, too.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)
    };
    own().map_err(RigError::system("mounts of our own"))
}

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// An empty one, mounted at `at`, which is made. The image lies beside.
    pub fn new(at: &Path) -> Result<Self> {
        let what = || RigError::system(format!("a disk at {}", at.display()));
        let disk = Self { image: at.with_extension("image"), at: at.to_owned() };
        File::create(&disk.image).map_err(what())?.set_len(MEBIBYTES << 20).map_err(what())?;
        fs::create_dir_all(at).map_err(what())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&disk.image))?;
        disk.mount()?;
        fs::remove_dir(at.join("lost+found")).map_err(what())?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at))
    }

    /// Cuts its power: what is not on it yet never gets there, and every later write fails.
    pub fn cut(&self) -> Result<()> {
        const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let what = || RigError::system(format!("cutting {}", self.at.display()));
        let root = File::open(&self.at).map_err(what())?;
        let how = NO_LOG_FLUSH;
        // SAFETY: the request reads one u32 through the pointer, and `how` outlives the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN as _, &raw const how) };
        if done == 0 { Ok(()) } else { Err(what()(std::io::Error::last_os_error())) }
    }

    /// Back again after [`Disk::cut`], as a boot finds it. Whoever has it open is waited for, but
    /// not for long: what was killed a moment ago may still be on its way out.
    pub fn again(&self) -> Result<()> {
        let until = Instant::now() + LET_GO;
        while let Err(error) = umount2(&self.at, MntFlags::empty()) {
            if error != Errno::EBUSY || Instant::now() >= until {
                let what = format!("unmounting {}", self.at.display());
                return Err(RigError::system(what)(error));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mount()
    }

    /// Takes all the room there is.
    pub fn fill(&self) -> Result<()> {
        let what = || RigError::system(format!("filling {}", self.at.display()));
        let mut filler = File::create(self.at.join(FILLER)).map_err(what())?;
        // Nearly all of it without a write to the image.
        let (more, mut len) = (PIECES[0].cast_signed() as i64, 0);
        while fallocate(&filler, FallocateFlags::empty(), len, more).is_ok() {
            len += more;
        }
        filler.seek(SeekFrom::End(0)).map_err(what())?;
        for piece in PIECES {
            let zeros = vec![0; piece];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(e) => return Err(what()(e)),
                }
            }
        }
        Ok(())
    }

    /// Whoever writes from now on hangs, and cannot even be killed: what a dying controller or a
    /// lost path does.
    pub fn hang(&self) -> Result<()> {
        const FIFREEZE: libc::c_ulong = 0xC004_5877;
        freezer(&self.at, FIFREEZE).map_err(RigError::system(format!("hang {}", self.at.display())))
    }

    /// Ends [`Disk::hang`]; nothing when it does not hang.
    pub fn go_on(&self) {
        thaw(&self.at);
    }

    /// Gives the room back, for good: a removal that the next [`Disk::cut`] undoes leaves a disk that
    /// is full for ever.
    pub fn empty(&self) -> Result<()> {
        let what = || RigError::system(format!("emptying {}", self.at.display()));
        match fs::remove_file(self.at.join(FILLER)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(what()(e)),
            _ => {}
        }
        File::open(&self.at).and_then(|dir| dir.sync_all()).map_err(what())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.go_on();
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn freezer(at: &Path, request: libc::c_ulong) -> std::io::Result<()> {
    let root = File::open(at)?;
    // SAFETY: these requests take no argument that is read; the file is open through the call.
    let done = unsafe { libc::ioctl(root.as_raw_fd(), request as _, 0) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A disk that does not hang says so, which is as good.
fn thaw(at: &Path) {
    const FITHAW: libc::c_ulong = 0xC004_5878;
    let _ = freezer(at, FITHAW);
}

/// Unmounts what is mounted below a directory, so that it can be removed.
pub(crate) fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(at).starts_with(dir) {
            thaw(Path::new(at));
            let _ = umount2(at, MntFlags::MNT_DETACH);
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let what = command.get_program().display().to_string();
    let out = command.output().map_err(RigError::system(what.clone()))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(RigError::Program { what, code: out.status.code(), said })
}
