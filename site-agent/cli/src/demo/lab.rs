//! The cluster of the demo: a directory of its own, certificates, files, and real processes.
//!
//! Each daemon is this program again (`tierce agent run …`), in a process group of its own. The
//! guards are started by the agents and the service by its resource agent, so they are not
//! children of the demo; every one of them has a path of the demo's own directory among its
//! words, and by that, and only that, they are found and ended when the demo ends.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid};
use tierce_link::{Ca, Name, Role, Tenant};
use tierce_ticket::timing::Profile;

use super::limits::{END, OWNER_LOOK};
use super::relay::MEMBERS;
use super::service::alive;

/// The sites.
pub(super) const SITES: [&str; 2] = ["paris", "rome"];
/// The arbitrator.
pub(super) const ARBITRATOR: &str = "zurich";
/// The members by number: the sites, then the arbitrator.
pub(super) const NAMES: [&str; MEMBERS] = [SITES[0], SITES[1], ARBITRATOR];
/// Number of the arbitrator.
pub(super) const THIRD: usize = 2;
/// The ticket's name begins so; the rest is the demo's process number. The processes of a ticket
/// are found by its name and its site's, and those of a ticket in earnest must not be among them.
const TICKET: &str = "web";
/// Name and zone of the service.
pub(super) const SERVICE_NAME: &str = "web.demo.test.";
pub(super) const ZONE: &str = "demo.test.";
/// The route of the service (addresses for documentation, RFC 5737).
pub(super) const PREFIX: &str = "192.0.2.10/32";
/// Number of the collector's AS.
pub(super) const COLLECTOR_AS: u32 = 64_512;
/// What this program acts as in the demo.
const ROLES: [&str; 4] = ["agent", "arbitrator", "guard", "demo-service"];
/// The caretaker's mark: whether the directory is removed at last.
const TIDY: &str = "tidy";
const KEEP: &str = "keep";
/// Longest path of a unix socket, less the longest name that is put below the directory.
const MAX_DIR: usize = 107 - "/paris/control.sock".len();

/// What failed while the demo was set up or run.
#[derive(Debug)]
pub(super) struct Trouble(pub(super) String);

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn trouble<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Trouble {
    move |e| Trouble(format!("{what}: {e}"))
}

/// What the files need to know.
pub(super) struct Wiring {
    /// Where the members are reached: the relay.
    pub(super) fronts: [SocketAddr; MEMBERS],
    /// The name server.
    pub(super) dns: SocketAddr,
    /// The route collector.
    pub(super) bgp: SocketAddr,
    /// The lease times.
    pub(super) profile: Profile,
}

/// The cluster.
pub(super) struct Lab {
    dir: PathBuf,
    keep: bool,
    exe: PathBuf,
    tenant: String,
    /// The ticket.
    pub(super) ticket: String,
    /// Where the members listen.
    pub(super) listens: [SocketAddr; MEMBERS],
    /// Where each site serves.
    pub(super) services: [SocketAddr; 2],
    running: BTreeMap<&'static str, Child>,
    caretaker: Option<Child>,
}

