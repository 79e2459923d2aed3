//! Stop commands: registered beforehand, run without allocating, several at a time.
//!
//! `posix_spawn` clones with shared memory and a stack of its own, so nothing here touches the
//! allocator between the deadline and the command. Each command is its own process group, reads
//! `/dev/null`, writes to the guard's standard error, and runs in ordinary scheduling.

use crate::core::{SlotId, Term, Ticket};
use crate::limits::{MAX_COMMAND, MAX_PARALLEL_STOPS, MAX_WORDS};
use crate::sys;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Write;
use std::mem::MaybeUninit;
use std::ptr;

#[derive(Clone, Copy)]
struct Running {
    pid: i32,
    ticket: Ticket,
    term: Term,
}

/// A stop command that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whose.
    pub ticket: Ticket,
    /// For which grant it was run.
    pub term: Term,
    /// Exit status 0.
    pub ok: bool,
}

/// Commands per place in the table, and what is running now.
pub struct Stopper {
    /// `MAX_COMMAND` bytes per place; pages are touched only where a command is registered.
    commands: Vec<u8>,
    lengths: Vec<u16>,
    running: [Option<Running>; MAX_PARALLEL_STOPS],
    spawn: SpawnSetting,
    path: CString,
}

impl Stopper {
    /// Room for so many tickets. Allocates everything that will ever be needed.
    pub fn new(max_tickets: usize) -> Result<Self, Errno> {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = if path.is_empty() { "/usr/sbin:/usr/bin:/sbin:/bin" } else { path.as_str() };
        Ok(Self {
            commands: vec![0; max_tickets * MAX_COMMAND],
            lengths: vec![0; max_tickets],
            running: [None; MAX_PARALLEL_STOPS],
            spawn: SpawnSetting::new()?,
            path: CString::new(format!("PATH={path}")).unwrap_or_default(),
        })
    }

    /// Registers the command of a place: words each ended by NUL, as the decoder checked.
    pub fn set(&mut self, slot: SlotId, words: &[u8]) {
        assert!(words.len() <= MAX_COMMAND && words.last() == Some(&0), "the decoder checks");
        let start = slot.index() * MAX_COMMAND;
        self.commands[start..start + words.len()].copy_from_slice(words);
        self.lengths[slot.index()] = words.len() as u16;
    }

    /// Runs the command of a place. An error counts as a failed stop.
    pub fn run(&mut self, slot: SlotId, ticket: Ticket, term: Term) -> Result<(), Errno> {
        let free = self.running.iter().position(Option::is_none).ok_or(Errno::EAGAIN)?;
        let start = slot.index() * MAX_COMMAND;
        let words = &self.commands[start..start + usize::from(self.lengths[slot.index()])];
        let pid = self.spawn.spawn(words, &self.path, ticket, term)?;
        self.running[free] = Some(Running { pid, ticket, term });
        Ok(())
    }

    /// The next command that has ended. Called until `None` after SIGCHLD.
    pub fn reap(&mut self) -> Option<Ended> {
        for place in &mut self.running {
            let Some(Running { pid, ticket, term }) = *place else { continue };
            let ok = match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => continue,
                Ok(WaitStatus::Exited(_, code)) => code == 0,
                Ok(_) | Err(_) => false,
            };
            *place = None;
            return Some(Ended { ticket, term, ok });
        }
        None
    }

    /// Kills a hanging stop command with everything in its process group.
    pub fn kill(&mut self, ticket: Ticket) {
        for running in self.running.iter().flatten().filter(|r| r.ticket == ticket) {
            let _ = sys::kill_group(running.pid, libc::SIGKILL); // gone already is as good
        }
    }
}

/// Attributes and file actions, made once.
struct SpawnSetting {
    attributes: Box<libc::posix_spawnattr_t>,
    actions: Box<libc::posix_spawn_file_actions_t>,
}

/// Text on the stack, ended by NUL.
struct Word([u8; 48], usize);

impl Write for Word {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.1 + text.len();
        if end >= self.0.len() {
            return Err(std::fmt::Error);
        }
        self.0[self.1..end].copy_from_slice(text.as_bytes());
        self.1 = end;
        Ok(())
    }
}

fn check(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

impl SpawnSetting {
    fn new() -> Result<Self, Errno> {
        let mut attributes = Box::new(MaybeUninit::<libc::posix_spawnattr_t>::uninit());
        let mut actions = Box::new(MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit());
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: every object is initialised by its init function before its first use, all
        // pointers are to live objects, and the path is a C string. The boxes keep the objects at
        // one address until they are destroyed.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            let attr = attributes.as_mut_ptr();
            check(libc::posix_spawnattr_setflags(attr, flags as libc::c_short))?;
            check(libc::posix_spawnattr_setpgroup(attr, 0))?;
            check(libc::posix_spawnattr_setsigmask(attr, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(attr, all.as_ptr()))?;
            let file = actions.as_mut_ptr();
            let null = c"/dev/null".as_ptr();
            check(libc::posix_spawn_file_actions_addopen(file, 0, null, libc::O_RDONLY, 0))?;
            check(libc::posix_spawn_file_actions_adddup2(file, 2, 1))?;
            Ok(Self { attributes: attributes.assume_init(), actions: actions.assume_init() })
        }
    }

    fn spawn(&self, words: &[u8], path: &CStr, ticket: Ticket, term: Term) -> Result<i32, Errno> {
        let mut argv: [*const c_char; MAX_WORDS + 1] = [ptr::null(); MAX_WORDS + 1];
        let mut count = 0;
        for word in words.split_inclusive(|byte| *byte == 0).take(MAX_WORDS) {
            argv[count] = word.as_ptr().cast();
            count += 1;
        }
        if count == 0 {
            return Err(Errno::ENOENT);
        }
        let mut ticket_word = Word([0; 48], 0);
        let mut term_word = Word([0; 48], 0);
        write!(ticket_word, "TIERCE_TICKET_ID={}", ticket.0).map_err(|_| Errno::EINVAL)?;
        write!(term_word, "TIERCE_TERM={}", term.0).map_err(|_| Errno::EINVAL)?;
        let env = [
            path.as_ptr(),
            ticket_word.0.as_ptr().cast(),
            term_word.0.as_ptr().cast(),
            ptr::null::<c_char>(),
        ];
        let mut pid: libc::pid_t = 0;
        // SAFETY: `words` ends with NUL (asserted in `set`), so each argv entry is a C string
        // within it; both arrays end with a null pointer; attributes and actions are initialised.
        // posix_spawn only reads argv and env although its type says otherwise.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                argv[0],
                &raw const *self.actions,
                &raw const *self.attributes,
                argv.as_ptr().cast(),
                env.as_ptr().cast(),
            )
        })?;
        Ok(pid)
    }
}

impl Drop for SpawnSetting {
    fn drop(&mut self) {
        // SAFETY: both were initialised in `new` and are destroyed exactly once.
        unsafe {
            libc::posix_spawnattr_destroy(&raw mut *self.attributes);
            libc::posix_spawn_file_actions_destroy(&raw mut *self.actions);
        }
    }
}
