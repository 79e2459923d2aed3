//! A site's runner with real agents, a real guard, and a lease that the test gives.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tierce_agent::config::Config;
use tierce_agent::runner::{
    Runner, RunnerEvent, RunnerHandle, RunnerOptions, RunnerOrder, TicketRun, stop_ticket,
};
use tierce_ticket::holder::StopReason;
use tierce_ticket::ids::{Term, TicketId};
use tierce_ticket::time::HolderTime;
use tokio::sync::mpsc;

/// Generous: the machine is shared.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// The ticket that most tests use.
pub(crate) const WEB: TicketId = TicketId(4);
const ROLE: &str = "TIERCE_RUNNER_TEST_ROLE";

pub(crate) fn now() -> HolderTime {
    let t = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    HolderTime::from_nanos(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// T 3 s, W 300 ms, B 1 s, P 200 ms: a lease of 2.9 s of which 1.6 s are free.
const HEAD: &str = r#"tenant = "TENANT"
site = "paris"
data = "."
listen = "127.0.0.1:7800"
profile = "lan"
timing = { promise = "3s", watchdog = "300ms", stop-budget = "1s", renew-every = "200ms", rtt-max = "50ms", election = "500ms" }

[[member]]
name = "paris"
role = "site"
addresses = ["127.0.0.1:7800"]

[[member]]
name = "rome"
role = "site"
addresses = ["127.0.0.1:7801"]

[[member]]
name = "zurich"
role = "arbitrator"
addresses = ["127.0.0.1:7802"]
"#;

/// Where everything of one test lies; outlives runners.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    guard: &'static str,
    /// Init scripts of the test.
    scripts: bool,
    pub(crate) stop_command: Option<Vec<String>>,
}

impl Place {
    /// `guard`: the last resort; "record" writes to the file `record`.
    pub(crate) fn new(guard: &'static str, tickets: &str) -> Self {
        let place =
            Self { dir: tempfile::tempdir().unwrap(), guard, scripts: false, stop_command: None };
        place.write(tickets);
        place
    }

    /// The configuration with these tickets; `DIR` in it is the test's directory.
    pub(crate) fn write(&self, tickets: &str) {
        let resort = match self.guard {
            "record" => format!("record:{}", self.path("record").display()),
            other => other.to_owned(),
        };
        let guard = match self.guard {
            "off" => "[guard]\nlast-resort = \"off\"\n".to_owned(),
            _ => format!(
                "[guard]\nlast-resort = \"{resort}\"\nprogram = [\"{}\", \"--no-realtime\"]\n",
                guard_program().display()
            ),
        };
        let tenant = self.dir.path().file_name().unwrap().to_string_lossy();
        let tenant: String =
            tenant.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let tickets = tickets.replace("DIR", &self.dir.path().display().to_string());
        let text = format!("{}\n{guard}\n{tickets}", HEAD.replace("TENANT", &tenant));
        std::fs::write(self.path("agent.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What the guard noted.
    pub(crate) fn guard_events(&self) -> String {
        self.text("guard.events")
    }

    /// Puts an init script where this test's runner finds it.
    pub(crate) fn script(&mut self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        let body = body.replace("DIR", &self.dir.path().display().to_string());
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.scripts = true;
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.path("agent.toml")).unwrap()
    }

    /// Starts a runner and gives it the first lease.
    pub(crate) fn start(&self) -> Site {
        let config = self.config();
        let timing = config.timing();
        let mut options = RunnerOptions::new(config, self.path("agent.toml"));
        options.stop_command = Some(self.stop_command.clone().unwrap_or_else(stop_role));
        if self.scripts {
            self.dir.path().clone_into(&mut options.executor.lsb_dir);
        }
        let (runner, events) = Runner::start(options).unwrap();
        let holder_time = timing.holder_time();
        let site = Site { runner, events, seen: vec![], holder_time };
        site.lease();
        site
    }
}

impl Drop for Place {
    /// A guard that a test has left behind ends with it.
    fn drop(&mut self) {
        let socket = self.path("guard.sock");
        if let Ok(mut client) = tierce_guard::GuardClient::connect(&socket) {
            let _ = client.status();
            while let Ok(Some(reply)) = client.wait(Duration::from_secs(5)) {
                if let tierce_guard::Reply::Status(status) = reply {
                    let pid = nix::unistd::Pid::from_raw(status.pid.cast_signed());
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                    break;
                }
            }
        }
        let config = self.config();
        let run = tierce_agent::runner::executor_settings(&config).rsctmp;
        let _ = std::fs::remove_dir_all(run);
    }
}

/// A running runner.
pub(crate) struct Site {
    pub(crate) runner: RunnerHandle,
    pub(crate) events: mpsc::Receiver<RunnerEvent>,
    pub(crate) seen: Vec<RunnerEvent>,
    holder_time: Duration,
}

impl Site {
    /// One renewal, as if answered at once.
    pub(crate) fn lease(&self) {
        self.runner.order(RunnerOrder::Lease { deadline: now() + self.holder_time });
    }

    /// Renews for as long as the runtime lives.
    pub(crate) fn keep_lease(&self) {
        let (runner, holder_time) = (self.runner.clone(), self.holder_time);
        tokio::spawn(async move {
            loop {
                runner.order(RunnerOrder::Lease { deadline: now() + holder_time });
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    pub(crate) fn run(&self, term: u64) {
        let name = "web".to_owned();
        self.runner.order(RunnerOrder::Run { ticket: WEB, name, term: Term(term) });
    }

    pub(crate) fn stop(&self, term: u64, why: StopReason) {
        let (name, term) = ("web".to_owned(), Term(term));
        self.runner.order(RunnerOrder::Stop { ticket: WEB, name, term, why, by: now() });
    }

    /// Waits for an event; what came before stays in `seen`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        is: impl Fn(&RunnerEvent) -> bool,
    ) -> RunnerEvent {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let Ok(event) = tokio::time::timeout_at(deadline, self.events.recv()).await else {
                panic!("waited {LONG:?} for {what}; seen {:#?}", self.seen);
            };
            let Some(event) = event else {
                panic!("the runner ended before {what}; seen {:#?}", self.seen);
            };
            if !matches!(event, RunnerEvent::Alive) {
                self.seen.push(event.clone());
            }
            if is(&event) {
                return event;
            }
        }
    }

    pub(crate) async fn started(&mut self, term: u64) {
        self.until(
            "started",
            |e| matches!(e, RunnerEvent::Started { ticket: WEB, term: t, .. } if t.0 == term),
        )
        .await;
    }

    pub(crate) async fn stopped(&mut self, term: u64) {
        self.until(
            "stopped",
            |e| matches!(e, RunnerEvent::Stopped { ticket: WEB, term: t, .. } if t.0 == term),
        )
        .await;
    }

    /// Waits until the view of the ticket is so.
    pub(crate) async fn view_until(
        &self,
        what: &str,
        is: impl Fn(&TicketRun) -> bool,
    ) -> TicketRun {
        let deadline = Instant::now() + LONG;
        loop {
            let view = self.runner.view().await;
            let run = view.tickets.get("web").cloned().unwrap_or_default();
            if is(&run) {
                return run;
            }
            assert!(Instant::now() < deadline, "waited {LONG:?} for {what}: {run:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// History lines as "resource: what".
    pub(crate) fn history(&self) -> Vec<String> {
        let line = |e: &RunnerEvent| match e {
            RunnerEvent::Resource { resource, what, .. } if !resource.is_empty() => {
                Some(format!("{resource}: {what}"))
            }
            _ => None,
        };
        self.seen.iter().filter_map(line).collect()
    }
}

pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < deadline, "waited {LONG:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A single thread, as in the daemon.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The ticket web with a Dummy for each name.
pub(crate) fn dummies(names: &[&str]) -> String {
    let part = |name: &&str| {
        format!(
            "[[ticket.resource]]\nid = \"{name}\"\nagent = \"ocf:heartbeat:Dummy\"\n\
             params = {{ state = \"DIR/{name}.state\" }}\nmonitor-interval = \"200ms\"\n"
        )
    };
    let head = "[[ticket]]\nname = \"web\"\n".to_owned();
    names.iter().map(part).fold(head, |text, part| text + &part)
}

/// The guard's program: built by this workspace, here and now if it is not there yet.
fn guard_program() -> PathBuf {
    static BUILD: Mutex<()> = Mutex::new(());
    let _one = BUILD.lock().unwrap();
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().and_then(Path::parent).unwrap().join("tierce-guard");
    if !program.is_file() {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "-q", "-p", "tierce-guard"]);
        if program.parent().unwrap().ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "tierce-guard is not built");
    }
    program
}

/// The guard's stop command: this test program in the role of `stop-ticket`.
fn stop_role() -> Vec<String> {
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "{ROLE}=stop-ticket CONFIG=\"$2\" TICKET=\"$4\" exec {} --exact rig::role_of_stop_ticket",
        exe.display()
    );
    ["/bin/sh", "-c", &script, "stop-ticket"].map(str::to_owned).to_vec()
}

/// Not a test by itself: what the guard runs in the other tests.
#[test]
pub(crate) fn role_of_stop_ticket() {
    if std::env::var(ROLE).as_deref() != Ok("stop-ticket") {
        return;
    }
    let config = Config::load(Path::new(&std::env::var("CONFIG").unwrap())).unwrap();
    let ticket = std::env::var("TICKET").unwrap();
    let outcome = runtime().block_on(stop_ticket(&config, &ticket));
    if let Err(error) = &outcome {
        eprintln!("stop-ticket: {error}");
    }
    assert!(outcome.is_ok());
}

/// Whether a root-only test may run; without root it says so, or fails where that is demanded.
pub(crate) fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED: needs root (network namespace)");
    assert!(std::env::var("TIERCE_TESTS_STRICT").as_deref() != Ok("1"), "skipped in strict mode");
    false
}
