//! The switch: one thread that takes packets out of TUN devices and puts them into others.
//!
//! A packet is stamped when it is read; its rule says when it is due and how often. Packets wait in
//! a heap by due time (and, among equals, by arrival), and a timer wakes the thread for the first
//! of them. Within one direction later packets never overtake earlier ones unless the rule says so:
//! jitter alone keeps order, as a path with one queue does.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::packet::{destination, looks};
use super::rule::{Count, Packet, Rule};
use crate::clock::Mono;
use crate::error::{Result, RigError};
use crate::limits::{MAX_IN_FLIGHT, MAX_PACKET_BYTES, MAX_RECORDED, QUEUE, SWITCH_PRIORITY};
use crate::proc::real_time;
use crate::random::Random;

const TIMER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
/// Packets read from one machine before the others have their turn.
const TURN: usize = 64;

#[derive(Debug, Default)]
struct Direction {
    rule: Rule,
    count: Count,
    /// When the last packet that keeps order is due.
    last: Mono,
    /// When a narrow line has sent all that it was given.
    free: Mono,
}

#[derive(Debug)]
struct Board {
    machines: usize,
    directions: Vec<Direction>,
    random: Random,
    /// What is sent, while somebody wants to play it again.
    tape: Option<Vec<Packet>>,
}

impl Board {
    fn at(&mut self, from: usize, to: usize) -> &mut Direction {
        &mut self.directions[from * self.machines + to]
    }
}

/// A running switch; it ends when dropped.
#[derive(Debug)]
pub struct Switch {
    board: Arc<Mutex<Board>>,
    bell: Arc<EventFd>,
    /// The machines' cables once more, for packets that come from nowhere.
    cables: Vec<File>,
    thread: Option<JoinHandle<()>>,
}

