//! Runs one program to its end, whatever it does.
//!
//! Ends are: it exits; its time is up or it is cancelled, then TERM, and after a grace KILL, to
//! its whole process group; it survives KILL (stuck in the kernel), then it is reported and left
//! to a thread that waits for it. Its output is read all the while, so that it never blocks on a
//! full pipe, but once the program itself ended nobody waits for the end of the output: a daemon
//! that it started may hold the pipe for years.
//!
//! The program is not reaped before its group was signalled: as long as it is a zombie, its number
//! cannot belong to anybody else.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};

use crate::limits::{DRAIN_WAIT, KILL_WAIT};
use crate::outcome::{Outcome, Status};

const READ_BYTES: usize = 16 << 10;

/// How a program is run.
pub(crate) struct Bounds {
    pub(crate) timeout: Duration,
    pub(crate) term_grace: Duration,
    pub(crate) output_bytes: usize,
    /// Nothing it started may go on after it ended.
    pub(crate) leaves_nothing: bool,
}

/// Runs `command`, whose output is piped and which makes itself a process group. Ends early when
/// `cancel` does.
pub(crate) async fn run(
    mut command: Command,
    bounds: &Bounds,
    read_code: fn(i32) -> Status,
    cancel: impl Future<Output = ()>,
) -> Outcome {
    let started = Instant::now();
    let mut outcome = match Running::launch(&mut command, bounds.output_bytes) {
        Ok(running) => running.finish(bounds, read_code, cancel).await,
        Err(e) => not_launched(&command, &e),
    };
    outcome.duration = started.elapsed();
    outcome
}

fn not_launched(command: &Command, error: &io::Error) -> Outcome {
    let status = match error.kind() {
        io::ErrorKind::NotFound => Status::NotInstalled,
        io::ErrorKind::PermissionDenied => Status::InsufficientPermissions,
        _ => Status::Error,
    };
    Outcome::told(status, format!("cannot run {}: {error}", command.get_program().display()))
}

/// Why the end was brought about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Terminated,
    Killed,
}

struct Running {
    group: Group,
    exit: AsyncFd<OwnedFd>,
    stdout: Output,
    stderr: Output,
}

impl Running {
    fn launch(command: &mut Command, output_bytes: usize) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // From here on an error ends the group through the guard's drop.
        let group = Group(Some(child));
        let exit = pidfd(group.pid())?;
        // SAFETY: an `OwnedFd` is open, and stays the same descriptor, for as long as it lives;
        // the `AsyncFd` owns it and nothing takes it out.
        let exit = unsafe { AsyncFd::register_with_interest(exit, Interest::READABLE)? };
        Ok(Self {
            exit,
            stdout: Output::new(stdout.map(OwnedFd::from), output_bytes)?,
            stderr: Output::new(stderr.map(OwnedFd::from), output_bytes)?,
            group,
        })
    }

    async fn finish(
        mut self,
        bounds: &Bounds,
        read_code: fn(i32) -> Status,
        cancel: impl Future<Output = ()>,
    ) -> Outcome {
        let mut outcome = Outcome::told(Status::Error, "");
        let mut phase = Phase::Running;
        tokio::pin!(cancel);
        let deadline = sleep(bounds.timeout);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                _ = self.exit.readable() => break,
                () = self.stdout.read_some() => continue,
                () = self.stderr.read_some() => continue,
                () = &mut cancel, if phase == Phase::Running => outcome = Outcome::cancelled(),
                () = &mut deadline => if phase == Phase::Running {
                    outcome = Outcome::timed_out(bounds.timeout);
                },
            }
            let wait = match phase {
                Phase::Running => {
                    self.group.signal(Signal::SIGTERM);
                    phase = Phase::Terminated;
                    bounds.term_grace
                }
                Phase::Terminated => {
                    self.group.signal(Signal::SIGKILL);
                    phase = Phase::Killed;
                    KILL_WAIT
                }
                Phase::Killed => {
                    outcome.unkillable = true;
                    outcome.reason.push_str("; it does not die of SIGKILL");
                    break;
                }
            };
            deadline.as_mut().reset(tokio::time::Instant::now() + wait);
        }
        if phase != Phase::Running || bounds.leaves_nothing {
            self.group.signal(Signal::SIGKILL);
        }
        if !outcome.unkillable {
            note_exit(&mut outcome, self.group.reap(), phase, read_code);
        }
        self.finish_output(&mut outcome).await;
        outcome
    }

    /// What is still in the pipes, and what stragglers of a pipeline are just writing.
    async fn finish_output(&mut self, outcome: &mut Outcome) {
        let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
        let both = async { tokio::join!(stdout.read_all(), stderr.read_all()) };
        outcome.output_held = timeout(DRAIN_WAIT, both).await.is_err();
        outcome.stdout = self.stdout.text();
        outcome.stderr = self.stderr.text();
    }
}

