//! booth on the same machines behind the same switch: the peer that figures are compared with.
//!
//! The distribution's unmodified `boothd`, two sites and an arbitrator. Pacemaker is left out: booth
//! hands its decision over by running `crm_ticket`, and here a small program stands in its place
//! that keeps one file per ticket and stamps each write before and after. So what is measured is
//! booth alone, at its best: no cluster manager slows it, and no resource has to start.
//!
//! Packages older than booth 1.2 hang on kernels from 6.9 on; a preload mends their netlink read and
//! changes nothing else. Both helpers are compiled when a lab is made.

mod client;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

pub use client::{Answer, Op};

use crate::build::{Programs, compile};
use crate::clock::Mono;
use crate::error::{Result, RigError};
use crate::files::{Lines, directory, tail, until};
use crate::machine::Machine;
use crate::net::{Net, Rule};
use crate::proc::Proc;
use crate::witness::{Life, both};

/// Names of the members by number: two sites, then the arbitrator.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 9929;
const DAEMON: &str = "/usr/sbin/boothd";
/// The command's word in a datagram, for a switch that is to lose some of them.
pub const COMMAND_AT: usize = 28;
/// An update that tells followers of a renewal.
pub const UPDATE: &[u8] = b"UpdE";
/// The stand-in of a daemon that was killed may still be writing.
const STRAGGLERS: Duration = Duration::from_millis(400);

/// Times of all tickets, and how many there are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network in all directions.
    pub rule: Rule,
    /// `expire`.
    pub expire: Duration,
    /// `timeout`.
    pub timeout: Duration,
    /// `retries`.
    pub retries: u32,
    /// Tickets t0, t1 and on.
    pub tickets: usize,
    /// Seed of the switch.
    pub seed: u64,
}

impl Options {
    /// 1 s, 100 ms, 3: comparable with T = 1 s. 2 ms round trips.
    pub fn one_second(seed: u64) -> Self {
        Self {
            rule: Rule::delayed(Duration::from_millis(1)),
            expire: Duration::from_secs(1),
            timeout: Duration::from_millis(100),
            retries: 3,
            tickets: 1,
            seed,
        }
    }

    /// 30 s, 3 s, 3: upstream's own test configuration.
    pub fn thirty_seconds(seed: u64) -> Self {
        Self {
            expire: Duration::from_secs(30),
            timeout: Duration::from_secs(3),
            ..Self::one_second(seed)
        }
    }

    fn file(&self) -> String {
        let time = |d: Duration| match d.subsec_millis() {
            0 => d.as_secs().to_string(),
            _ => format!("{}ms", d.as_millis()),
        };
        let [a, b, c] = [0, 1, 2].map(Net::address);
        let mut text = format!("port={PORT}\nsite={a}\nsite={b}\narbitrator={c}\n");
        for n in 0..self.tickets {
            let _ = write!(
                text,
                "ticket=t{n}\n  expire={}\n  timeout={}\n  retries={}\n",
                time(self.expire),
                time(self.timeout),
                self.retries
            );
        }
        text
    }
}

/// One write of the ticket's state at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The stand-in was started.
    pub began: Mono,
    /// The state was written.
    pub ended: Mono,
    /// Granted; else revoked.
    pub granted: bool,
    /// Which ticket.
    pub ticket: String,
}

/// A running booth. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Booth {
    daemons: [Option<Proc>; 3],
    machines: [Machine; 3],
    net: Net,
    dir: TempDir,
    options: Options,
}

impl Booth {
    /// Whether it is installed.
    pub fn installed() -> bool {
        Path::new(DAEMON).exists()
    }

