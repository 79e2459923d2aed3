//! System calls that `nix` does not wrap, each with the proof that the call is sound.

use crate::core::BootTime;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Now, by `CLOCK_BOOTTIME`.
pub fn boot_now() -> BootTime {
    // The clock exists since Linux 2.6.39 and cannot fail with a valid id; should it ever, the far
    // future is the safe side: everything counts as due.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(BootTime::NEVER, |now| {
        BootTime(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
    })
}

/// Locks what is mapped now. With `on_fault`, pages not yet touched are locked when they are:
/// for large tables, whose pages are touched when a ticket is registered, long before a deadline.
pub(crate) fn lock_memory(on_fault: bool) -> Result<(), Errno> {
    let flags = libc::MCL_CURRENT | if on_fault { libc::MCL_ONFAULT } else { 0 };
    // SAFETY: mlockall takes flags only and changes no memory contents.
    Errno::result(unsafe { libc::mlockall(flags as libc::c_int) }).map(drop)
}

/// Round-robin real time at the lowest real-time priority: ahead of everything ordinary, behind
/// other real-time work. Children fall back to ordinary scheduling.
pub(crate) fn realtime() -> Result<(), Errno> {
    let param = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` is a valid structure that outlives the call; pid 0 is this thread.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const param) }).map(drop)
}

/// Touches the stack that the loop will ever need, so that it is mapped before it is locked.
#[inline(never)]
#[allow(clippy::large_stack_arrays)] // its size is its purpose
pub(crate) fn touch_stack() {
    let mut room = [0u8; 128 * 1024];
    for at in (0..room.len()).step_by(4096) {
        room[at] = std::hint::black_box(1);
    }
    std::hint::black_box(&mut room);
}

/// Sends a signal to a whole process group.
pub(crate) fn kill_group(group: i32, signal: i32) -> Result<(), Errno> {
    assert!(group > 1, "0 and 1 would mean our own group and everything");
    // SAFETY: killpg touches no memory of this process.
    Errno::result(unsafe { libc::killpg(group, signal) }).map(drop)
}

/// Sets the timeout of a watchdog device in seconds and returns what the device made of it.
pub(crate) fn watchdog_timeout(fd: i32, seconds: i32) -> Result<i32, Errno> {
    const WDIOC_SETTIMEOUT: libc::c_ulong = 0xC004_5706; // _IOWR('W', 6, int)
    let mut value: libc::c_int = seconds;
    // SAFETY: the request reads and writes one int, to which a valid pointer is given.
    Errno::result(unsafe { libc::ioctl(fd, WDIOC_SETTIMEOUT as _, &raw mut value) })?;
    Ok(value)
}

/// Takes ownership of a descriptor that the kernel has just handed out.
pub(crate) fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "a successful call returned it");
    // SAFETY: the caller got this number from accept4 a moment ago and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
