//! A cluster of processes in a temporary directory.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
    arbitrator: Option<mpsc::Sender<()>>,
}

/// Ports that are free now; a race with other programs is unlikely on loopback.
fn ports() -> [u16; 3] {
    let open: [UdpSocket; 3] =
        std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    open.map(|s| s.local_addr().expect("bound").port())
}

impl Cluster {
    /// `change`: what a test wants otherwise in a site's file.
    pub(crate) fn new(change: impl Fn(&str, String) -> String) -> Self {
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
            let text = change(site, config(dir.path(), site, port, ports));
            std::fs::write(dir.path().join(format!("{site}.toml")), text).expect("written");
        }
        let arbitrator = arbitrator(dir.path().join(ARBITRATOR), ports[2]);
        Self { dir, agents: Vec::new(), arbitrator: Some(arbitrator) }
    }

    pub(crate) fn start(&mut self, site: &str) {
        self.start_with(site, &[]);
    }

    /// Starts an agent with these in its environment.
    pub(crate) fn start_with(&mut self, site: &str, env: &[(&str, String)]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{site}.log")))
            .expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_tierce-agent"))
            .args(["run", "--foreground", "--config"])
            .arg(self.path(&format!("{site}.toml")))
            .env("TIERCE_LOG", "info")
            .envs(env.iter().map(|(key, value)| (*key, value)))
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

    /// The arbitrator ends.
    pub(crate) fn lose_arbitrator(&mut self) {
        self.arbitrator = None;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, site: &str) {
        let mut child = self.take(site);
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self, site: &str) -> Option<i32> {
        self.signal(site, Signal::SIGTERM);
        self.ended(site)
    }

    /// Whether an agent runs.
    pub(crate) fn lives(&mut self, site: &str) -> bool {
        let child = self.agents.iter_mut().find(|(s, _)| s == site);
        child.is_some_and(|(_, c)| c.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// The exit code of an agent that ends by itself.
    pub(crate) fn ended(&mut self, site: &str) -> Option<i32> {
        let mut child = self.take(site);
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

    /// A signal to an agent.
    pub(crate) fn signal(&self, site: &str, signal: Signal) {
        let (_, child) = self.agents.iter().find(|(s, _)| s == site).expect("it runs");
        kill(pid_of(child), signal).expect("sent");
    }

    /// Runs the program with these words; exit code and what it said.
    pub(crate) fn run(&self, words: &[&str], config: &str) -> (Option<i32>, String) {
        let ended = Command::new(env!("CARGO_BIN_EXE_tierce-agent"))
            .args(words)
            .arg("--config")
            .arg(self.path(config))
            .output()
            .expect("it runs");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    /// Changes a site's file.
    pub(crate) fn edit(&self, site: &str, from: &str, to: &str) {
        let path = self.path(&format!("{site}.toml"));
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&path, text.replace(from, to)).expect("written");
    }

    /// CPU in percent of a core over a while, and resident memory in KiB, of a site's agent.
    pub(crate) fn cost(&self, site: &str, over: Duration) -> (f64, u64) {
        let (_, child) = self.agents.iter().find(|(s, _)| s == site).expect("it runs");
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let ticks = || {
            let stat = std::fs::read_to_string(proc.join("stat")).expect("it runs");
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
            // utime and stime, the 14th and 15th field of the whole line, in hundredths of a second.
            [12, 13].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum::<u64>()
        };
        let before = ticks();
        std::thread::sleep(over);
        let used = (ticks() - before) as f64 / 100.0;
        let status = std::fs::read_to_string(proc.join("status")).expect("it runs");
        let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok());
        (100.0 * used / over.as_secs_f64(), rss.expect("a process has memory"))
    }

    /// Whether the guard of a site took its last resort, which is a line in a file here.
    pub(crate) fn last_resort_of(&self, site: &str) -> Option<String> {
        let noted = std::fs::read_to_string(self.path(&format!("{site}.record"))).ok();
        noted.filter(|text| !text.is_empty())
    }

    /// Asks an agent, which may still be starting.
    pub(crate) fn ask(&self, site: &str, ask: &Value) -> Value {
        let socket = self.path(site).join("control.sock");
        let by = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < by, "no answer of {site}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        ask_at(&socket, ask)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
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

    /// All that an agent has logged.
    pub(crate) fn log(&self, site: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{site}.log"))).unwrap_or_default()
    }

    pub(crate) fn logs(&self) -> String {
        let tail = |site: &str| {
            let log = self.log(site);
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
        // The guards outlive their agents, as they should.
        for site in SITES {
            let socket = self.path(site).join("guard.sock");
            let Ok(mut client) = tierce_guard::GuardClient::connect(&socket) else { continue };
            let _ = client.status();
            while let Ok(Some(reply)) = client.wait(Duration::from_secs(5)) {
                if let tierce_guard::Reply::Status(status) = reply {
                    let _ = kill(Pid::from_raw(status.pid.cast_signed()), Signal::SIGKILL);
                    break;
                }
            }
        }
    }
}

/// Asks at a socket; the last line is the answer. No answer is an empty object.
pub(crate) fn ask_at(socket: &Path, ask: &Value) -> Value {
    let mut last = Value::Object(serde_json::Map::new());
    let Ok(mut stream) = UnixStream::connect(socket) else { return last };
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
    let mut request = ask.clone();
    request["apiVersion"] = "tierce/v1".into();
    if stream.write_all(format!("{request}\n").as_bytes()).is_ok() {
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            last = serde_json::from_str(&line).expect("JSON");
        }
    }
    last
}

/// One request of a scraper, headers included.
pub(crate) fn http(at: std::net::SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(at).expect("metrics are served");
    let request = format!("GET {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    text
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// The guard's program: built by this workspace, here and now if it is not there yet.
fn guard_program() -> PathBuf {
    static BUILD: Mutex<()> = Mutex::new(());
    let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Path::new(env!("CARGO_BIN_EXE_tierce-agent")).with_file_name("tierce-guard");
    if !program.is_file() {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "-q", "-p", "tierce-guard"]);
        if program.parent().is_some_and(|p| p.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|s| s.success()), "tierce-guard is not built");
    }
    program
}

fn config(dir: &Path, site: &str, port: u16, ports: [u16; 3]) -> String {
    let [paris, rome, zurich] = ports;
    let (dir, guard) = (dir.display(), guard_program());
    let guard = guard.display();
    format!(
        r#"tenant = "test"
site = "{site}"
data = "{dir}/{site}"
listen = "127.0.0.1:{port}"
profile = "metro-fast"
recorder = "{dir}/{site}/recorder"
guard = {{ last-resort = "record:{dir}/{site}.record", program = ["{guard}", "--no-realtime"] }}

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
            // As a real arbitrator: the sites' times decide when a connection is dead.
            let timing = Profile::Cautious.timing();
            let host = Host::start(HostOptions {
                listen: format!("127.0.0.1:{port}").parse().expect("an address"),
                link: Settings::for_period(timing.renew_every, timing.losses),
                marks: None,
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