fn note_exit(
    outcome: &mut Outcome,
    exit: io::Result<ExitStatus>,
    phase: Phase,
    read_code: fn(i32) -> Status,
) {
    match exit {
        Ok(exit) => {
            outcome.exit_code = exit.code();
            outcome.signal = exit.signal();
            // The last words of a program that was told to die say nothing of the resource.
            if let (Some(code), Phase::Running) = (exit.code(), phase) {
                outcome.status = read_code(code);
            }
        }
        Err(e) => outcome.reason = format!("its end was not seen: {e}"),
    }
}

/// A process group and its leader, which is our child. Dropping it kills and reaps.
struct Group(Option<Child>);

impl Group {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.as_ref().map_or(0, |c| c.id().cast_signed()))
    }

    /// To all processes of the group. The leader is not reaped yet, so the number is still ours.
    fn signal(&self, signal: Signal) {
        if self.pid().as_raw() > 1 {
            // ESRCH: the child has not made its group yet or all are gone; nothing to tell.
            let _ = killpg(self.pid(), signal);
        }
    }

    /// Takes the leader's exit status; it has ended, so this does not wait.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        match self.0.take() {
            Some(mut child) => child.wait(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut child) = self.0.take()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            // One short-lived thread, so that neither a zombie stays nor the caller waits.
            let waiting = std::thread::Builder::new().name("reaper".to_owned());
            if let Err(e) = waiting.spawn(move || child.wait()) {
                tracing::warn!(error = %e, "no thread to reap a killed agent; a zombie stays");
            }
        }
    }
}

fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers; the child is ours and not reaped, so the number is
    // its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), libc::PIDFD_NONBLOCK) };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One output pipe and the end of what came out of it.
struct Output {
    pipe: Option<Receiver>,
    buffer: Box<[u8]>,
    tail: Vec<u8>,
    limit: usize,
}

impl Output {
    fn new(pipe: Option<OwnedFd>, limit: usize) -> io::Result<Self> {
        let pipe = pipe.map(|fd| {
            debug_assert!(fd.as_raw_fd() > 2, "not one of our own streams");
            Receiver::from_owned_fd(fd)
        });
        Ok(Self {
            pipe: pipe.transpose()?,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            tail: Vec::new(),
            limit,
        })
    }

    /// Reads once; never ready after the end. May be dropped at any time.
    async fn read_some(&mut self) {
        let Some(pipe) = &self.pipe else { return std::future::pending().await };
        let read = match pipe.readable().await {
            Ok(()) => pipe.try_read(&mut self.buffer),
            Err(e) => Err(e),
        };
        match read {
            Ok(0) => self.pipe = None,
            Ok(n) => self.keep(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
    }

    async fn read_all(&mut self) {
        while self.pipe.is_some() {
            self.read_some().await;
        }
    }

    fn keep(&mut self, n: usize) {
        self.tail.extend_from_slice(&self.buffer[..n]);
        let surplus = self.tail.len().saturating_sub(self.limit);
        self.tail.drain(..surplus);
        assert!(self.tail.len() <= self.limit, "captured output is bounded");
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}