fn held(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switch {
    pub(super) fn start(ports: Vec<(Ipv4Addr, File)>, rule: &Rule, seed: u64) -> Result<Self> {
        let machines = ports.len();
        let fresh = || Direction { rule: rule.clone(), ..Direction::default() };
        let directions = (0..machines * machines).map(|_| fresh()).collect();
        let board = Board { machines, directions, random: Random::new(seed), tape: None };
        let board = Arc::new(Mutex::new(board));
        let what = || RigError::system("setting up the switch");
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let bell = Arc::new(bell.map_err(what())?);
        let cables = ports.iter().map(|(_, tun)| tun.try_clone());
        let cables = cables.collect::<std::io::Result<_>>();
        let cables = cables.map_err(RigError::system("the machines' cables"))?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        );
        let timer = timer.map_err(what())?;
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(what())?;
        let event = |data| EpollEvent::new(EpollFlags::EPOLLIN, data);
        for (n, (_, tun)) in ports.iter().enumerate() {
            poll.add(tun.as_fd(), event(n as u64)).map_err(what())?;
        }
        poll.add(timer.as_fd(), event(TIMER)).map_err(what())?;
        poll.add(bell.as_fd(), event(BELL)).map_err(what())?;
        let work =
            Work { ports, board: board.clone(), heap: BinaryHeap::new(), arrived: 0, timer, poll };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || {
            real_time(SWITCH_PRIORITY);
            work.run();
        });
        let thread = Some(thread.map_err(RigError::system("starting the switch"))?);
        Ok(Self { board, bell, cables, thread })
    }

    /// The rule from one machine to another.
    pub fn rule(&self, from: usize, to: usize) -> Rule {
        held(&self.board).at(from, to).rule.clone()
    }

    /// Sets the rule of one direction.
    pub fn set(&self, from: usize, to: usize, rule: Rule) {
        held(&self.board).at(from, to).rule = rule;
    }

    /// Changes rules, all at the same moment.
    pub fn change(&self, change: impl Fn(usize, usize, &mut Rule)) {
        let mut board = held(&self.board);
        for from in 0..board.machines {
            for to in 0..board.machines {
                if from != to {
                    change(from, to, &mut board.at(from, to).rule);
                }
            }
        }
    }

    /// Keeps a copy of every packet that is sent from now on, up to a bound.
    pub fn record(&self) {
        held(&self.board).tape = Some(Vec::new());
    }

    /// Ends the recording: what was sent since it began, in order.
    pub fn recorded(&self) -> Vec<Packet> {
        held(&self.board).tape.take().unwrap_or_default()
    }

    /// Puts a packet on a machine's cable as if it came from where its header says. No rule applies:
    /// whoever can do this sits on the machine's own network. Whether the machine took it.
    pub fn inject(&self, to: usize, packet: &[u8]) -> bool {
        (&self.cables[to]).write(packet).is_ok_and(|n| n == packet.len())
    }

    /// What went from one machine to another since the switch was started.
    pub fn count(&self, from: usize, to: usize) -> Count {
        held(&self.board).at(from, to).count
    }

    /// What went in all directions.
    pub fn count_all(&self) -> Count {
        let board = held(&self.board);
        board.directions.iter().fold(Count::default(), |all, d| all + d.count)
    }

    /// What went to and from a machine.
    pub fn count_at(&self, machine: usize) -> Count {
        let mut board = held(&self.board);
        let mut all = Count::default();
        for other in (0..board.machines).filter(|m| *m != machine) {
            all = all + board.at(machine, other).count + board.at(other, machine).count;
        }
        all
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet on its way.
struct Flying {
    due: Mono,
    number: u64,
    to: usize,
    bytes: Box<[u8]>,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Flying {}
impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flying {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

struct Work {
    ports: Vec<(Ipv4Addr, File)>,
    board: Arc<Mutex<Board>>,
    heap: BinaryHeap<Reverse<Flying>>,
    arrived: u64,
    timer: TimerFd,
    poll: Epoll,
}

impl Work {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let ready = match self.poll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
            };
            for event in &events[..ready] {
                match event.data() {
                    BELL => return,
                    TIMER => drop(self.timer.wait()),
                    port => self.take(port as usize),
                }
            }
            self.deliver();
            self.arm();
        }
    }

    fn take(&mut self, from: usize) {
        let mut bytes = [0u8; MAX_PACKET_BYTES];
        for _ in 0..TURN {
            match (&self.ports[from].1).read(&mut bytes) {
                Ok(len) => self.sort(from, &bytes[..len]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What becomes of one packet.
    fn sort(&mut self, from: usize, bytes: &[u8]) {
        let now = Mono::now();
        let Some(to) = destination(bytes).and_then(|at| self.port_of(at)) else { return };
        if to == from {
            return;
        }
        let full = self.heap.len() >= MAX_IN_FLIGHT;
        let mut board = held(&self.board);
        let Board { machines, directions, random, tape } = &mut *board;
        if let Some(tape) = tape
            && tape.len() < MAX_RECORDED
        {
            tape.push(Packet { from, to, bytes: bytes.into() });
        }
        let direction = &mut directions[from * *machines + to];
        let (rule, count) = (&direction.rule, &mut direction.count);
        count.packets += 1;
        count.bytes += bytes.len() as u64;
        let unwanted = rule.drop_if.as_ref().is_some_and(|look| looks(bytes, look));
        if rule.cut || full || unwanted || random.chance(rule.loss) {
            count.dropped += 1;
            return;
        }
        let sent = match rule.rate {
            Some(rate) => {
                let took = Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate.max(1)));
                let sent = direction.free.max(now) + took;
                if sent.since(now) > QUEUE {
                    count.dropped += 1;
                    return;
                }
                direction.free = sent;
                sent
            }
            None => now,
        };
        let path = sent + rule.delay + random.up_to(rule.jitter);
        let due = if random.chance(rule.reorder) {
            path + random.up_to(rule.reorder_by)
        } else {
            direction.last = direction.last.max(path);
            direction.last
        };
        let again = random.chance(rule.duplicate).then(|| due + random.up_to(rule.reorder_by));
        count.repeated += u64::from(again.is_some());
        drop(board);
        for due in [Some(due), again].into_iter().flatten() {
            self.arrived += 1;
            let flying = Flying { due, number: self.arrived, to, bytes: bytes.into() };
            self.heap.push(Reverse(flying));
        }
    }

    fn port_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.ports.iter().position(|(a, _)| *a == address)
    }

    fn deliver(&mut self) {
        let now = Mono::now();
        while self.heap.peek().is_some_and(|Reverse(f)| f.due <= now) {
            let Some(Reverse(f)) = self.heap.pop() else { return };
            // A machine whose interface is gone or full loses it, as on any cable.
            let _ = (&self.ports[f.to].1).write(&f.bytes);
        }
    }

    fn arm(&self) {
        let Some(Reverse(first)) = self.heap.peek() else { return };
        // An absolute time that has passed fires at once; zero would disarm.
        let at = TimeSpec::from_duration(Duration::from_nanos(first.due.0.max(1)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        let _ = self.timer.set(Expiration::OneShot(at), flags);
    }
}