    /// Three machines; nothing runs yet.
    pub fn new(options: Options) -> Result<Self> {
        if !Self::installed() {
            let next = "apt-get install booth booth-pacemaker pacemaker-cli-utils".to_owned();
            return Err(RigError::Missing { path: DAEMON.into(), next });
        }
        let tool = Programs::folder()?.path("tierce-rig-tool")?;
        let net = Net::new(3, &options.rule, options.seed)?;
        let what = || RigError::system("booth's files");
        let dir = directory("booth-")?;
        open_to_all(dir.path()).map_err(what())?;
        fs::create_dir(dir.path().join("bin")).map_err(what())?;
        let path = |name: &str| dir.path().join(name);
        let nlfix = include_str!("../../booth/nlfix.c");
        compile(nlfix, &path("nlfix.so"), &["-shared", "-fPIC"])?;
        let shim = include_str!("../../booth/crm_ticket_shim.c");
        compile(shim, &path("bin/crm_ticket"), &[])?;
        fs::write(path("booth.conf"), options.file()).map_err(what())?;
        let [a, b, c] = [0, 1, 2].map(|n| Machine::new(NAMES[n], &tool, net.space(n)));
        let machines = [a?, b?, c?];
        Ok(Self { daemons: [None, None, None], machines, net, dir, options })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// A member's machine.
    pub fn machine(&self, member: usize) -> &Machine {
        &self.machines[member]
    }

    /// What it was made from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The ends of all logs, for an error.
    pub fn tails(&self) -> String {
        NAMES.iter().map(|n| tail(&self.path(&format!("{n}.log")))).collect()
    }

    // ---- processes and faults -----------------------------------------------------------------

    /// Everything anew: no ticket is granted anywhere, the network is whole, all daemons run.
    pub fn fresh(&mut self) -> Result<()> {
        for daemon in &mut self.daemons {
            *daemon = None;
        }
        std::thread::sleep(STRAGGLERS);
        self.net.all(|rule| *rule = self.options.rule.clone());
        for (n, name) in NAMES.iter().enumerate() {
            self.machines[n].power_on()?;
            let what = || RigError::system("booth's state");
            let state = self.path(&format!("state-{name}"));
            let _ = fs::remove_dir_all(&state);
            fs::create_dir(&state).map_err(what())?;
            open_to_all(&state).map_err(what())?;
            let log = self.events_path(n);
            fs::write(&log, "").map_err(what())?;
            fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).map_err(what())?;
        }
        for member in [2, 0, 1] {
            self.start_daemon(member)?;
        }
        let answers = || (0..3).all(|m| self.request(m, Op::List, "").is_ok()).then_some(());
        let late = || RigError::Late {
            what: "booth answers".to_owned(),
            within: crate::limits::FORM,
            logs: self.tails(),
        };
        until(crate::limits::FORM, answers).ok_or_else(late)?;
        // A fresh daemon waits so long for the others' word on its tickets.
        std::thread::sleep(self.options.timeout + Duration::from_millis(500));
        Ok(())
    }

    /// Starts a member's daemon.
    pub fn start_daemon(&mut self, member: usize) -> Result<()> {
        let name = NAMES[member];
        let mut command = Command::new(DAEMON);
        command.args(["daemon", "-S", "-c"]).arg(self.path("booth.conf"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("LD_PRELOAD", self.path("nlfix.so")).env("HA_LOGFACILITY", "none");
        command.env("BTH_MODE", "fake").env("BTH_LOG", self.events_path(member));
        command.env("BTH_STATE", self.path(&format!("state-{name}")));
        let log = self.path(&format!("{name}.log"));
        self.daemons[member] = Some(self.machines[member].start("boothd", command, &log)?);
        Ok(())
    }

    /// The daemon's process.
    pub fn daemon(&self, member: usize) -> Result<&Proc> {
        self.daemons[member].as_ref().ok_or_else(|| RigError::Off(NAMES[member].to_owned()))
    }

    /// Members whose daemon has ended by itself.
    pub fn dead(&mut self) -> Vec<&'static str> {
        let mut dead = Vec::new();
        for (daemon, name) in self.daemons.iter_mut().zip(NAMES) {
            if daemon.as_mut().is_some_and(|d| d.ended().is_some()) {
                dead.push(name);
            }
        }
        dead
    }

    /// SIGKILL to a member's daemon.
    pub fn kill_daemon(&mut self, member: usize) {
        self.daemons[member] = None;
    }

    /// Freezes a member's daemon, or lets it go on.
    pub fn freeze_daemon(&self, member: usize, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.daemon(member)?.signal(signal)
    }

    /// Everything of a member ends at once, and nothing leaves or reaches it any more.
    pub fn power_off(&mut self, member: usize) {
        self.net.isolate(member);
        self.machines[member].power_off();
        self.daemons[member] = None;
    }

    // ---- asking -------------------------------------------------------------------------------

    /// One request of the client's protocol, to its end.
    pub fn request(&self, member: usize, op: Op, ticket: &str) -> Result<Answer> {
        client::request(self.net.space(member), (Net::address(member), PORT), op, ticket)
    }

    /// Grants a ticket to a site; done when the site has written it.
    pub fn grant(&self, site: usize, ticket: &str) -> Result<Mono> {
        let mut writes = self.watch(site);
        let answer = self.request(site, Op::Grant, ticket)?;
        let within = self.options.expire + Duration::from_mins(1);
        let found = until(within, || {
            let of_it = |e: &Event| e.granted && e.ticket == ticket;
            writes.new_ones().into_iter().find(of_it).map(|e| e.ended)
        });
        let what = format!("booth grants {ticket} to {}, answered {answer:?}", NAMES[site]);
        found.ok_or_else(|| RigError::Late { what, within, logs: self.tails() })
    }

    /// What booth says of its tickets, as text.
    pub fn list(&self, member: usize) -> String {
        self.request(member, Op::List, "").map(|a| a.text).unwrap_or_default()
    }

    /// Whether a member says that the site holds the ticket.
    pub fn says_held(&self, member: usize, ticket: &str, site: usize) -> bool {
        let (ticket, leader) =
            (format!("ticket: {ticket},"), format!("leader: {}", Net::address(site)));
        self.list(member).lines().any(|l| l.starts_with(&ticket) && l.contains(&leader))
    }

    // ---- what happened ------------------------------------------------------------------------

    fn events_path(&self, member: usize) -> PathBuf {
        self.path(&format!("{}.events", NAMES[member]))
    }

    /// All writes at a site that succeeded, in order, since it was made fresh.
    pub fn events(&self, site: usize) -> Vec<Event> {
        let text = fs::read_to_string(self.events_path(site)).unwrap_or_default();
        text.lines().filter_map(event).collect()
    }

    /// Writes at a site from now on.
    pub fn watch(&self, site: usize) -> Writes {
        Writes(Lines::from_now(self.events_path(site)))
    }

    /// How long both sites had a ticket written as granted, up to `to`.
    pub fn overlap(&self, ticket: &str, to: Mono) -> Duration {
        let [one, two] = [0, 1].map(|site| held(&self.events(site), ticket, to));
        both(&one, &two)
    }
}

/// Writes at a site as they come.
#[derive(Clone, Debug)]
pub struct Writes(Lines);

impl Writes {
    /// Those since the last look.
    pub fn new_ones(&mut self) -> Vec<Event> {
        self.0.next_lines().iter().filter_map(|l| event(l)).collect()
    }

