//! Tierce on three machines: two sites and an arbitrator, made as a user makes them.
//!
//! The authority is initialised and the first site's certificate issued where it runs; the second
//! site and the arbitrator join over the network with join strings. Each daemon is the installed
//! program with its file, guards included. Faults are done to machines, processes and the switch;
//! the daemons are never told.

mod ask;
mod file;
mod told;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

pub use ask::ask_at;
pub use file::{Lease, Options};
pub use told::{Actions, Grants};

use crate::build::{INSTALLED, Programs};
use crate::clock::Mono;
use crate::disk::Disk;
use crate::error::{Result, RigError};
use crate::files::{Lines, directory, tail, until};
use crate::limits::{ANSWER, FORM};
use crate::machine::Machine;
use crate::net::Net;
use crate::proc::Proc;
use crate::witness::{Life, Witness, both};

/// Names of the members by number: two sites, then the arbitrator.
pub const NAMES: [&str; 3] = ["paris", "rome", "zurich"];
/// Number of the arbitrator.
pub const THIRD: usize = 2;
/// Number of the stranger's place on the network, where there is one.
pub const STRANGER: usize = 3;
/// Where members listen.
pub const PORT: u16 = 9930;
const TENANT: &str = "rig";

/// The other site.
pub fn other(site: usize) -> usize {
    1 - site
}

/// A running cluster. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Processes end before machines, machines before the network and the files.
    daemons: [Option<Proc>; 3],
    machines: [Machine; 3],
    net: Net,
    disks: Vec<Disk>,
    dir: TempDir,
    programs: Programs,
    /// Which of the builds each member has.
    installed: [usize; 3],
    options: Options,
    /// When a daemon was last started: a voter votes only when it is up for T (R2).
    started: Mono,
    /// Environment of the daemons.
    environments: [Vec<(String, OsString)>; 3],
}

impl Cluster {
    /// Three machines, certificates, files; then everything is started and the cluster forms.
    pub fn start(options: Options) -> Result<Self> {
        let programs = Programs::find()?;
        let tool = programs.path("tierce-rig-tool")?;
        let places = 3 + usize::from(options.stranger);
        let net = Net::new(places, &options.rule, options.seed)?;
        let dir = directory("")?;
        // Before the machines: each has the mounts that were there when it was booted.
        let wanted = NAMES.iter().filter(|_| options.disks);
        let disks = wanted.map(|m| Disk::new(&dir.path().join(m))).collect::<Result<_>>()?;
        let [a, b, c] = [0, 1, 2].map(|n| Machine::new(NAMES[n], &tool, net.space(n)));
        let machines = [a?, b?, c?];
        let started = Mono::now();
        let mut cluster = Self {
            daemons: [None, None, None],
            machines,
            net,
            disks,
            dir,
            programs,
            installed: [0; 3],
            options,
            started,
            environments: Default::default(),
        };
        (0..3).try_for_each(|member| cluster.install(member))?;
        cluster.write_files(&tool)?;
        cluster.join_all()?;
        cluster.formed()?;
        Ok(cluster)
    }

    fn write_files(&self, tool: &Path) -> Result<()> {
        let what = || RigError::system("writing a site's file");
        let agents = self.path("ocf/resource.d/rig");
        std::fs::create_dir_all(&agents).map_err(what())?;
        std::os::unix::fs::symlink(tool, agents.join("witness")).map_err(what())?;
        for site in 0..THIRD {
            let programs = self.programs_of(site)?;
            let text = file::site(&self.options, self.dir.path(), site, &programs)?;
            std::fs::write(self.file(site), text).map_err(what())?;
        }
        Ok(())
    }

    /// As the README says it for three real machines.
    fn join_all(&mut self) -> Result<()> {
        let (ca, here) = (self.path("ca"), &self.machines[0]);
        let mut init = self.tierce()?;
        init.args(["pki", "init", "--tenant", TENANT, "--dir"]).arg(&ca);
        here.run(init)?;
        let mut issue = self.tierce()?;
        issue.args(["pki", "issue", "--role", "site", "--name", NAMES[0], "--ca"]).arg(&ca);
        issue.arg("--dir").arg(self.path(NAMES[0]).join("pki"));
        here.run(issue)?;
        self.start_daemon(0)?;

        let string = self.invite("site", NAMES[1])?;
        let mut join = || {
            let mut join = self.tierce().ok()?;
            join.args(["pki", "join", &string, "--dir"]).arg(self.path(NAMES[1]).join("pki"));
            self.machines[1].run(join).ok()
        };
        until(FORM, &mut join).ok_or_else(|| self.late("rome joins", FORM))?;

        let string = self.invite("arbitrator", NAMES[THIRD])?;
        let mut add = Command::new(self.programs.path("tierce-arbitrator")?);
        add.args(["tenant", "add", TENANT, "--max-tickets", "16384", "--join", &string, "--data"]);
        add.arg(self.path(NAMES[THIRD]));
        self.machines[THIRD].run(add)?;
        self.start_daemon(THIRD)?;
        self.start_daemon(1)
    }

