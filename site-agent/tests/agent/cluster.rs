//! A cluster of processes in a temporary directory.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tierce_link::{Ca, Name, Role, Settings, Tenant, TenantQuota};
use tierce_member::{Host, HostOptions, MemberOptions};
use tierce_ticket::timing::Profile;

pub(crate) const SITES: [&str; 2] = ["paris", "rome"];
const ARBITRATOR: &str = "zurich";
const DUMMY: &str = "/usr/lib/ocf/resource.d/heartbeat/Dummy";

/// Whether this machine can run the test; says so when not.
pub(crate) fn may_run() -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "it needs root: resource agents write to /run"
    } else if !Path::new(DUMMY).exists() {
        "it needs the package resource-agents"
    } else {
        return true;
    };
    let strict = std::env::var("TIERCE_TESTS_STRICT").is_ok_and(|v| v == "1");
    assert!(!strict, "may not be skipped: {why}");
    eprintln!("SKIPPED: {why}");
    false
}

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    agents: Vec<(String, Child)>,
    _arbitrator: mpsc::Sender<()>,
}

/// Ports that are free now; a race with other programs is unlikely on loopback.
fn ports() -> [u16; 3] {
    let open: [UdpSocket; 3] =
        std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    open.map(|s| s.local_addr().expect("bound").port())
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tenant = Tenant::new("test").expect("a name");
        let ca = Ca::init(&dir.path().join("ca"), &tenant).expect("an authority");
        let ports = ports();
        for site in SITES {
            let pki = dir.path().join(site).join("pki");
            ca.issue_to(Role::Site, &Name::new(site).expect("a name"), &pki)
                .expect("a certificate");
        }
        let pki = dir.path().join(ARBITRATOR).join("pki");
        let name = Name::new(ARBITRATOR).expect("a name");
        ca.issue_to(Role::Arbitrator, &name, &pki).expect("a certificate");
        for (site, port) in SITES.into_iter().zip(ports) {
            let text = config(dir.path(), site, port, ports);
            std::fs::write(dir.path().join(format!("{site}.toml")), text).expect("written");
        }
        let arbitrator = arbitrator(dir.path().join(ARBITRATOR), ports[2]);
        Self { dir, agents: Vec::new(), _arbitrator: arbitrator }
    }

    pub(crate) fn start(&mut self, site: &str) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{site}.log")))
            .expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_tierce-agent"))
            .args(["run", "--foreground", "--config"])
            .arg(self.path(&format!("{site}.toml")))
            .env("TIERCE_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        self.agents.push((site.to_owned(), child));
    }

    fn take(&mut self, site: &str) -> Child {
        let at = self.agents.iter().position(|(s, _)| s == site).expect("it runs");
        self.agents.remove(at).1
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, site: &str) {
        let mut child = self.take(site);
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self, site: &str) -> Option<i32> {
        let mut child = self.take(site);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("told");
        let by = Instant::now() + Duration::from_secs(20);
        while Instant::now() < by {
            if let Some(status) = child.try_wait().expect("asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        panic!("{site} did not end\n{}", self.logs());
    }

    /// There is no guard in this test (it would reset the machine, or need its own program): what a
    /// dead agent left running is stopped here, within the lease, as the guard would.
    pub(crate) fn stop_resource_of_the_dead(&self, site: &str) {
        let ended = Command::new(env!("CARGO_BIN_EXE_tierce-agent"))
            .args(["stop-ticket", "--ticket", "web", "--config"])
            .arg(self.path(&format!("{site}.toml")))
            .output()
            .expect("stop-ticket runs");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        assert!(!self.runs_at(site), "stop-ticket said that it is stopped");
    }

    /// Asks an agent; the last line is the answer. No answer yet is an empty object.
    pub(crate) fn ask(&self, site: &str, ask: &Value) -> Value {
        let socket = self.path(site).join("control.sock");
        let by = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < by, "no answer of {site}: {e}\n{}", self.logs()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
        let mut request = ask.clone();
        request["apiVersion"] = "tierce/v1".into();
        let sent = (&stream).write_all(format!("{request}\n").as_bytes());
        if sent.is_err() {
            return Value::Object(serde_json::Map::new());
        }
        let mut last = Value::Object(serde_json::Map::new());
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            last = serde_json::from_str(&line).expect("JSON");
        }
        last
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn runs_at(&self, site: &str) -> bool {
        self.path(&format!("{site}.state")).exists()
    }

    /// At no look does the resource run at both sites.
    pub(crate) fn never_both(&self) {
        let both = SITES.iter().all(|s| self.runs_at(s));
        assert!(!both, "the resource runs at both sites\n{}", self.logs());
    }

    pub(crate) fn logs(&self) -> String {
        let tail = |site: &str| {
            let log =
                std::fs::read_to_string(self.path(&format!("{site}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(60);
            format!("--- {site}\n{}\n", lines[from..].join("\n"))
        };
        SITES.iter().map(|s| tail(s)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.agents {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn config(dir: &Path, site: &str, port: u16, ports: [u16; 3]) -> String {
    let [paris, rome, zurich] = ports;
    let dir = dir.display();
    format!(
        r#"tenant = "test"
site = "{site}"
data = "{dir}/{site}"
listen = "127.0.0.1:{port}"
profile = "metro-fast"
recorder = "{dir}/{site}/recorder"
guard = {{ last-resort = "off" }}

[[member]]
name = "paris"
role = "site"
addresses = ["127.0.0.1:{paris}"]
[[member]]
name = "rome"
role = "site"
addresses = ["127.0.0.1:{rome}"]
[[member]]
name = "zurich"
role = "arbitrator"
addresses = ["127.0.0.1:{zurich}"]

[[ticket]]
name = "web"
mode = "auto"
one-move-per = "0s"
[[ticket.resource]]
id = "dummy"
agent = "ocf:heartbeat:Dummy"
params = {{ state = "{dir}/{site}.state" }}
monitor-interval = "1s"
"#
    )
}

/// The third member, in a thread of this process; it ends when the sender is dropped.
fn arbitrator(dir: PathBuf, port: u16) -> mpsc::Sender<()> {
    let (keep, ended) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let timing = Profile::MetroFast.timing();
            let host = Host::start(HostOptions {
                listen: format!("127.0.0.1:{port}").parse().expect("an address"),
                link: Settings::for_period(timing.renew_every, timing.losses),
            })
            .expect("a host");
            let options = MemberOptions {
                tenant: "test".to_owned(),
                name: ARBITRATOR.parse().expect("a name"),
                role: tierce_ticket::configuration::Role::Arbitrator,
                store_dir: dir.join("store"),
                pki_dir: dir.join("pki"),
                digest: [0; 16],
                plan: None,
                peers: Vec::new(),
                quota: TenantQuota::default(),
            };
            let (_member, mut events) = host.add_member(options).expect("a member");
            ready.send(()).expect("the test waits");
            let end = tokio::task::spawn_blocking(move || ended.recv());
            tokio::pin!(end);
            loop {
                tokio::select! {
                    _ = events.recv() => {}
                    _ = &mut end => return,
                }
            }
        });
    });
    started.recv().expect("the arbitrator starts");
    keep
}
