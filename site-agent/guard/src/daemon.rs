//! The loop: sockets, signals, one timer, and the core in the middle.
//!
//! Order of one turn: commands that ended, new connections, packets, and only then the verdict on
//! time, so that a renewal that waits in the socket goes before a stop. The timer is absolute and
//! on `CLOCK_BOOTTIME`; it only wakes, every decision reads the clock again. After [`Daemon::open`]
//! nothing allocates (tests/no_alloc.rs counts).

use crate::core::{BootTime, Effect, Guard, Input, Report, Slot, Term, Ticket, Verdict};
use crate::limits::{MAX_CLIENTS, MAX_GROUPS, MAX_PACKET, MAX_PACKETS_PER_TURN};
use crate::log::Log;
use crate::opening::{
    go_realtime, lock_first, open_events, open_signals, open_socket, resident_kib, sys_err,
    take_lock,
};
use crate::options::Options;
use crate::resort::{Group, LastResort, Order, Outcome, ResortError};
use crate::stopper::Stopper;
use crate::sys::{self, boot_now};
use crate::wire::{Ack, Code, EventKind, Frame, Listed, Request, Role, Status};
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, getsockopt, recv, send, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::{getuid, setsid};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use thiserror::Error;

/// Why the guard could not start or go on. In every case the node is unguarded.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Another guard holds the lock beside the socket.
    #[error("another guard serves {0:?}: the node is guarded by that one; nothing was changed")]
    Taken(PathBuf),
    /// A file or socket could not be made.
    #[error("{path:?}: {source}; the node is unguarded; check directory and rights")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The last resort cannot be used.
    #[error(transparent)]
    Resort(#[from] ResortError),
    /// `--lock-memory` was asked for and refused by the system.
    #[error(
        "memory cannot be locked ({0}): the guard could stall on a full machine; raise \
         RLIMIT_MEMLOCK or run as root, or start without --lock-memory"
    )]
    Lock(Errno),
    /// The thread that writes lines could not be started.
    #[error("no thread for the log: {0}; the node is unguarded; check the limit of processes")]
    Log(std::io::Error),
    /// A system call failed.
    #[error("{what}: {errno}; the node is unguarded")]
    System {
        /// Which step.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
}

struct Client {
    fd: OwnedFd,
    role: Option<Role>,
    born: u64,
}

/// What a turn says about going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Go on.
    Continue,
    /// Ended in order.
    End,
}

/// Places in the poll array: the listener first, clients from 1.
const TIMER: usize = MAX_CLIENTS + 1;
const SIGNALS: usize = MAX_CLIENTS + 2;

/// Everything the loop owns, laid out at start.
pub struct Daemon {
    guard: Guard,
    stopper: Stopper,
    resort: Box<dyn LastResort>,
    /// Grown, within its capacity, as places are given out; without capacity unless groups are used.
    groups: Vec<[Option<Group>; MAX_GROUPS]>,
    listener: OwnedFd,
    clients: [Option<Client>; MAX_CLIENTS],
    born: u64,
    timer: TimerFd,
    signals: SignalFd,
    log: Log,
    margin_ms: u32,
    locked: bool,
    realtime: bool,
    dropped: u64,
    force: bool,
    socket: PathBuf,
    _lock: Flock<File>,
}