impl Lab {
    /// A fresh directory and free ports; nothing runs yet.
    pub(super) fn new(keep: bool) -> Result<Self, Trouble> {
        let exe = std::env::current_exe().map_err(trouble("this program's own path"))?;
        let pid = std::process::id();
        let (tenant, ticket) = (format!("demo-{pid}"), format!("{TICKET}-{pid}"));
        let ports = ports().map_err(trouble("free ports on 127.0.0.1"))?;
        let services = services().map_err(trouble("a free port on 127.0.0.2 and 127.0.0.3"))?;
        let dir = directory(pid).map_err(trouble("a directory of its own"))?;
        let listens = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let running = BTreeMap::new();
        let mut lab =
            Self { dir, keep, exe, tenant, ticket, listens, services, running, caretaker: None };
        let caretaker = lab
            .command(&["demo-service", "tidy", "--listen", "127.0.0.1:0", "--owner"])
            .arg(pid.to_string())
            .arg("--pidfile")
            .arg(lab.path(if keep { KEEP } else { TIDY }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        lab.caretaker = Some(caretaker.map_err(trouble("the caretaker"))?);
        Ok(lab)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A site's control socket.
    pub(super) fn socket(&self, site: usize) -> PathBuf {
        self.dir.join(SITES[site]).join("control.sock")
    }

    // ---- files --------------------------------------------------------------------------------

    /// Certificates, the resource agent, one file per site, and the arbitrator's tenant.
    pub(super) fn write(&self, wiring: &Wiring) -> Result<(), Trouble> {
        let tenant = Tenant::new(&self.tenant).map_err(trouble("the tenant"))?;
        let ca = Ca::init(&self.path("ca"), &tenant).map_err(trouble("the authority"))?;
        for (member, role) in NAMES.into_iter().zip([Role::Site, Role::Site, Role::Arbitrator]) {
            let dir = if role == Role::Site {
                self.path(member).join("pki")
            } else {
                self.path("arbitrator-pki")
            };
            let name = Name::new(member).map_err(trouble("a member's name"))?;
            ca.issue_to(role, &name, &dir).map_err(trouble("a certificate"))?;
        }
        self.write_agent().map_err(trouble("the resource agent"))?;
        for (site, name) in SITES.iter().enumerate() {
            let path = self.path(&format!("{name}.toml"));
            fs::write(&path, self.file(site, wiring)).map_err(trouble("a site's file"))?;
        }
        let added = self
            .command(&["arbitrator", "tenant", "add", &self.tenant])
            .arg("--data")
            .arg(self.path(ARBITRATOR))
            .arg("--member-dir")
            .arg(self.path("arbitrator-pki"))
            .output()
            .map_err(trouble("tierce arbitrator tenant add"))?;
        if !added.status.success() {
            let why = String::from_utf8_lossy(&added.stderr);
            return Err(Trouble(format!("tierce arbitrator tenant add: {}", why.trim())));
        }
        Ok(())
    }

    fn write_agent(&self) -> std::io::Result<()> {
        let dir = self.path("ocf/resource.d/tierce");
        fs::create_dir_all(&dir)?;
        let path = dir.join("demo-service");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
        file.write_all(
            b"#!/bin/sh\n# OCF resource agent of tierce demo: the program is its own agent.\n\
              exec \"$OCF_RESKEY_program\" demo-service \"$1\"\n",
        )
    }

    fn file(&self, site: usize, w: &Wiring) -> String {
        let name = SITES[site];
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref()).to_string();
        let mut text = format!(
            "# Written by tierce demo.\n\
             tenant = \"{tenant}\"\nsite = \"{name}\"\ndata = {data}\nlisten = \"{listen}\"\n\
             profile = \"{profile}\"\nocf-root = {ocf}\nrecorder = {recorder}\n\n\
             [guard]\nlast-resort = \"kill\"\nprogram = [{exe}, \"guard\"]\n",
            tenant = self.tenant,
            data = quoted(&self.path(name)),
            listen = self.listens[site],
            profile = w.profile,
            ocf = quoted(&self.path("ocf")),
            recorder = quoted(&self.path(&format!("recorder-{name}"))),
            exe = quoted(&self.exe),
        );
        for (member, front) in NAMES.iter().zip(w.fronts) {
            let role = if *member == ARBITRATOR { "arbitrator" } else { "site" };
            let member = format!(
                "\n[[member]]\nname = \"{member}\"\nrole = \"{role}\"\naddresses = [\"{front}\"]\n"
            );
            text.push_str(&member);
        }
        let service = self.services[site];
        let ticket = format!(
            "\n[[ticket]]\nname = \"{ticket}\"\nmode = \"auto\"\none-move-per = \"0s\"\n\n\
             [[ticket.resource]]\nid = \"{TICKET}\"\nagent = \"ocf:tierce:demo-service\"\n\
             monitor-interval = \"1s\"\n\n\
             [ticket.resource.params]\nprogram = {exe}\nlisten = \"{service}\"\n\
             pidfile = {pidfile}\nowner = \"{owner}\"\n\n\
             [ticket.dns]\nserver = \"{dns}\"\nzone = \"{ZONE}\"\nname = \"{SERVICE_NAME}\"\n\
             addresses = [\"{ip}\"]\nttl = 1\n\n\
             [ticket.bgp]\nlocal-as = {own_as}\nrouter-id = \"10.0.0.{number}\"\n\
             peer = \"{bgp}\"\npeer-as = {COLLECTOR_AS}\nprefix = \"{PREFIX}\"\n\
             next-hop = \"{ip}\"\nhold-time = \"3s\"\n",
            exe = quoted(&self.exe),
            pidfile = quoted(&self.path(&format!("{name}.pid"))),
            owner = std::process::id(),
            dns = w.dns,
            ip = service.ip(),
            own_as = 64_513 + site,
            number = site + 1,
            bgp = w.bgp,
            ticket = self.ticket,
        );
        text + &ticket
    }

    // ---- processes ----------------------------------------------------------------------------

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(words).stdin(Stdio::null()).process_group(0);
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }

    /// Starts a member.
    pub(super) fn start(&mut self, member: usize) -> Result<(), Trouble> {
        let name = NAMES[member];
        let log =
            OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log")));
        let log: File = log.map_err(trouble("a log"))?;
        let mut command;
        if member == THIRD {
            command = self.command(&["arbitrator", "run", "--listen"]);
            command.arg(self.listens[member].to_string());
            command.arg("--data").arg(self.path(name));
            // It would change to the user tierce, who may not read this directory.
            if geteuid().is_root() {
                command.args(["--user", "root"]);
            }
            let recorder = self.path(&format!("recorder-{name}"));
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&recorder)
                .map_err(trouble("a directory"))?;
            command.env("RUNTIME_DIRECTORY", recorder);
        } else {
            command = self.command(&["agent", "run", "--config"]);
            command.arg(self.path(&format!("{name}.toml")));
        }
        end_with_us(&mut command);
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(trouble("a member's process"))?;
        self.running.insert(name, child);
        Ok(())
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<(), Trouble> {
        let name = NAMES[member];
        let child = self.running.get(name).ok_or_else(|| Trouble(format!("{name} is not up")))?;
        kill(pid_of(child), signal).map_err(trouble(&format!("{signal} to {name}")))
    }

    /// SIGKILL to a member, and nothing to its guard and its service.
    pub(super) fn kill(&mut self, member: usize) -> Result<(), Trouble> {
        self.signal(member, Signal::SIGKILL)?;
        if let Some(mut child) = self.running.remove(NAMES[member]) {
            let _ = child.wait();
        }
        Ok(())
    }

    /// Freezes a member's process, or lets it go on.
    pub(super) fn freeze(&self, member: usize, frozen: bool) -> Result<(), Trouble> {
        self.signal(member, if frozen { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// A member that ended by itself, which none should.
    pub(super) fn ended(&mut self) -> Option<(&'static str, ExitStatus)> {
        self.running.iter_mut().find_map(|(name, c)| Some((*name, c.try_wait().ok()??)))
    }

    /// The last lines of a member's log.
    pub(super) fn log_tail(&self, member: &str, lines: usize) -> String {
        let text = fs::read_to_string(self.path(&format!("{member}.log"))).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The directory, if it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.keep.then_some(self.dir.as_path())
    }

    /// Keeps the directory after all: something is to be looked into.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    fn all_ended(&mut self) -> bool {
        self.running.values_mut().all(|c| matches!(c.try_wait(), Ok(Some(_)) | Err(_)))
    }

    /// Ends everything that was started, in order if it can be.
    fn end(&mut self) {
        for child in self.running.values() {
            let _ = kill(pid_of(child), Signal::SIGCONT);
            let _ = kill(pid_of(child), Signal::SIGTERM);
        }
        let until = Instant::now() + END;
        while !self.all_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        for child in self.running.values_mut() {
            let _ = killpg(pid_of(child), Signal::SIGKILL);
            let _ = child.wait();
        }
        self.running.clear();
        // Guards and services outlive an agent that was killed; that is what they are for.
        end_all_of(&self.dir);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end();
        if let Some(mut caretaker) = self.caretaker.take() {
            let _ = caretaker.kill();
            let _ = caretaker.wait();
        }
        if geteuid().is_root() {
            // State of resource agents, which root keeps under /run; the tenant is ours alone.
            for site in SITES {
                let _ = fs::remove_dir_all(format!("/run/tierce/{}-{site}", self.tenant));
            }
        }
        if !self.keep {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Whatever ends the demo, SIGKILL included, the kernel tells its members to end: they stop their
/// services and guards in order.
fn end_with_us(command: &mut Command) {
    // SAFETY: runs in the child between fork and exec; it is one system call, which neither
    // allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// The caretaker's whole life: it waits for the end of a demo that could not end its processes
/// itself, because it was killed. `mark` is a path in the demo's directory.
pub(super) fn take_care(owner: i32, mark: &Path) {
    while alive(Pid::from_raw(owner)) {
        std::thread::sleep(OWNER_LOOK);
    }
    let Some(dir) = mark.parent() else { return };
    // The members have been told by the kernel and end in order, if they can.
    let until = Instant::now() + END;
    while !of_directory(dir).is_empty() && Instant::now() < until {
        std::thread::sleep(OWNER_LOOK);
    }
    end_all_of(dir);
    if mark.ends_with(TIDY) {
        let _ = fs::remove_dir_all(dir);
    }
}

/// SIGKILL to every process of the directory, until none is left or a second has gone.
fn end_all_of(dir: &Path) {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let left = of_directory(dir);
        if left.is_empty() || Instant::now() >= until {
            return;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of this program that have a path below this directory among their words; but for the
/// caretaker and ourselves.
fn of_directory(dir: &Path) -> Vec<Pid> {
    let mut prefix = dir.as_os_str().as_encoded_bytes().to_vec();
    prefix.push(b'/');
    let own = std::process::id().cast_signed();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let acts = |word: &&[u8]| ROLES.iter().any(|role| role.as_bytes() == *word);
        words.get(1).is_some_and(acts)
            && words.get(2) != Some(&&b"tidy"[..])
            && words.iter().any(|word| word.starts_with(&prefix))
    };
    pids.filter(|pid| *pid != own && ours(pid))
        .map(Pid::from_raw)
        .filter(|pid| alive(*pid))
        .collect()
}

/// A directory that was not there before, for this user only.
fn directory(pid: u32) -> std::io::Result<PathBuf> {
    let usual = std::env::temp_dir();
    // Unix sockets have short paths.
    let base = if usual.as_os_str().len() + 32 > MAX_DIR { PathBuf::from("/tmp") } else { usual };
    for n in 0..1_000 {
        let dir = base.join(format!("tierce-demo-{pid}-{n}"));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return dir.canonicalize(),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Ports that are free now; a race with other programs is unlikely on loopback.
fn ports() -> std::io::Result<[u16; MEMBERS]> {
    let mut ports = [0; MEMBERS];
    let mut held = Vec::new();
    for port in &mut ports {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = socket.local_addr()?.port();
        held.push(socket);
    }
    Ok(ports)
}

/// An address per site, with one port that is free at both.
fn services() -> std::io::Result<[SocketAddr; 2]> {
    let ips = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    for _ in 0..100 {
        let first = UdpSocket::bind((ips[0], 0))?;
        let port = first.local_addr()?.port();
        if UdpSocket::bind((ips[1], port)).is_ok() {
            return Ok(ips.map(|ip| SocketAddr::from((ip, port))));
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}
