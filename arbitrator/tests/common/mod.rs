//! Parts of the real-process tests: an arbitrator as a process, authorities, sites in this process.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // each test binary uses its own share

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tierce_link::{Ca, Name, Role as LinkRole, Settings, Tenant, TenantQuota};
use tierce_member::{Host, HostOptions, MemberHandle, MemberOptions, PeerAddress};
use tierce_ticket::command::{Command as TicketCommand, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Regrant};
use tierce_ticket::holder::Able;
use tierce_ticket::ids::MemberName;
use tierce_ticket::member::{FoundingPlan, Input, PlannedMember};
use tierce_ticket::timing::{Profile, Timing};

pub const BIN: &str = env!("CARGO_BIN_EXE_tierce-arbitrator");
/// Generous: what takes a second on an idle machine.
pub const SOON: Duration = Duration::from_mins(1);

/// Whether tests that need root may run; otherwise says so, or fails where nothing may be skipped.
pub fn is_root(why: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let strict = std::env::var("TIERCE_TESTS_STRICT").is_ok_and(|v| v == "1");
    assert!(!strict, "{why} needs root, and TIERCE_TESTS_STRICT=1 forbids to skip it");
    eprintln!("SKIPPED: {why} needs root");
    false
}

// --- the arbitrator -------------------------------------------------------------------------

/// A place for everything of one test; others may enter it.
pub fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A running arbitrator. It is killed when dropped.
pub struct Daemon {
    pub child: Child,
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub metrics: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, "127.0.0.1:0", &[], &[])
    }

    /// Starts and waits until it is ready.
    pub fn start_with(data: &Path, listen: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let number = fs::read_dir(data.parent().unwrap()).unwrap().count();
        let log = data.with_extension(format!("log{number}"));
        let mut command = Command::new(BIN);
        command.args(["run", "--listen", listen, "--metrics", "127.0.0.1:0", "--data"]).arg(data);
        command.args(args).stderr(File::create(&log).unwrap());
        if !args.contains(&"--user") {
            let runtime = data.with_extension("run");
            fs::create_dir_all(&runtime).unwrap();
            command.env("RUNTIME_DIRECTORY", runtime).args(["--user", &me()]);
        }
        for (key, value) in env {
            command.env(key, value);
        }
        let child = command.spawn().unwrap();
        let unknown = "127.0.0.1:0".parse().unwrap();
        let mut daemon =
            Self { child, data: data.to_owned(), listen: unknown, metrics: unknown, log };
        daemon.until_logged("\"message\":\"ready:");
        let listening = daemon.until_logged("\"message\":\"listening\"");
        let line: Value = serde_json::from_str(&listening).unwrap();
        let address = |field: &str| line["fields"][field].as_str().unwrap().parse().unwrap();
        (daemon.listen, daemon.metrics) = (address("listen"), address("metrics"));
        daemon
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line of the log.
    pub fn until_logged(&mut self, words: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|l| l.contains(words)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the arbitrator ended ({ended:?}):\n{log}");
            assert!(start.elapsed() < SOON, "`{words}` was not logged:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// SIGTERM; how it ended and after which time.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        (status, start.elapsed())
    }

    /// A GET at the metrics address: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// One sample of /metrics.
    pub fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(sample));
        line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).trim().parse().unwrap()
    }

    pub fn list(&self) -> Vec<Value> {
        list(&self.data)
    }

    /// The list's line of that tenant.
    pub fn tenant(&self, name: &str) -> Value {
        let all = self.list();
        let found = all.iter().find(|t| t["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {all:?}"))
    }

    pub fn state(&self, name: &str) -> String {
        self.tenant(name)["state"].as_str().unwrap().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the arbitrator\n{}", self.log());
        }
    }
}

/// The name of the user that runs the tests.
pub fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

// --- its commands ---------------------------------------------------------------------------

/// `tierce-arbitrator tenant VERB... --data DIR`.
pub fn tenant(data: &Path, words: &[&str]) -> Output {
    Command::new(BIN).arg("tenant").args(words).arg("--data").arg(data).output().unwrap()
}

/// The same, which must succeed; gives stdout.
pub fn tenant_ok(data: &Path, words: &[&str]) -> String {
    let out = tenant(data, words);
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "tenant {words:?}: {:?}\n{err}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// The same, which must fail with this code; gives stderr, which must have all four parts.
pub fn tenant_fails(data: &Path, words: &[&str], code: i32) -> String {
    let out = tenant(data, words);
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "tenant {words:?}\n{err}");
    assert!(out.stdout.is_empty(), "stdout is for data");
    for part in ["error: ", "effect: ", "inspect: ", "safer: "] {
        assert!(err.contains(part), "no {part} in\n{err}");
    }
    err
}

