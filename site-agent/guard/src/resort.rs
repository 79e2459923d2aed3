//! The last resort: what happens when dependents are not known to be stopped at D − W.
//!
//! It is chosen by name, never by default, because two of the four reset the machine:
//!
//! | name | what it does | protects against | not against |
//! |---|---|---|---|
//! | `watchdog[:DEV]` | resets the node at once through sysrq where there is one, else lets the hardware fire; hardware also fires if the guard itself stops petting | hung stop, frozen or killed guard, hung kernel | a host that pauses the guest from outside |
//! | `sysrq[:FILE]` | immediate reset by the kernel | hung stop, hung disks | a frozen or killed guard, a hung kernel |
//! | `kill` | SIGKILL to the process groups that the agent registered | a hung stop of ordinary processes | kernel services (mounts, addresses, exports), processes in uninterruptible sleep, groups never registered, a frozen guard |
//! | `record:FILE` | appends a line to the file and does nothing | nothing: for tests | everything |

use crate::core::{Reason, Term, Ticket};
use crate::limits::MAX_GROUPS;
use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Why a last resort cannot be used.
#[derive(Debug, Error)]
pub enum ResortError {
    /// The name is none of ours.
    #[error(
        "unknown last resort {0:?}: choose watchdog[:DEVICE], sysrq[:FILE], kill or record:FILE; \
         watchdog and sysrq reset this machine when a stop hangs"
    )]
    Unknown(String),
    /// The device or file cannot be opened.
    #[error(
        "last resort {name}: {path:?}: {source}; the node cannot be reset this way; check the \
         device and the rights, or choose another last resort knowingly"
    )]
    Open {
        /// Which.
        name: &'static str,
        /// What was opened.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The watchdog takes no timeout, or another one than asked for.
    #[error(
        "watchdog {path:?}: timeout of {asked} s not accepted ({got}); choose --watchdog-timeout \
         from what the driver supports and W at least as long"
    )]
    Timeout {
        /// The device.
        path: PathBuf,
        /// Seconds asked for.
        asked: i32,
        /// What came back.
        got: String,
    },
}

/// A last resort by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResortSpec {
    /// A watchdog device.
    Watchdog(PathBuf),
    /// The kernel's sysrq trigger.
    Sysrq(PathBuf),
    /// Kill registered process groups.
    Kill,
    /// Write a line.
    Record(PathBuf),
}

impl FromStr for ResortSpec {
    type Err = ResortError;

    fn from_str(text: &str) -> Result<Self, ResortError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(PathBuf::from(argument))),
            None => (text, None),
        };
        match (name, argument) {
            ("watchdog", path) => Ok(Self::Watchdog(path.unwrap_or("/dev/watchdog".into()))),
            ("sysrq", path) => Ok(Self::Sysrq(path.unwrap_or("/proc/sysrq-trigger".into()))),
            ("kill", None) => Ok(Self::Kill),
            ("record", Some(path)) if !path.as_os_str().is_empty() => Ok(Self::Record(path)),
            _ => Err(ResortError::Unknown(text.to_owned())),
        }
    }
}

impl ResortSpec {
    /// Opens it. `timeout` is that of the watchdog device, whole seconds.
    pub fn open(&self, timeout: Duration) -> Result<Box<dyn LastResort>, ResortError> {
        Ok(match self {
            Self::Watchdog(path) => Box::new(WatchdogDevice::open(path, timeout)?),
            Self::Sysrq(path) => {
                let file = open("sysrq", path, OpenOptions::new().write(true))?;
                Box::new(Sysrq { file })
            }
            Self::Kill => Box::new(KillGroup),
            Self::Record(path) => {
                let file = open("record", path, OpenOptions::new().append(true).create(true))?;
                Box::new(Recording { file })
            }
        })
    }
}

fn open(name: &'static str, path: &Path, how: &OpenOptions) -> Result<File, ResortError> {
    how.open(path).map_err(|source| ResortError::Open { name, path: path.into(), source })
}

/// A process group with the start time of its leader, so that a reused number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    id: i32,
    started: u64,
}

impl Group {
    /// A group as it is now. Numbers below 2 name no group that could be meant.
    pub fn look_up(id: i32) -> Option<Self> {
        (id > 1).then(|| Self { id, started: start_time(id).unwrap_or(0) })
    }

    /// True unless the leader's process number now belongs to somebody else. A group without its
    /// leader keeps the number occupied, so an absent leader is no sign of reuse.
    fn is_same(self) -> bool {
        start_time(self.id).is_none_or(|started| started == self.started)
    }
}

/// Field 22 of `/proc/PID/stat`, read without allocating.
fn start_time(pid: i32) -> Option<u64> {
    let mut path = [0u8; 32];
    let rest = {
        let mut room = &mut path[..];
        write!(room, "/proc/{pid}/stat").ok()?;
        room.len()
    };
    let path = std::str::from_utf8(&path[..32 - rest]).ok()?;
    let mut bytes = [0u8; 1024];
    let len = File::open(path).ok()?.read(&mut bytes).ok()?;
    let after = bytes[..len].iter().rposition(|byte| *byte == b')')? + 2;
    let text = std::str::from_utf8(bytes.get(after..len)?).ok()?;
    text.split(' ').nth(19)?.parse().ok()
}

/// What is to be ended, and why.
#[derive(Debug)]
pub struct Order<'a> {
    /// Whose dependents are not known stopped.
    pub ticket: Ticket,
    /// Under which grant.
    pub term: Term,
    /// Why.
    pub reason: Reason,
    /// Registered process groups; unused places are `None`.
    pub groups: &'a [Option<Group>; MAX_GROUPS],
}

