//! Units, through a D-Bus of the test's own on which a small service speaks systemd's interface.
//! Systemd itself does not run where tests do.
#![allow(clippy::unwrap_used)] // a test may
#![allow(clippy::needless_pass_by_value)] // the D-Bus macro hands emitters over by value

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Node, node_with, skip, within};
use tierce_executor::{Action, Bus, Context, ResourceSpec, Status};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectServer, OwnedObjectPath, fdo, interface};

/// A message bus; ended by its process id when dropped.
struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    async fn start(dir: &Path) -> Option<Self> {
        let (socket, config) = (dir.join("bus"), dir.join("bus.conf"));
        let address = format!("unix:path={}", socket.display());
        let text = format!(
            "<busconfig><type>session</type><listen>{address}</listen><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/>\
             </policy></busconfig>"
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile"])
            .stdin(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            skip("dbus-daemon is not installed");
            return None;
        };
        common::eventually("the bus listens", || socket.exists()).await;
        Some(Self { process, address })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone)]
struct UnitState {
    load: &'static str,
    active: &'static str,
    /// What a start leads to: job result, then state.
    start: (&'static str, &'static str),
}

type Units = Arc<Mutex<HashMap<String, UnitState>>>;

struct Manager {
    units: Units,
    subscribed: bool,
    jobs: u32,
}

struct Unit {
    name: String,
    units: Units,
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_state(&self) -> String {
        self.units.lock().unwrap()[&self.name].active.to_owned()
    }
    #[zbus(property)]
    fn load_state(&self) -> String {
        self.units.lock().unwrap()[&self.name].load.to_owned()
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&mut self) {
        self.subscribed = true;
    }