    /// Waits for the first grant.
    pub fn first_grant(&mut self, within: Duration) -> Option<Event> {
        until(within, || self.new_ones().into_iter().find(|e| e.granted))
    }
}

/// Times in which a ticket was written as granted.
fn held(events: &[Event], ticket: &str, to: Mono) -> Vec<Life> {
    let mut found = Vec::new();
    let mut since = None;
    for e in events.iter().filter(|e| e.ticket == ticket) {
        match (e.granted, since) {
            (true, None) => since = Some(e.ended),
            (false, Some(from)) => {
                found.push(Life { from, to: e.ended });
                since = None;
            }
            _ => {}
        }
    }
    found.extend(since.map(|from| Life { from, to }));
    found
}

/// `BEGAN ENDED g|r TICKET OWNER EXPIRES TERM CODE`.
fn event(line: &str) -> Option<Event> {
    let words: Vec<&str> = line.split(' ').collect();
    let granted = match (words.get(2)?, words.get(7)?) {
        (&"g", &"0") => true,
        (&"r", &"0") => false,
        _ => return None,
    };
    let moment = |n: usize| words.get(n)?.parse().ok().map(Mono);
    let ticket = (*words.get(3)?).to_owned();
    Some(Event { began: moment(0)?, ended: moment(1)?, granted, ticket })
}

fn open_to_all(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_and_failed_ones_do_not_count() {
        let e = event("5 7 g t1 a 99 3 0").unwrap();
        assert_eq!((e.began, e.ended, e.granted, &*e.ticket), (Mono(5), Mono(7), true, "t1"));
        assert_eq!(event("5 7 r t1 a 99 3 1"), None);
        assert_eq!(event("5 7 q t1 a 99 3 0"), None);
        assert_eq!(event("5 7 g t1"), None);
    }

    #[test]
    fn a_ticket_is_held_from_its_first_grant_to_its_revoke_or_to_the_end() {
        let lines = "1 2 g t1 - - - 0\n3 4 g t1 - - - 0\n5 6 r t1 - - - 0\n8 9 g t1 - - - 0";
        let events: Vec<Event> = lines.lines().filter_map(event).collect();
        let life = |from, to| Life { from: Mono(from), to: Mono(to) };
        assert_eq!(held(&events, "t1", Mono(20)), [life(2, 6), life(9, 20)]);
        assert_eq!(held(&events, "t2", Mono(20)), []);
    }

    #[test]
    fn times_are_written_in_seconds_or_milliseconds() {
        let text = Options { tickets: 2, ..Options::one_second(1) }.file();
        assert!(text.contains("site=10.77.0.2\narbitrator=10.77.0.3\n"), "{text}");
        assert!(text.contains("ticket=t1\n  expire=1\n  timeout=100ms\n  retries=3\n"), "{text}");
    }
}
