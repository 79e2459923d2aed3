//! What is opened, taken and locked once, at start. Each step says what is missing without it.

use crate::daemon::GuardError;
use crate::limits::MAX_CLIENTS;
use crate::log::Log;
use crate::options::{LockMemory, Options};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, umask};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[allow(clippy::cast_possible_wrap)] // 4
const CLIENTS: i32 = MAX_CLIENTS as i32;

pub(crate) fn sys_err(what: &'static str) -> impl Fn(Errno) -> GuardError {
    move |errno| GuardError::System { what, errno }
}

fn path_err(path: &Path) -> impl Fn(std::io::Error) -> GuardError + '_ {
    move |source| GuardError::Path { path: path.into(), source }
}

pub(crate) fn take_lock(socket: &Path) -> Result<Flock<File>, GuardError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut how = OpenOptions::new();
    let file = how.create(true).write(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(path_err(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| GuardError::Taken(socket.to_owned()))
}

pub(crate) fn open_events(path: Option<&Path>) -> Result<Option<File>, GuardError> {
    let Some(path) = path else { return Ok(None) };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map(Some).map_err(path_err(path))
}

/// First half of locking: code and libraries, before the large tables exist.
pub(crate) fn lock_first(options: &Options, log: &mut Log) -> Result<bool, GuardError> {
    if std::fs::write("/proc/self/oom_score_adj", "-1000").is_err() {
        log.say(format_args!("out-of-memory killer: not exempt (needs CAP_SYS_RESOURCE)"));
    }
    if options.lock_memory == LockMemory::No {
        return Ok(false);
    }
    sys::touch_stack();
    match sys::lock_memory(false) {
        Ok(()) => Ok(true),
        Err(errno) if options.lock_memory == LockMemory::Must => Err(GuardError::Lock(errno)),
        Err(errno) => {
            log.say(format_args!("memory: not locked ({errno}); a full machine may stall us"));
            Ok(false)
        }
    }
}

pub(crate) fn go_realtime(log: &mut Log) -> bool {
    let result = sys::realtime();
    if let Err(errno) = result {
        log.say(format_args!("scheduling: not real time ({errno}); a busy machine may delay us"));
    }
    result.is_ok()
}

pub(crate) fn open_socket(path: &Path) -> Result<OwnedFd, GuardError> {
    let at = |errno: Errno| path_err(path)(errno.into());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(at)?;
    let address = UnixAddr::new(path).map_err(at)?;
    let _ = std::fs::remove_file(path); // the lock is ours, so whatever lies here is stale
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(fd.as_raw_fd(), &address);
    umask(before);
    bound.map_err(at)?;
    let backlog = Backlog::new(CLIENTS).unwrap_or(Backlog::MAXCONN);
    listen(&fd, backlog).map_err(at)?;
    Ok(fd)
}

pub(crate) fn open_signals() -> Result<SignalFd, GuardError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal); // SIGHUP is read and ignored: a closed terminal ends nothing
    }
    mask.thread_block().map_err(sys_err("signal mask"))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    SignalFd::with_flags(&mask, flags).map_err(sys_err("signals"))
}

pub(crate) fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