pub fn list(data: &Path) -> Vec<Value> {
    let text = tenant_ok(data, &["list", "-o", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["apiVersion"], "tierce/v1");
    value["tenants"].as_array().unwrap().clone()
}

/// Runs something that blocks beside this test's tasks.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The same for what blocks.
pub fn eventually_blocking(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

// --- tenants --------------------------------------------------------------------------------

/// A tenant's authority with its members' folders beside it.
pub struct World {
    pub dir: TempDir,
    pub ca: Ca,
    pub tenant: String,
}

impl World {
    pub fn new(tenant: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &Tenant::new(tenant).unwrap()).unwrap();
        Self { dir, ca, tenant: tenant.to_owned() }
    }

    /// An authority whose certificates live so long.
    pub fn with_life(tenant: &str, life: Duration) -> Self {
        let mut world = Self::new(tenant);
        world.ca = world.ca.with_certificate_life(life);
        world
    }

    pub fn path(&self, member: &str) -> PathBuf {
        self.dir.path().join(member)
    }

    /// A member's folder.
    pub fn member(&self, role: LinkRole, name: &str) -> PathBuf {
        let path = self.path(name);
        self.ca.issue_to(role, &Name::new(name).unwrap(), &path).unwrap();
        path
    }

    /// The arbitrator's folder, as a word for the command line.
    pub fn arbitrator(&self) -> String {
        self.member(LinkRole::Arbitrator, "arb").display().to_string()
    }

    /// Adds the tenant to an arbitrator by a member's folder.
    pub fn add_to(&self, data: &Path) -> String {
        let dir = self.arbitrator();
        tenant_ok(data, &["add", &self.tenant, "--member-dir", &dir])
    }
}

pub fn timing() -> Timing {
    Profile::Lan.timing()
}

/// A site's member in this process.
pub struct Site {
    pub host: Host,
    pub handle: MemberHandle,
    pub name: MemberName,
}

/// Two sites of a tenant, which form a cluster with the arbitrator at that address.
pub struct Sites(pub Vec<Site>);

impl Sites {
    /// Starts both and waits until both have a session: everything of the protocol has worked.
    pub async fn form(world: &World, arbitrator: SocketAddr) -> Self {
        let sites = Self::start(world, arbitrator);
        sites.have_sessions().await;
        sites
    }

    pub fn start(world: &World, arbitrator: SocketAddr) -> Self {
        let names = ["east", "west"];
        let link = Settings::for_period(Duration::from_millis(500), 6);
        let local = "127.0.0.1:0".parse().unwrap();
        let hosts: Vec<Host> = names
            .iter()
            .map(|_| {
                Host::start(HostOptions { listen: local, link: link.clone(), marks: None }).unwrap()
            })
            .collect();
        let mut members: Vec<PlannedMember> = names
            .iter()
            .zip(&hosts)
            .map(|(name, host)| PlannedMember {
                name: name.parse().unwrap(),
                role: Role::Site,
                addresses: vec![host.local_addr().unwrap().to_string()],
            })
            .collect();
        members.push(PlannedMember {
            name: "arb".parse().unwrap(),
            role: Role::Arbitrator,
            addresses: vec![arbitrator.to_string()],
        });
        let plan = FoundingPlan { members: members.clone(), timing: timing() };
        let mut sites = Vec::new();
        for (name, host) in names.iter().zip(hosts) {
            let pki_dir = world.path(name);
            if !pki_dir.exists() {
                world.member(LinkRole::Site, name);
            }
            let peers = members.iter().filter(|m| m.name.as_str() != *name);
            let (handle, mut events) = host
                .add_member(MemberOptions {
                    tenant: world.tenant.clone(),
                    name: name.parse().unwrap(),
                    role: Role::Site,
                    store_dir: world.path(&format!("{name}-store")),
                    pki_dir,
                    digest: [7; 16],
                    plan: Some(plan.clone()),
                    peers: peers
                        .map(|m| PeerAddress {
                            name: m.name.clone(),
                            role: m.role,
                            addresses: m.addresses.clone(),
                        })
                        .collect(),
                    quota: TenantQuota::default(),
                })
                .unwrap();
            tokio::spawn(async move { while events.recv().await.is_some() {} });
            let runner = handle.clone();
            tokio::spawn(async move {
                // There is nothing to stop here, so this node can always stop it (R15).
                while runner.input(Input::Able(Able::Runner)).is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            sites.push(Site { host, handle, name: name.parse().unwrap() });
        }
        Self(sites)
    }

    pub async fn have_sessions(&self) {
        eventually("both sites have sessions", async || {
            let open = self.0[0].handle.read(|m, _| m.docket().map(|d| d.open_sessions().count()));
            open.await.flatten() == Some(2)
        })
        .await;
    }

    /// Makes a ticket or changes it.
    pub async fn set_ticket(&self, name: &str, padding: &str) -> Outcome {
        let require = if padding.is_empty() {
            vec![]
        } else {
            vec![("pad".parse().unwrap(), padding.into())]
        };
        let policy = Policy {
            mode: Mode::Manual,
            regrant: Regrant::Lapse,
            loss: LossPolicy::Stop,
            prefer: vec![],
            one_move_per: Duration::ZERO,
            require: require.into_iter().collect(),
            max_lag: None,
            stop_budget: timing().stop_budget,
        };
        let command = TicketCommand::SetTicket { name: name.parse().unwrap(), policy };
        self.0[0].handle.command(command).await
    }

    /// Ends both.
    pub async fn stop(self) {
        for site in self.0 {
            site.handle.shutdown().await;
            site.host.shutdown("the test ends").await;
        }
    }
}
