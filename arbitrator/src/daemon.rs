//! The daemon from its first to its last moment.
//!
//! Starting: take the directory, bind what is local, give up files (no thread exists yet), bind the
//! UDP socket, become an ordinary user, start log and recorder, give up system calls, open every
//! tenant, say READY. Ending: say STOPPING, let members write their last, let peers hear of it, all
//! within two seconds; a second signal ends at once.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, chown, geteuid};
use tierce_link::Settings;
use tierce_member::{Host, HostOptions};
use tierce_trace::{Options as TraceOptions, RecorderAt};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cli::RunArgs;
use crate::hardening::{
    OwnStatus, Places, Step, Target, become_user, default_user, deny_calls, no_new_privileges,
    restrict_files,
};
use crate::layout::{DataDir, Held, Holder, Lock};
use crate::limits::{
    BEAT, BLOCKING_THREADS, EVENT_QUEUE, LINK_END, LOCK_TRIES, LONGEST_PERIOD, LOSSES,
    MAX_CONNECTIONS, MAX_HTTP_REQUESTS, RUNTIME_END,
};
use crate::roster::Roster;
use crate::survey::Surveyor;
use crate::trouble::{Code, Trouble};
use crate::{control, http, notify, upkeep};

/// What all parts of the running daemon share.
pub(crate) struct Shared {
    pub(crate) roster: Arc<Roster>,
    pub(crate) surveyor: Surveyor,
    pub(crate) hardening: Vec<Step>,
    pub(crate) status: OwnStatus,
    pub(crate) beat: Beat,
    pub(crate) http: Semaphore,
    pub(crate) stop: Notify,
    ready: AtomicBool,
}

impl Shared {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Reads directory and certificates again.
    pub(crate) async fn reload(&self) -> Result<(), Trouble> {
        notify::reloading();
        let read = self.roster.read_directory().await;
        upkeep::look(&self.roster, true).await;
        notify::ready(&self.roster.summary());
        read
    }
}

/// Shows that the main loop turns.
pub(crate) struct Beat {
    start: Instant,
    last_ms: AtomicU64,
}

impl Beat {
    fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn turn(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether it has turned within the last eight beats.
    pub(crate) fn is_turning(&self) -> bool {
        let age = self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        u128::from(age) < 8 * BEAT.as_millis()
    }
}

// --- starting -------------------------------------------------------------------------------

/// Runs the daemon until it is told to end.
pub fn serve(args: &RunArgs) -> ExitCode {
    match Ground::prepare(args).and_then(|ground| run(args, ground)) {
        Ok(code) => code,
        Err(trouble) => trouble.report(),
    }
}

/// What is had before there is any thread.
struct Ground {
    data: DataDir,
    lock: Lock,
    target: Option<Target>,
    control: StdUnixListener,
    control_path: PathBuf,
    metrics: Option<std::net::TcpListener>,
    recorder: RecorderAt,
    /// Where how far stores have come is noted.
    marks: PathBuf,
    status: OwnStatus,
    steps: Vec<Step>,
}

impl Ground {
    fn prepare(args: &RunArgs) -> Result<Self, Trouble> {
        let target = default_user(args.user.as_deref())?;
        let owner = target.as_ref().map(|t| (t.uid, t.gid));
        let data = DataDir::prepare(&args.data, owner)?;
        let (user, has) = (owner.map_or(geteuid(), |o| o.0), data.owner()?.0);
        if has != user && !user.is_root() {
            let dir = data.root().to_owned();
            return Err(Trouble::Owner { dir, owner: has.as_raw(), user: user.as_raw() });
        }
        let mut lock = take_lock(&data)?;
        data.make(&data.dumps())?;
        let control_path = match &args.control {
            Some(path) => std::path::absolute(path).map_err(Trouble::io("using", path))?,
            None => data.root().join("control.sock"),
        };
        let control = bind_control(&control_path, owner)?;
        let holder = Holder { pid: Some(std::process::id()), control: Some(control_path.clone()) };
        lock.sign(&holder).map_err(Trouble::io("writing", &data.root().join("lock")))?;
        let metrics = args.metrics.map(bind_metrics).transpose()?;
        let (recorder, recorder_dir) = recorder_place(target.as_ref())?;
        let status = OwnStatus::open();
        let mut steps = vec![no_new_privileges()];
        let volatile = tierce_trace::is_volatile(&recorder_dir);
        let other = tierce_trace::default_volatile_dir().filter(|_| !volatile && target.is_none());
        let marks = other.unwrap_or_else(|| recorder_dir.clone());
        let mut places = vec![data.root().to_owned(), recorder_dir, marks.clone()];
        // Leaving the socket's name behind would do no harm; removing it is cleaner.
        places.extend(
            control_path
                .parent()
                .filter(|p| args.control.is_some() && *p != Path::new("/"))
                .map(Path::to_owned),
        );
        steps.push(restrict_files(&Places(places)));
        Ok(Self {
            data,
            lock,
            target,
            control,
            control_path,
            metrics,
            recorder,
            marks,
            status,
            steps,
        })
    }
}

/// Commands hold the lock for moments; another daemon holds it for good.
fn take_lock(data: &DataDir) -> Result<Lock, Trouble> {
    let (tries, wait) = LOCK_TRIES;
    let mut holder = Holder::default();
    for _ in 0..tries {
        match data.lock()? {
            Held::Ours(lock) => return Ok(lock),
            Held::Theirs(by) => holder = by,
        }
        std::thread::sleep(wait);
    }
    Err(Trouble::InUse { dir: data.root().to_owned(), pid: holder.pid })
}

fn bind_control(path: &Path, owner: Option<(Uid, Gid)>) -> Result<StdUnixListener, Trouble> {
    if let Some(dir) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(Trouble::io("making", dir))?;
    }
    // We hold the lock, so a socket that is here is a dead daemon's, unless somebody answers.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let used = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        return Err(Trouble::io("listening at", path)(used));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Trouble::io("replacing", path)(e));
        }
        _ => {}
    }
    let bind = || {
        let listener = StdUnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid))?;
        }
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(Trouble::io("listening at", path))
}