    /// The operator's command.
    pub fn tierce(&self) -> Result<Command> {
        Ok(Command::new(self.programs.path("tierce")?))
    }

    fn invite(&self, role: &str, name: &str) -> Result<String> {
        let mut invite = self.tierce()?;
        let address = format!("{}:{PORT}", Net::address(0));
        invite.args(["pki", "invite", "--role", role, "--name", name, "--address", &address]);
        let out = self.machines[0].run({
            invite.arg("--ca").arg(self.path("ca"));
            invite
        })?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    // ---- places -------------------------------------------------------------------------------

    /// A path in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A site's file.
    pub fn file(&self, site: usize) -> PathBuf {
        self.path(&format!("{}.toml", NAMES[site]))
    }

    /// A member's log.
    pub fn log(&self, member: usize) -> PathBuf {
        self.path(&format!("{}.log", NAMES[member]))
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
        (0..3).map(|m| tail(&self.log(m))).collect()
    }

    fn late(&self, what: &str, within: Duration) -> RigError {
        RigError::Late { what: what.to_owned(), within, logs: self.tails() }
    }

    /// Keeps the cluster's files when it ends, and says where they are.
    pub fn keep_files(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    // ---- processes and faults -----------------------------------------------------------------

    /// Starts a member's daemon.
    pub fn start_daemon(&mut self, member: usize) -> Result<()> {
        let mut command;
        if member == THIRD {
            command = Command::new(self.programs_of(member)?.path("tierce-arbitrator")?);
            command.args(["run", "--user", "root", "--listen", &format!("0.0.0.0:{PORT}")]);
            command.arg("--data").arg(self.path(NAMES[THIRD]));
            command.env("RUNTIME_DIRECTORY", "/run/tierce");
        } else {
            command = Command::new(self.programs_of(member)?.path("tierce-agent")?);
            command.args(["run", "--config"]).arg(self.file(member));
        }
        command.envs(self.environments[member].iter().map(|(k, v)| (k, v)));
        let started = self.machines[member].start("daemon", command, &self.log(member))?;
        self.daemons[member] = Some(started);
        self.started = Mono::now();
        Ok(())
    }

    /// The daemon's process.
    pub fn daemon(&self, member: usize) -> Result<&Proc> {
        self.daemons[member].as_ref().ok_or_else(|| RigError::Off(NAMES[member].to_owned()))
    }

    /// SIGKILL to a member's daemon and to nothing else: its guard and its resources stay.
    pub fn kill_daemon(&mut self, member: usize) {
        self.daemons[member] = None;
    }

    /// Environment that a member's daemon is started with from now on.
    pub fn set_environment(&mut self, member: usize, environment: Vec<(String, OsString)>) {
        self.environments[member] = environment;
    }

    fn folder_of(&self, member: usize) -> PathBuf {
        self.path(&format!("installed-{}", NAMES[member]))
    }

    fn programs_of(&self, member: usize) -> Result<Programs> {
        if self.options.builds.is_empty() {
            return Ok(self.programs.clone());
        }
        Programs::of(self.folder_of(member))
    }

    /// Puts a member's build in its place, as a package does: whoever runs the former files keeps
    /// them.
    fn install(&self, member: usize) -> Result<()> {
        let Some(build) = self.options.builds.get(self.installed[member]) else { return Ok(()) };
        let (dir, what) = (self.folder_of(member), || RigError::system("installing a build"));
        std::fs::create_dir_all(&dir).map_err(what())?;
        for name in INSTALLED {
            let (from, new) = (build.path(name)?, dir.join("new"));
            // Left there when the build in place was this very one.
            let _ = std::fs::remove_file(&new);
            let linked = std::fs::hard_link(&from, &new);
            let placed = linked.or_else(|_| std::fs::copy(&from, &new).map(drop));
            placed.and_then(|()| std::fs::rename(&new, dir.join(name))).map_err(what())?;
        }
        Ok(())
    }

    /// Gives a member the next one of the builds while its daemon runs, and restarts that. A guard
    /// that ends with its agent is started from the new file; one that guards something stays what
    /// it is, as at a user's.
    pub fn upgrade(&mut self, member: usize) -> Result<()> {
        self.installed[member] = (self.installed[member] + 1) % self.options.builds.len().max(1);
        self.install(member)?;
        self.restart_daemon(member)
    }

    /// Tells a member's daemon to end and waits until it has, then starts it again.
    pub fn restart_daemon(&mut self, member: usize) -> Result<()> {
        self.daemon(member)?.signal(Signal::SIGTERM)?;
        let daemon = &mut self.daemons[member];
        let ended = || daemon.as_mut().is_none_or(|d| d.ended().is_some()).then_some(());
        until(ANSWER, ended).ok_or_else(|| self.late("a daemon ends on SIGTERM", ANSWER))?;
        self.start_daemon(member)
    }

    /// Whether a member's daemon was started and has not ended.
    pub fn runs(&mut self, member: usize) -> bool {
        self.daemons[member].as_mut().is_some_and(|d| d.ended().is_none())
    }

    /// SIGKILL to a site's guard and to nothing else; whether there was one.
    pub fn kill_guard(&self, site: usize) -> bool {
        let guards = self.machines[site].processes().into_iter();
        let guards = guards.filter(|(_, name)| name.starts_with("tierce-guard"));
        guards.filter(|(pid, _)| nix::sys::signal::kill(*pid, Signal::SIGKILL).is_ok()).count() > 0
    }

    /// A member's disk, if it has one of its own.
    pub fn disk(&self, member: usize) -> Option<&Disk> {
        self.disks.get(member)
    }

    /// Freezes a member's daemon and nothing else, or lets it go on.
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

    /// The same, and its disk loses what was not on it yet.
    pub fn power_cut(&mut self, member: usize) -> Result<()> {
        self.net.isolate(member);
        let disk = self.disks.get(member);
        disk.map_or(Ok(()), Disk::cut)?;
        self.machines[member].power_off();
        self.daemons[member] = None;
        disk.map_or(Ok(()), Disk::again)
    }

    /// Back again: booted, connected, its daemon started.
    pub fn power_on(&mut self, member: usize) -> Result<()> {
        self.machines[member].power_on()?;
        self.net.rejoin(member);
        self.start_daemon(member)
    }

    // ---- what happened ------------------------------------------------------------------------

    /// The witness of a ticket at a site.
    pub fn witness(&self, site: usize, ticket: &str) -> Witness {
        Witness::of(self.path(&format!("{ticket}-{}.witness", NAMES[site])))
    }

    /// Lives of a ticket's witness at both sites.
    pub fn lives(&self, ticket: &str) -> [Vec<Life>; 2] {
        [0, 1].map(|site| self.witness(site, ticket).lives())
    }

    /// How long a ticket's witness ran at both sites at once since `from`.
    pub fn overlap(&self, ticket: &str, from: Mono) -> Duration {
        let [one, two] = self.lives(ticket).map(|lives| {
            let late = |l: Life| (l.to > from).then_some(Life { from: l.from.max(from), ..l });
            lives.into_iter().filter_map(late).collect::<Vec<_>>()
        });
        both(&one, &two)
    }

    /// Starts and stops of a ticket at a site, as its daemon's runner tells them from now on.
    pub fn watch_actions(&self, site: usize) -> Actions {
        Actions::of(Lines::from_now(self.log(site)))
    }

    /// How many connections were made so far in each version of the wire format, as both their ends
    /// tell.
    pub fn versions(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for version in (0..3).flat_map(|m| told::versions(&self.log(m))) {
            *found.entry(version).or_default() += 1;
        }
        found
    }

    /// How often each member was stopped by its full disk, as it tells itself.
    pub fn full_disks(&self) -> [usize; 3] {
        [0, 1, 2].map(|m| told::full_disks(&self.log(m)))
    }

    /// Grants to a site that its own daemon notes from now on.
    pub fn watch_grants(&self, site: usize) -> Grants {
        Grants::of(site, Lines::from_now(self.log(site)))
    }
}