/// What came of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The node goes down within the watchdog's timeout at the latest.
    NodeGoesDown,
    /// So many process groups were killed; the node lives on.
    Killed(u32),
    /// A line was written, nothing else.
    Recorded,
    /// It failed: nothing on this node enforces the deadline any more.
    Failed,
}

/// The last resort. Implementations allocate nothing after they were opened.
pub trait LastResort {
    /// The name by which it was chosen.
    fn name(&self) -> &'static str;
    /// Its number in status packets.
    fn number(&self) -> u8;
    /// Within what time the hardware fires after the last pet, where there is hardware.
    fn timeout(&self) -> Option<Duration> {
        None
    }
    /// The node is in order.
    fn pet(&mut self) {}
    /// Now.
    fn reset(&mut self, order: &Order<'_>) -> Outcome;
    /// The guard ends in order, nothing is guarded.
    fn release(&mut self) {}
}

/// A watchdog device, held open from start to orderly end.
struct WatchdogDevice {
    file: File,
    sysrq: Option<File>,
    timeout: Duration,
}

impl WatchdogDevice {
    fn open(path: &Path, timeout: Duration) -> Result<Self, ResortError> {
        let asked = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).max(1);
        let mut file = open("watchdog", path, OpenOptions::new().write(true))?;
        let set = sys::watchdog_timeout(file.as_raw_fd(), asked);
        if set != Ok(asked) {
            // Opening has started it: a magic close keeps a refused start from resetting the node.
            let _ = file.write_all(b"V");
            let got = match set {
                Ok(seconds) => format!("the driver made {seconds} s of it"),
                Err(error) => error.to_string(),
            };
            return Err(ResortError::Timeout { path: path.into(), asked, got });
        }
        let sysrq = OpenOptions::new().write(true).open("/proc/sysrq-trigger").ok();
        Ok(Self { file, sysrq, timeout: Duration::from_secs(asked as u64) })
    }
}

impl LastResort for WatchdogDevice {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn number(&self) -> u8 {
        1
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn pet(&mut self) {
        let _ = self.file.write_all(b"1"); // a failing pet leads to a reset: the safe side
    }

    fn reset(&mut self, _order: &Order<'_>) -> Outcome {
        // At once where the kernel can; and the hardware, not petted any more, in any case.
        if let Some(sysrq) = &mut self.sysrq {
            let _ = sysrq.write_all(b"b");
        }
        Outcome::NodeGoesDown
    }

    fn release(&mut self) {
        let _ = self.file.write_all(b"V");
    }
}

/// The kernel's immediate reset.
struct Sysrq {
    file: File,
}

impl LastResort for Sysrq {
    fn name(&self) -> &'static str {
        "sysrq"
    }

    fn number(&self) -> u8 {
        2
    }

    fn reset(&mut self, _order: &Order<'_>) -> Outcome {
        match self.file.write_all(b"b") {
            Ok(()) => Outcome::NodeGoesDown,
            Err(_) => Outcome::Failed,
        }
    }
}

/// SIGKILL to what was registered.
struct KillGroup;

impl LastResort for KillGroup {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn number(&self) -> u8 {
        3
    }

    fn reset(&mut self, order: &Order<'_>) -> Outcome {
        let mut killed = 0;
        for group in order.groups.iter().flatten().filter(|group| group.is_same()) {
            killed += u32::from(sys::kill_group(group.id, libc::SIGKILL).is_ok());
        }
        Outcome::Killed(killed)
    }
}

/// Writes what it would have done.
struct Recording {
    file: File,
}

impl LastResort for Recording {
    fn name(&self) -> &'static str {
        "record"
    }

    fn number(&self) -> u8 {
        4
    }

    fn reset(&mut self, order: &Order<'_>) -> Outcome {
        let now = crate::sys::boot_now().0;
        let Order { ticket, term, reason, .. } = order;
        let mut line = [0u8; 128];
        let rest = {
            let mut room = &mut line[..];
            let word = reason.word();
            let _ = writeln!(room, "{now} reset ticket={} term={} reason={word}", ticket.0, term.0);
            room.len()
        };
        match self.file.write_all(&line[..128 - rest]) {
            Ok(()) => Outcome::Recorded,
            Err(_) => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_resort_is_chosen_by_name_and_never_guessed() {
        assert_eq!("kill".parse::<ResortSpec>().unwrap(), ResortSpec::Kill);
        let device = ResortSpec::Watchdog("/dev/watchdog1".into());
        assert_eq!("watchdog:/dev/watchdog1".parse::<ResortSpec>().unwrap(), device);
        let file = ResortSpec::Record("/tmp/a:b".into());
        assert_eq!("record:/tmp/a:b".parse::<ResortSpec>().unwrap(), file);
        for wrong in ["", "reboot", "record", "record:", "kill:now"] {
            assert!(wrong.parse::<ResortSpec>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_missing_or_no_watchdog_is_refused_with_its_path() {
        let second = Duration::from_secs(1);
        let missing = ResortSpec::Sysrq("/nonexistent/sysrq".into());
        let text = missing.open(second).err().expect("refused").to_string();
        assert!(text.contains("/nonexistent/sysrq"), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = ResortSpec::Watchdog(file.path().into());
        assert!(matches!(plain.open(second), Err(ResortError::Timeout { .. })));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"V", "closed in order");
    }

    #[test]
    fn a_reused_process_number_is_not_taken_for_the_registered_group() {
        let own = std::process::id().cast_signed();
        let group = Group::look_up(own).unwrap();
        assert!(group.started > 0 && group.is_same());
        assert!(!Group { started: group.started + 1, ..group }.is_same());
        assert_eq!(Group::look_up(1), None);
        assert_eq!(Group::look_up(-5), None);
    }
}