/// Runs until told to end. For the binary: it becomes a session of its own, so that signals to the
/// group or terminal of whoever started it do not reach it.
pub fn run(options: &Options) -> ExitCode {
    let _ = setsid(); // fails only where this already leads a group: as good
    let result = Daemon::open(options).and_then(|mut daemon| {
        while daemon.turn(None)? == Turn::Continue {}
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                GuardError::Taken(_) => ExitCode::from(69),
                GuardError::Resort(_) => ExitCode::from(78),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

impl Daemon {
    /// Takes the lock, opens everything, lays out every table, locks memory, says what it protects.
    pub fn open(options: &Options) -> Result<Self, GuardError> {
        let lock = take_lock(&options.socket)?;
        let events = open_events(options.events.as_deref())?;
        let mut log = Log::new(events).map_err(GuardError::Log)?;
        let locked = lock_first(options, &mut log)?;
        let resort = options.last_resort.open(options.watchdog_timeout)?;
        let kills = resort.number() == 3;
        let listener = open_socket(&options.socket)?;
        let signals = open_signals()?;
        let timer_flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, timer_flags).map_err(sys_err("timer"))?;
        let realtime = options.realtime && go_realtime(&mut log);
        let mut daemon = Self {
            guard: Guard::new(options.max_tickets, resort.timeout()),
            stopper: Stopper::new(options.max_tickets).map_err(sys_err("stop commands"))?,
            groups: Vec::with_capacity(if kills { options.max_tickets } else { 0 }),
            resort,
            listener,
            clients: [const { None }; MAX_CLIENTS],
            born: 0,
            timer,
            signals,
            log,
            margin_ms: 0,
            locked,
            realtime,
            dropped: 0,
            force: options.force,
            socket: options.socket.clone(),
            _lock: lock,
        };
        if locked && let Err(errno) = sys::lock_memory(true) {
            daemon.locked = false;
            daemon.log.say(format_args!("memory: tables not locked ({errno})"));
        }
        daemon.say_start();
        Ok(daemon)
    }

    fn say_start(&mut self) {
        let (name, locked, realtime) = (self.resort.name(), self.locked, self.realtime);
        let kib = resident_kib();
        self.log.event(format_args!(
            "start pid={} last-resort={name} locked={locked} realtime={realtime} rss={kib}KiB",
            std::process::id()
        ));
    }

    /// One turn: waits at most this long (`None`: until something happens), then acts.
    pub fn turn(&mut self, at_most: Option<Duration>) -> Result<Turn, GuardError> {
        let ready = self.wait(at_most)?;
        let asked_to_end = self.take_signals()?;
        while let Some(ended) = self.stopper.reap() {
            let (ticket, term, ok) = (ended.ticket, ended.term, ended.ok);
            self.step(Input::StopDone { ticket, term, ok });
        }
        if ready & 1 != 0 {
            self.accept();
        }
        for place in 0..MAX_CLIENTS {
            if ready & (2 << place) != 0 {
                self.read_client(place);
            }
        }
        self.step(Input::Tick);
        self.set_timer()?;
        if asked_to_end && self.may_end() {
            self.end();
            return Ok(Turn::End);
        }
        Ok(Turn::Continue)
    }

    // ---- waiting ------------------------------------------------------------------------------

    /// Bit 0: a connection waits; bit 1 + n: client n is readable.
    fn wait(&mut self, at_most: Option<Duration>) -> Result<u32, GuardError> {
        let mut all: [PollFd<'_>; MAX_CLIENTS + 3] = std::array::from_fn(|place| {
            let fd = match place {
                0 => self.listener.as_fd(),
                TIMER => self.timer.as_fd(),
                SIGNALS => self.signals.as_fd(),
                client => match &self.clients[client - 1] {
                    Some(client) => client.fd.as_fd(),
                    None => return PollFd::new(self.listener.as_fd(), PollFlags::empty()),
                },
            };
            PollFd::new(fd, PollFlags::POLLIN)
        });
        let timeout = at_most.map_or(PollTimeout::NONE, |span| {
            PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut all, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(sys_err("poll")(errno)),
        }
        let mut ready = 0;
        for (bit, fd) in all.iter().take(1 + MAX_CLIENTS).enumerate() {
            ready |= u32::from(fd.any().unwrap_or(true)) << bit;
        }
        Ok(ready)
    }

    fn set_timer(&mut self) -> Result<(), GuardError> {
        let at = self.guard.poll_deadline();
        let result = if at == BootTime::NEVER {
            self.timer.unset()
        } else {
            let nanos = at.0.max(1); // 0 would disarm the timer
            let spec = TimeSpec::new(
                (nanos / 1_000_000_000).cast_signed(),
                (nanos % 1_000_000_000).cast_signed(),
            );
            self.timer.set(Expiration::OneShot(spec), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
        };
        result.map_err(sys_err("timer"))
    }

    fn take_signals(&mut self) -> Result<bool, GuardError> {
        let mut end = false;
        while let Some(info) = self.signals.read_signal().map_err(sys_err("signals"))? {
            let number = info.ssi_signo.cast_signed();
            end |= number == libc::SIGTERM || number == libc::SIGINT;
        }
        Ok(end)
    }

    // ---- clients ------------------------------------------------------------------------------

    fn accept(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(fd) = accept4(self.listener.as_raw_fd(), flags) else { return };
        let fd = sys::owned(fd);
        let allowed = getsockopt(&fd, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == getuid().as_raw());
        if !allowed {
            self.dropped += 1;
            self.log.say(format_args!("a client of another user was refused"));
            return;
        }
        let place = self.free_place();
        self.born += 1;
        self.clients[place] = Some(Client { fd, role: None, born: self.born });
    }

    /// A free place; when all are taken, the oldest that is not the agent gives way to the new.
    fn free_place(&mut self) -> usize {
        let rank = |client: &Option<Client>| match client {
            None => (0, 0),
            Some(client) => (1 + u8::from(client.role == Some(Role::Agent)), client.born),
        };
        let places = 0..MAX_CLIENTS;
        places.min_by_key(|place| rank(&self.clients[*place])).unwrap_or(0)
    }

    fn read_client(&mut self, place: usize) {
        let mut packet = [0u8; MAX_PACKET];
        for _ in 0..MAX_PACKETS_PER_TURN {
            let Some(client) = &self.clients[place] else { return };
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(client.fd.as_raw_fd(), &mut packet, flags) {
                Ok(0) => return self.close(place),
                // A longer packet than the buffer reads as an empty one, which is refused.
                Ok(len) => self.packet_from(place, packet.get(..len).unwrap_or(&[])),
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(_) => return self.close(place),
            }
        }
    }

    fn close(&mut self, place: usize) {
        let Some(client) = self.clients[place].take() else { return };
        if client.role == Some(Role::Agent) {
            self.step(Input::AgentGone);
        }
    }

    fn packet_from(&mut self, place: usize, packet: &[u8]) {
        let (seq, request) = match Request::decode(packet) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.dropped += 1;
                if self.dropped.is_power_of_two() {
                    let count = self.dropped; // a flood of garbage must not flood the log
                    self.log.say(format_args!("dropped a packet ({error}); {count} so far"));
                }
                return;
            }
        };
        match request {
            Request::Status => {
                let status = self.status(seq);
                self.send(place, &Frame::status_reply(&status));
            }
            Request::List(from) => {
                let entries = self.guard.list(from).map(|(slot, lease)| listed(slot, lease));
                let frame = Frame::list_reply(seq, entries);
                self.send(place, &frame);
            }
            other => {
                let (code, index) = self.obey(place, other);
                let counts = self.guard.counts();
                let (armed, stopping) = (counts.armed, counts.stopping);
                self.send(place, &Frame::ack(Ack { seq, code, index, armed, stopping }));
            }
        }
    }

    fn obey(&mut self, place: usize, request: Request<'_>) -> (Code, u16) {
        if let Request::Hello { role, margin_ms } = request {
            return (self.hello(place, role, margin_ms), 0);
        }
        let role = self.clients[place].as_ref().and_then(|client| client.role);
        if role != Some(Role::Agent) {
            self.dropped += 1;
            return (Code::NotAllowed, 0);
        }
        let code = match request {
            Request::Arm(entries) => {
                return self.each(entries.iter().map(|entry| Input::Arm {
                    ticket: entry.ticket,
                    term: entry.term,
                    lease: entry.lease,
                }));
            }
            Request::Disarm(entries) => {
                return self
                    .each(entries.iter().map(|(ticket, term)| Input::Disarm { ticket, term }));
            }
            Request::ArmAll(lease) => self.step(Input::ArmAll { lease }).into(),
            Request::Pin(ticket, term) => self.step(Input::Pin { ticket, term }).into(),
            Request::SetStop { ticket, words } => self.set_stop(ticket, words),
            Request::SetGroups { ticket, groups } => self.set_groups(ticket, groups.iter()),
            Request::Hello { .. } | Request::Status | Request::List(_) => Code::NotAllowed,
        };
        (code, 0)
    }

    /// All entries are given to the core; the answer names the first that was not taken.
    fn each(&mut self, inputs: impl Iterator<Item = Input>) -> (Code, u16) {
        let mut first = (Code::Done, 0);
        for (index, input) in inputs.enumerate() {
            let verdict = self.step(input);
            if verdict != Verdict::Done && first.0 == Code::Done {
                first = (verdict.into(), index as u16);
            }
        }
        first
    }

    fn hello(&mut self, place: usize, role: Role, margin_ms: u32) -> Code {
        if role == Role::Agent {
            if !self.guard.set_margin(Duration::from_millis(u64::from(margin_ms))) {
                return Code::MarginTooShort;
            }
            self.margin_ms = margin_ms;
            for other in 0..MAX_CLIENTS {
                let older = self.clients[other].as_ref();
                if other != place && older.is_some_and(|c| c.role == Some(Role::Agent)) {
                    self.close(other); // the newest agent is the agent
                }
            }
        }
        if let Some(client) = &mut self.clients[place] {
            client.role = Some(role);
        }
        if role == Role::Agent {
            self.step(Input::AgentBack);
        }
        Code::Done
    }

    fn set_stop(&mut self, ticket: Ticket, words: &[u8]) -> Code {
        let Some((slot, fresh)) = self.guard.admit(ticket) else { return Code::Full };
        if fresh && let Some(groups) = self.groups.get_mut(slot.index()) {
            *groups = [None; MAX_GROUPS];
        } else if fresh && self.groups.len() < self.groups.capacity() {
            assert_eq!(self.groups.len(), slot.index(), "places are given out in order");
            self.groups.push([None; MAX_GROUPS]);
        }
        self.stopper.set(slot, words);
        Code::Done
    }

    fn set_groups(&mut self, ticket: Ticket, ids: impl Iterator<Item = i32>) -> Code {
        let Some(slot) = self.guard.slot_of(ticket) else { return Code::NoStopCommand };
        let Some(groups) = self.groups.get_mut(slot.index()) else { return Code::NoGroups };
        *groups = [None; MAX_GROUPS];
        for (place, id) in groups.iter_mut().zip(ids) {
            *place = Group::look_up(id);
        }
        Code::Done
    }

    /// Never waits: an agent that does not read misses the packet.
    fn send(&mut self, place: usize, frame: &Frame) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if let Some(client) = &self.clients[place] {
            let _ = send(client.fd.as_raw_fd(), frame.bytes(), flags);
        }
    }

    fn tell_agent(&mut self, kind: EventKind, ticket: Ticket, term: Term) {
        let is_agent = |client: &Option<Client>| {
            client.as_ref().is_some_and(|client| client.role == Some(Role::Agent))
        };
        if let Some(place) = self.clients.iter().position(is_agent) {
            self.send(place, &Frame::event(kind, ticket, term));
        }
    }

    fn status(&self, seq: u32) -> Status {
        let counts = self.guard.counts();
        Status {
            seq,
            pid: std::process::id(),
            armed: counts.armed,
            stopping: counts.stopping,
            reset: counts.reset,
            margin_ms: self.margin_ms,
            watchdog_ms: self.resort.timeout().map_or(0, |t| t.as_millis() as u32),
            last_resort: self.resort.number(),
            locked: self.locked,
            realtime: self.realtime,
            soonest: self.guard.soonest(),
            dropped: self.dropped,
        }
    }

    // ---- effects ------------------------------------------------------------------------------

    fn step(&mut self, input: Input) -> Verdict {
        let verdict = self.guard.step(boot_now(), input);
        while let Some(effect) = self.guard.poll_effect() {
            match effect {
                Effect::PetWatchdog => self.resort.pet(),
                Effect::RunStop { ticket, term } => self.run_stop(ticket, term),
                Effect::Reset { ticket, term, reason } => {
                    self.log.event(format_args!(
                        "reset ticket={} term={} reason={} by={}",
                        ticket.0,
                        term.0,
                        reason.word(),
                        self.resort.name()
                    ));
                    self.last_resort(ticket, term, reason);
                }
                Effect::Report(report) => self.report(report),
            }
        }
        verdict
    }

    fn run_stop(&mut self, ticket: Ticket, term: Term) {
        self.log.event(format_args!("stop ticket={} term={}", ticket.0, term.0));
        self.tell_agent(EventKind::StopBegun, ticket, term);
        let slot = self.guard.slot_of(ticket);
        let run = slot.map_or(Err(Errno::ENOENT), |slot| self.stopper.run(slot, ticket, term));
        if let Err(errno) = run {
            self.log.say(format_args!("ticket={} stop command not run: {errno}", ticket.0));
            self.guard.step(boot_now(), Input::StopDone { ticket, term, ok: false });
        }
    }

    fn last_resort(&mut self, ticket: Ticket, term: Term, reason: crate::core::Reason) {
        let none = [None; MAX_GROUPS];
        let slot = self.guard.slot_of(ticket);
        let groups = slot.and_then(|slot| self.groups.get(slot.index())).unwrap_or(&none);
        let outcome = self.resort.reset(&Order { ticket, term, reason, groups });
        self.stopper.kill(ticket); // where the node lives on, its hanging command ends too
        self.tell_agent(EventKind::Reset, ticket, term);
        match outcome {
            Outcome::NodeGoesDown => self.log.say(format_args!("the node goes down")),
            Outcome::Recorded => self.log.say(format_args!("recorded only, nothing was reset")),
            Outcome::Failed => self.log.event(format_args!(
                "ALARM ticket={}: the last resort failed; nothing enforces the deadline here",
                ticket.0
            )),
            Outcome::Killed(count) => {
                self.log.event(format_args!("killed ticket={} groups={count}", ticket.0));
                self.guard.step(boot_now(), Input::Killed { ticket, term });
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Stopped { ticket, term } => {
                self.log.event(format_args!("stopped ticket={} term={}", ticket.0, term.0));
                self.tell_agent(EventKind::Stopped, ticket, term);
            }
            Report::StopFailed { ticket, term } => {
                self.log.event(format_args!("stop-failed ticket={} term={}", ticket.0, term.0));
                self.tell_agent(EventKind::StopFailed, ticket, term);
            }
            Report::AgentGone { guarded } => {
                self.log.event(format_args!("agent-gone guarded={guarded}"));
            }
            Report::AgentBack { guarded } => {
                self.log.event(format_args!("agent-back guarded={guarded}"));
            }
        }
    }

    // ---- ending -------------------------------------------------------------------------------

    fn may_end(&mut self) -> bool {
        let guarded = self.guard.guarded();
        if guarded == 0 || self.force {
            return true;
        }
        self.log.event(format_args!(
            "end-refused guarded={guarded}: stop the agent first, or start the guard with --force"
        ));
        false
    }

    fn end(&mut self) {
        let counts = self.guard.counts();
        if self.guard.guarded() == 0 && counts.reset == 0 {
            self.resort.release(); // only a clean end may stop a watchdog
        }
        let _ = std::fs::remove_file(&self.socket);
        self.log.event(format_args!("end guarded={}", self.guard.guarded()));
    }
}

fn listed(slot: &Slot, lease: crate::core::Lease) -> Listed {
    Listed { ticket: slot.ticket, term: slot.term, lease, phase: slot.phase.number() }
}