    async fn load_unit(
        &self,
        name: &str,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> fdo::Result<OwnedObjectPath> {
        self.units.lock().unwrap().entry(name.to_owned()).or_insert(UnitState {
            load: "not-found",
            active: "inactive",
            start: ("done", "active"),
        });
        let escaped: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let path = format!("/org/freedesktop/systemd1/unit/{escaped}");
        let unit = Unit { name: name.to_owned(), units: self.units.clone() };
        server.at(path.as_str(), unit).await?;
        OwnedObjectPath::try_from(path).map_err(|e| fdo::Error::Failed(e.to_string()))
    }

    fn start_unit(
        &mut self,
        name: &str,
        mode: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        let (result, state) = self.units.lock().unwrap()[name].start;
        self.job(name, mode, result, state, connection, &emitter)
    }

    fn stop_unit(
        &mut self,
        name: &str,
        mode: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.job(name, mode, "done", "inactive", connection, &emitter)
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

impl Manager {
    /// The unit passes through an intermediate state; the job's end is told afterwards, after one
    /// of another job. Result "never" means that it never ends.
    fn job(
        &mut self,
        name: &str,
        mode: &str,
        result: &'static str,
        state: &'static str,
        connection: &Connection,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        assert_eq!((mode, self.subscribed), ("replace", true));
        self.jobs += 1;
        let id = self.jobs;
        let path = |id: u32| {
            OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}"))
                .map_err(|e| fdo::Error::Failed(e.to_string()))
        };
        let (job, other) = (path(id)?, path(9_000 + id)?);
        self.set(name, if state == "active" { "activating" } else { "deactivating" });
        if result != "never" {
            let (units, name) = (self.units.clone(), name.to_owned());
            let (connection, at, told) =
                (connection.clone(), emitter.path().to_owned(), job.clone());
            tokio::spawn(async move {
                let emitter = SignalEmitter::new(&connection, at).unwrap();
                Self::job_removed(&emitter, 9_000 + id, other, "x", "failed").await.unwrap();
                tokio::time::sleep(Duration::from_millis(150)).await;
                Self::job_removed(&emitter, id, told, &name, result).await.unwrap();
                // The state may follow the job's end a little later.
                tokio::time::sleep(Duration::from_millis(150)).await;
                units.lock().unwrap().get_mut(&name).unwrap().active = state;
            });
        }
        Ok(job)
    }

    fn set(&self, name: &str, active: &'static str) {
        self.units.lock().unwrap().get_mut(name).unwrap().active = active;
    }
}

struct Rig {
    _bus: Daemon,
    _service: Connection,
    _dir: tempfile::TempDir,
    units: Units,
    node: Node,
}

async fn rig() -> Option<Rig> {
    let dir = tempfile::tempdir().unwrap();
    let bus = Daemon::start(dir.path()).await?;
    let unit = |load, active, start| UnitState { load, active, start };
    let units: Units = Arc::new(Mutex::new(HashMap::from([
        ("web.service".to_owned(), unit("loaded", "inactive", ("done", "active"))),
        ("broken.service".to_owned(), unit("loaded", "inactive", ("failed", "failed"))),
        ("fleeting.service".to_owned(), unit("loaded", "inactive", ("done", "failed"))),
        ("stuck.service".to_owned(), unit("loaded", "inactive", ("never", "active"))),
        ("masked.service".to_owned(), unit("masked", "inactive", ("done", "active"))),
    ])));
    let manager = Manager { units: units.clone(), subscribed: false, jobs: 0 };
    let service = zbus::connection::Builder::address(bus.address.as_str())
        .serve_at("/org/freedesktop/systemd1", manager)
        .name("org.freedesktop.systemd1")
        .build()
        .await
        .unwrap();
    let address = bus.address.clone();
    let node = node_with(|s| s.bus = Bus::Address(address));
    Some(Rig { _bus: bus, _service: service, _dir: dir, units, node })
}

impl Rig {
    async fn run(&self, agent: &str, action: Action) -> Status {
        let spec = ResourceSpec::new("u", agent).unwrap();
        let outcome = self.node.executor.run(&spec, action, &within(Duration::from_secs(10))).await;
        eprintln!("{agent} {action}: {outcome}");
        assert!(!outcome.timed_out);
        outcome.status
    }
}

#[tokio::test]
async fn a_unit_lives_and_dies() {
    let Some(rig) = rig().await else { return };
    for agent in ["systemd:web", "systemd:web.service", "service:web"] {
        assert_eq!(rig.run(agent, Action::ValidateAll).await, Status::Ok);
        assert_eq!(rig.run(agent, Action::Monitor).await, Status::NotRunning);
        assert_eq!(rig.run(agent, Action::Start).await, Status::Ok);
        assert_eq!(rig.run(agent, Action::Monitor).await, Status::Ok);
        assert_eq!(rig.run(agent, Action::Stop).await, Status::Ok);
        assert_eq!(rig.run(agent, Action::Stop).await, Status::Ok);
        assert_eq!(rig.run(agent, Action::Monitor).await, Status::NotRunning);
    }
    rig.units.lock().unwrap().get_mut("web.service").unwrap().active = "reloading";
    assert_eq!(rig.run("systemd:web", Action::Monitor).await, Status::Ok);
}

#[tokio::test]
async fn a_service_is_the_init_script_where_there_is_one() {
    let Some(rig) = rig().await else { return };
    rig.node.init_script("web", "exit 3");
    assert_eq!(rig.run("service:web", Action::Start).await, Status::Unimplemented);
    assert_eq!(rig.run("systemd:web", Action::Start).await, Status::Ok);
}

#[tokio::test]
async fn a_start_fails_when_its_job_fails_or_the_service_ends_at_once() {
    let Some(rig) = rig().await else { return };
    assert_eq!(rig.run("systemd:broken", Action::Start).await, Status::Error);
    assert_eq!(rig.run("systemd:broken", Action::Monitor).await, Status::NotRunning);
    assert_eq!(rig.run("systemd:fleeting", Action::Start).await, Status::Error);
}

#[tokio::test]
async fn a_unit_that_is_missing_or_masked_is_not_installed_and_counts_as_stopped() {
    let Some(rig) = rig().await else { return };
    for agent in ["systemd:nosuch", "systemd:masked"] {
        assert_eq!(rig.run(agent, Action::Start).await, Status::NotInstalled);
        assert_eq!(rig.run(agent, Action::Monitor).await, Status::NotInstalled);
        assert_eq!(rig.run(agent, Action::Stop).await, Status::Ok);
    }
}

#[tokio::test]
async fn a_job_that_never_ends_is_left_at_the_timeout_and_at_a_cancel() {
    let Some(rig) = rig().await else { return };
    let spec = ResourceSpec::new("u", "systemd:stuck").unwrap();
    let start = Instant::now();
    let short = within(Duration::from_millis(400));
    let outcome = rig.node.executor.run(&spec, Action::Start, &short).await;
    assert!(outcome.timed_out && outcome.status == Status::Error, "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let (context, cancel) = (Context::default(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        rig.node.executor.cancel("u");
    });
    let run = rig.node.executor.run(&spec, Action::Start, &context);
    let (outcome, ()) = futures_util::future::join(run, cancel).await;
    assert!(outcome.cancelled, "{outcome:?}");
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_an_error_and_one_that_comes_later_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}/bus", dir.path().display());
    let node = node_with(|s| s.bus = Bus::Address(address.clone()));
    let spec = ResourceSpec::new("u", "systemd:web").unwrap();
    let outcome = node.executor.run(&spec, Action::Monitor, &Context::default()).await;
    assert_eq!(outcome.status, Status::Error, "unknown is not \"not running\": {outcome}");
    let Some(_bus) = Daemon::start(dir.path()).await else { return };
    let units: Units = Arc::new(Mutex::new(HashMap::new()));
    let manager = Manager { units, subscribed: false, jobs: 0 };
    let _service = zbus::connection::Builder::address(address.as_str())
        .serve_at("/org/freedesktop/systemd1", manager)
        .name("org.freedesktop.systemd1")
        .build()
        .await
        .unwrap();
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::NotInstalled, "{outcome}");
}
