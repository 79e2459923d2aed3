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
mod forge;
mod options;
mod writes;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

pub use client::{Answer, Asked, Op};
pub use forge::step_down;
pub use options::Options;
pub use writes::{Event, Writes};
use writes::{event, held};

use crate::build::{Programs, compile};
use crate::clock::Mono;
use crate::error::{Result, RigError};
use crate::files::{Lines, directory, tail, until};
use crate::machine::Machine;
use crate::net::Net;
use crate::proc::Proc;
use crate::witness::{Life, both};

/// Names of the members by number: two sites, then the arbitrator.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
/// Where members listen.
pub const PORT: u16 = 9929;
const DAEMON: &str = "/usr/sbin/boothd";
/// The command's word in a datagram, for a switch that is to lose some of them.
pub const COMMAND_AT: usize = 28;
/// An update that tells followers of a renewal.
pub const UPDATE: &[u8] = b"UpdE";
/// Number of the stranger's place on the network, where there is one.
pub const STRANGER: usize = 3;
/// The stand-in of a daemon that was killed may still be writing.
const STRAGGLERS: Duration = Duration::from_millis(400);

/// A running booth. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Booth {
    daemons: [Option<Proc>; 3],
    machines: [Machine; 3],
    net: Net,
    dir: TempDir,
    options: Options,
    /// Environment of the daemons.
    environments: [Vec<(String, OsString)>; 3],
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
        let places = 3 + usize::from(options.stranger);
        let net = Net::new(places, &options.rule, options.seed)?;
        let what = || RigError::system("booth's files");
        let dir = directory("booth-")?;
        open_to_all(dir.path()).map_err(what())?;
        fs::create_dir(dir.path().join("bin")).map_err(what())?;
        let path = |name: &str| dir.path().join(name);
        let nlfix = include_str!("../../booth/nlfix.c");
        compile(nlfix, &path("nlfix.so"), &["-shared", "-fPIC"])?;
        let shim = include_str!("../../booth/crm_ticket_shim.c");
        compile(shim, &path("bin/crm_ticket"), &[])?;
        for (n, name) in NAMES.iter().enumerate() {
            fs::create_dir(path(name)).map_err(what())?;
            fs::write(path(name).join("booth.conf"), options.file(n)).map_err(what())?;
        }
        let [a, b, c] = [0, 1, 2].map(|n| Machine::new(NAMES[n], &tool, net.space(n)));
        let machines = [a?, b?, c?];
        let environments = Default::default();
        Ok(Self { daemons: [None, None, None], machines, net, dir, options, environments })
    }

    /// A path in the lab's directory, which everybody may write to.
    pub fn path(&self, name: &str) -> PathBuf {
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
        for n in 0..NAMES.len() {
            self.machines[n].power_on()?;
            let what = || RigError::system("booth's state");
            let state = self.state(n);
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
        command.args(["daemon", "-S", "-c"]).arg(self.path(name).join("booth.conf"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        let mut preload = self.path("nlfix.so").into_os_string();
        for (variable, value) in &self.environments[member] {
            if variable == "LD_PRELOAD" {
                preload.push(":");
                preload.push(value);
            } else {
                command.env(variable, value);
            }
        }
        command.env("LD_PRELOAD", preload).env("HA_LOGFACILITY", "none");
        command.env("BTH_MODE", "fake").env("BTH_LOG", self.events_path(member));
        command.env("BTH_STATE", self.state(member));
        let log = self.path(&format!("{name}.log"));
        self.daemons[member] = Some(self.machines[member].start("boothd", command, &log)?);
        Ok(())
    }

    /// Environment that a member's daemon is started with from now on.
    pub fn set_environment(&mut self, member: usize, environment: Vec<(String, OsString)>) {
        self.environments[member] = environment;
    }

    /// Every write of a ticket's state at a site takes this much longer.
    pub fn stall_writes(&self, site: usize, by: Duration) -> Result<()> {
        let stall = self.state(site).join("STALL");
        fs::write(stall, by.as_millis().to_string()).map_err(RigError::system("stalling writes"))
    }

    /// Every write of a ticket's state at a site fails, or does so no more.
    pub fn fail_writes(&self, site: usize, fail: bool) -> Result<()> {
        let file = self.state(site).join("FAIL");
        let done = if fail { fs::write(file, "") } else { fs::remove_file(file) };
        done.map_err(RigError::system("making writes fail"))
    }

    /// A site's ticket state is lost, as if it had never been written.
    pub fn forget(&self, site: usize, ticket: &str) {
        let _ = fs::remove_file(self.state(site).join(ticket));
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

    /// The beginning of a request: who drops it has gone before the answer.
    pub fn begin(&self, member: usize, op: Op, ticket: &str) -> Result<Asked> {
        Asked::new(self.net.space(member), (Net::address(member), PORT), op, ticket)
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

    fn state(&self, site: usize) -> PathBuf {
        self.path(&format!("state-{}", NAMES[site]))
    }

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

    /// Times in which each site had a ticket written as granted, up to `to`.
    pub fn held(&self, ticket: &str, to: Mono) -> [Vec<Life>; 2] {
        [0, 1].map(|site| held(&self.events(site), ticket, to))
    }

    /// How long both sites had a ticket written as granted, up to `to`.
    pub fn overlap(&self, ticket: &str, to: Mono) -> Duration {
        let [one, two] = self.held(ticket, to);
        both(&one, &two)
    }
}

fn open_to_all(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777))
}