fn bind_metrics(addr: SocketAddr) -> Result<std::net::TcpListener, Trouble> {
    if !addr.ip().is_loopback() {
        return Err(Trouble::NotLocal(addr));
    }
    let bind = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(Trouble::io("serving metrics at", Path::new(&addr.to_string())))
}

/// The recorder's directory must be the user's that the daemon becomes.
fn recorder_place(target: Option<&Target>) -> Result<(RecorderAt, PathBuf), Trouble> {
    let given = std::env::var_os("RUNTIME_DIRECTORY").filter(|d| !d.is_empty());
    let dir = match (target, given) {
        (None, Some(given)) => PathBuf::from(given),
        (None, None) => tierce_trace::default_recorder_dir()?,
        (Some(target), _) => {
            let dir = PathBuf::from(format!("/dev/shm/tierce-{}", target.uid));
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => chown(&dir, Some(target.uid), Some(target.gid))
                    .map_err(|e| Trouble::io("giving away", &dir)(e.into()))?,
                // The recorder checks whose it is before it writes.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Trouble::io("making", &dir)(e)),
            }
            dir
        }
    };
    Ok((RecorderAt::Dir(dir.clone()), dir))
}

fn link_settings() -> Settings {
    let mut settings = Settings::for_period(LONGEST_PERIOD, LOSSES);
    settings.max_connections = MAX_CONNECTIONS;
    settings.event_queue = EVENT_QUEUE;
    settings.shutdown_wait = LINK_END;
    settings
}

/// Strangers choose how many connections are refused, so the log has a sum per minute (`upkeep`)
/// instead of a line each; the recorder has them all, the metrics count them by reason.
const LOG_FILTER: &str = "info,tierce_member::host=error";

/// The name under which this process logs and records: one machine may run several.
fn process_name(listen: Option<SocketAddr>) -> String {
    format!("arbitrator@{}", listen.map_or(0, |a| a.port()))
}

