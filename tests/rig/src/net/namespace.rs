//! Network namespaces without names: they end with the last process and handle.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Result, RigError};
use crate::limits::{INTERFACE, INTERFACE_QUEUE};

/// A network namespace of its own.
#[derive(Debug)]
pub struct Namespace {
    handle: OwnedFd,
}

impl Namespace {
    /// A fresh one; only loopback is in it, and up.
    pub fn new() -> Result<Self> {
        let made = std::thread::spawn(|| -> std::io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let handle = made.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        let handle = handle.map_err(RigError::system("making a network namespace"))?;
        let space = Self { handle: handle.into() };
        space.ip(&["link", "set", "lo", "up"])?;
        Ok(space)
    }

    /// Runs something on a thread inside, for sockets that live there.
    pub fn with<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.handle, CloneFlags::CLONE_NEWNET)
                    .map_err(RigError::system("entering a network namespace"))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The namespace's handle.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// `ip WORDS` inside.
    pub fn ip(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(words);
        self.place(&mut command)?;
        let out = command.output().map_err(RigError::system("ip (package iproute2)"))?;
        if out.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        Err(RigError::Program {
            what: format!("ip {}", words.join(" ")),
            code: out.status.code(),
            said,
        })
    }

    /// The command will run inside.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        let handle = self.handle.try_clone().map_err(RigError::system("a handle"))?;
        // SAFETY: runs in the child between fork and exec; one system call on an open handle.
        unsafe {
            command.pre_exec(move || Ok(setns(&handle, CloneFlags::CLONE_NEWNET)?));
        }
        Ok(())
    }

    /// The machine's end of its cable: a TUN device with this address, up.
    pub(super) fn open_tun(&self, address: Ipv4Addr) -> Result<File> {
        let tun = self.with(|| tun(INTERFACE))?.map_err(RigError::system("/dev/net/tun"))?;
        let queue = INTERFACE_QUEUE.to_string();
        self.ip(&["address", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        self.ip(&["link", "set", INTERFACE, "txqueuelen", &queue, "up"])?;
        Ok(tun)
    }
}

fn tun(name: &str) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid `ifreq`, which is plain numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the file is a TUN device and the request lives through the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(file) }
}
