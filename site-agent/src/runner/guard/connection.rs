//! The guard as a process and as a socket: found, started, missed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tierce_guard::{GuardClient, Role};
use tierce_ticket::time::HolderTime;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Asked, GuardLink, News};
use crate::config::Config;
use crate::runner::limits::{GUARD_RETRY_MAX, GUARD_RETRY_MIN};

/// The client's descriptor, as the runtime wants it.
pub(super) struct Fd(pub(super) GuardClient);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The connection, and what is asked on it.
pub(super) struct Link {
    pub(super) fd: AsyncFd<Fd>,
    pub(super) pending: VecDeque<(u32, Asked, HolderTime)>,
    pub(super) greeted: bool,
    /// Whether it has told everything that it had armed when the connection began.
    pub(super) listed: bool,
}

impl GuardLink {
    /// Ends when there may be something to read.
    pub(crate) async fn readable(&self) {
        let Some(link) = &self.link else { return std::future::pending().await };
        match link.fd.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await, // the runtime ends
        }
    }

    pub(super) fn connect(&mut self, now: HolderTime) {
        self.next_try = now + self.pause;
        self.pause = (self.pause * 2).min(GUARD_RETRY_MAX);
        let connected = GuardClient::connect(&self.socket).map_err(|e| e.to_string());
        match connected.and_then(|client| greet(client, self.margin, now)) {
            Ok(link) => self.link = Some(link),
            Err(why) if self.child.is_some() => {
                if self.pause >= GUARD_RETRY_MAX {
                    self.missed(why);
                }
            }
            Err(why) => match self.start() {
                Ok(true) => self.next_try = now + GUARD_RETRY_MIN,
                Ok(false) => self.missed(why),
                Err(error) => self.missed(format!("it cannot be started: {error}")),
            },
        }
    }

    /// Starts the guard, where that is the agent's task, in a process group of its own: what ends
    /// the agent does not end it.
    fn start(&mut self) -> std::io::Result<bool> {
        let Some(words) = &self.program else { return Ok(false) };
        let Some((program, arguments)) = words.split_first() else { return Ok(false) };
        let mut command = Command::new(program);
        command.args(arguments).arg("--socket").arg(&self.socket);
        command.args(["--last-resort", &self.resort]);
        command.arg("--events").arg(self.socket.with_extension("events"));
        if self.resort() == "watchdog" {
            let seconds = self.margin.as_secs().max(1).to_string();
            command.args(["--watchdog-timeout", &seconds]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.child = Some(command.spawn()?);
        Ok(true)
    }

    pub(super) fn missed(&mut self, why: String) {
        if self.lost.is_none() {
            tracing::error!(%why, "the node guard is lost: nothing new is started");
            self.news.push_back(News::Lost(why.clone()));
        }
        self.lost = Some(why);
        for want in self.wants.values_mut() {
            want.armed = false;
        }
    }

    pub(super) fn close(&mut self, why: String) {
        self.link = None;
        self.out.clear();
        self.pause = GUARD_RETRY_MIN;
        self.next_try = HolderTime::default();
        for want in self.wants.values_mut() {
            want.registered = false;
        }
        self.missed(why);
    }

    /// Ends a guard that was started here and has nothing to guard. It refuses while it has.
    pub(crate) fn shut_down(&mut self) {
        self.link = None;
        if let Some(child) = &mut self.child {
            let pid = Pid::from_raw(child.id().cast_signed());
            if kill(pid, Signal::SIGTERM).is_ok() {
                let _ = child.try_wait();
            }
        }
    }
}

fn greet(mut client: GuardClient, margin: Duration, now: HolderTime) -> Result<Link, String> {
    let seq = client.hello(Role::Agent, margin).map_err(|e| e.to_string())?;
    // SAFETY: the client owns its descriptor, which stays open and the same for as long as it
    // lives; the `AsyncFd` owns the client and nothing takes it out.
    let fd = unsafe { AsyncFd::register_with_interest(Fd(client), Interest::READABLE) };
    let fd = fd.map_err(|e| e.to_string())?;
    Ok(Link {
        fd,
        pending: VecDeque::from([(seq, Asked::Hello, now)]),
        greeted: false,
        listed: false,
    })
}

/// The guard's program: as configured; else `tierce-guard` beside this program; else this program
/// itself, when it is the one that can act as each daemon.
pub(super) fn guard_program(config: &Config) -> Vec<OsString> {
    if let Some(words) = &config.guard.program {
        return words.iter().map(OsString::from).collect();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let sibling = exe.with_file_name("tierce-guard");
    if !sibling.is_file() && exe.file_name().is_some_and(|name| name == "tierce") {
        return vec![exe.into(), "guard".into()];
    }
    vec![sibling.into()]
}