fn run(args: &RunArgs, ground: Ground) -> Result<ExitCode, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(Trouble::io("starting a runtime in", &args.data))?;
    let code = runtime.block_on(async {
        let Ground { data, lock, target, control, control_path, metrics, recorder, status, mut steps, marks } =
            ground;
        let options = HostOptions { listen: args.listen, link: link_settings(), marks: Some(marks) };
        let host = Host::start(options)?;
        steps.push(become_user(target.as_ref())?);
        let trace = TraceOptions {
            recorder,
            dump_dir: Some(data.dumps()),
            filter: std::env::var_os("TIERCE_LOG").is_none().then(|| LOG_FILTER.to_owned()),
            ..TraceOptions::daemon(process_name(host.local_addr()))
        };
        let _trace = tierce_trace::init(trace)?;
        steps.push(deny_calls());
        steps.push(status.capabilities());
        steps.iter().for_each(Step::log);
        let local = |what: &'static str| Trouble::io(what, &control_path);
        let control = UnixListener::from_std(control).map_err(local("listening at"))?;
        let metrics = metrics.map(TcpListener::from_std).transpose();
        let metrics = metrics.map_err(local("serving metrics beside"))?;
        let signals = Signals::new().map_err(local("taking signals beside"))?;
        let shared = Arc::new(Shared {
            roster: Roster::new(host, data),
            surveyor: Surveyor::default(),
            hardening: steps,
            status,
            beat: Beat::new(),
            http: Semaphore::new(MAX_HTTP_REQUESTS),
            stop: Notify::new(),
            ready: AtomicBool::new(false),
        });
        let listen = shared.roster.host.local_addr();
        let http_at = metrics.as_ref().and_then(|m| m.local_addr().ok());
        let shown = |a: Option<SocketAddr>| a.map_or("none".to_owned(), |a| a.to_string());
        let control_at = control_path.display();
        tracing::info!(listen = shown(listen), metrics = shown(http_at), control = %control_at, "listening");
        if let Some(listener) = metrics {
            tokio::spawn(http::serve(listener, shared.clone()));
        }
        let code = live(&shared, control, signals).await;
        let _ = std::fs::remove_file(&control_path);
        drop(lock);
        Ok(code)
    });
    // A name that is still being resolved does not keep us.
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

// --- living and ending ----------------------------------------------------------------------

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

async fn live(shared: &Arc<Shared>, control: UnixListener, mut signals: Signals) -> ExitCode {
    let opening = tokio::spawn(open_all(shared.clone(), control));
    let watching = tokio::spawn(watchdog(shared.clone()));
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = signals.term.recv() => break,
            _ = signals.int.recv() => break,
            () = shared.stop.notified() => break,
            _ = signals.hup.recv() => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(e) = shared.reload().await {
                        tracing::error!("reload: {e}");
                    }
                });
            }
            _ = beats.tick() => shared.beat.turn(),
        }
    }
    notify::stopping();
    tracing::info!("ending");
    shared.ready.store(false, Ordering::Relaxed);
    opening.abort();
    watching.abort();
    tokio::select! {
        () = end(shared) => {
            tracing::info!("ended");
            ExitCode::SUCCESS
        }
        () = signals.end() => {
            tracing::warn!("told twice: ending at once");
            ExitCode::from(Code::Error as u8)
        }
    }
}

/// Opens every tenant, then takes commands and looks after what runs.
async fn open_all(shared: Arc<Shared>, control: UnixListener) {
    let opening = shared.roster.read_directory();
    tokio::pin!(opening);
    let mut patience = interval(Duration::from_secs(5));
    let read = loop {
        tokio::select! {
            read = &mut opening => break read,
            _ = patience.tick() => {
                notify::still_starting("opening the tenants' stores", Duration::from_secs(15));
            }
        }
    };
    if let Err(e) = read {
        tracing::error!("the directory of tenants: {e}");
    }
    shared.ready.store(true, Ordering::Relaxed);
    notify::ready(&shared.roster.summary());
    tracing::info!("ready: {}", shared.roster.summary());
    tokio::join!(control::serve(control, shared.clone()), upkeep::keep(shared.roster.clone()));
}

/// Tells the service manager that we work: the main loop turns, and a member's task answers.
async fn watchdog(shared: Arc<Shared>) {
    let Some(within) = notify::watchdog() else { return };
    let half = within / 2;
    let mut ticks = interval(half);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0;
    loop {
        ticks.tick().await;
        turn += 1;
        let answers = match shared.roster.some_member(turn) {
            // A member that ended between choosing and asking is no sign of a hang.
            Some(member) => timeout(half / 2, member.read(|_, _| ())).await.is_ok(),
            None => true,
        };
        if shared.beat.is_turning() && answers {
            notify::alive();
        } else {
            tracing::error!(
                turning = shared.beat.is_turning(),
                answers,
                "no sign of life is given"
            );
        }
    }
}

async fn end(shared: &Arc<Shared>) {
    shared.roster.stop_all().await;
    shared.roster.host.shutdown("the arbitrator ends").await;
}
