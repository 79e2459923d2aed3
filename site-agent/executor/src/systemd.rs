//! Units through systemd's D-Bus interface.
//!
//! A start is done when its job is done *and* the unit is active: systemd reports a job as done
//! also when the service ended right after it started.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use zbus::proxy::{Builder, CacheProperties};
use zbus::{Connection, OwnedObjectPath, Proxy};

use crate::limits::{BUS_CONNECT, UNIT_POLL};
use crate::outcome::{Outcome, Status};
use crate::settings::Bus;
use crate::spec::Action;

const NAME: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// The way to systemd: one connection, made when first needed and again after it broke.
pub(crate) struct Systemd {
    bus: Bus,
    connection: Mutex<Option<Connection>>,
}

impl Systemd {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, connection: Mutex::new(None) }
    }

    /// Runs an action on a unit; ends at `limit` or when `cancel` does.
    pub(crate) async fn run(
        &self,
        unit: &str,
        action: Action,
        limit: Duration,
        cancel: impl Future<Output = ()>,
    ) -> Outcome {
        let started = Instant::now();
        let mut outcome = tokio::select! {
            done = timeout(limit, self.act(unit, action)) => match done {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(e)) => from_error(unit, &e),
                Err(_) => Outcome::timed_out(limit),
            },
            () = cancel => Outcome::cancelled(),
        };
        outcome.duration = started.elapsed();
        outcome
    }

    async fn act(&self, unit: &str, action: Action) -> zbus::Result<Outcome> {
        let unit = unit_name(unit);
        let connection = self.connect().await?;
        let manager = proxy(&connection, ROOT, MANAGER).await?;
        let path: OwnedObjectPath = manager.call("LoadUnit", &(unit.as_str(),)).await?;
        let state = proxy(&connection, path.as_str(), UNIT).await?;
        if let Some(outcome) = not_usable(&unit, &state, action).await? {
            return Ok(outcome);
        }
        match action {
            Action::Start => {
                let job = run_job(&manager, "StartUnit", &unit).await?;
                let active = settled(&state).await?;
                Ok(judge(active == "active", &unit, &job, &active))
            }
            Action::Stop => {
                let job = run_job(&manager, "StopUnit", &unit).await?;
                let active = settled(&state).await?;
                Ok(judge(matches!(active.as_str(), "inactive" | "failed"), &unit, &job, &active))
            }
            Action::Monitor => {
                let active = settled(&state).await?;
                let status = match active.as_str() {
                    "active" => Status::Ok,
                    _ => Status::NotRunning,
                };
                Ok(Outcome::told(status, format!("{unit} is {active}")))
            }
            Action::ValidateAll => Ok(Outcome::told(Status::Ok, format!("{unit} is loaded"))),
            Action::MetaData => Ok(Outcome::told(Status::Unimplemented, "units have no meta-data")),
        }
    }

    async fn connect(&self) -> zbus::Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|c| !c.is_closed()) {
            return Ok(connection.clone());
        }
        let builder = match &self.bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = timeout(BUS_CONNECT, builder.build())
            .await
            .map_err(|_| zbus::Error::Failure(format!("no answer in {BUS_CONNECT:?}")))??;
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

/// The full name of a unit.
fn unit_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

/// Properties are always asked for: a remembered state is what this must not act on.
async fn proxy(
    connection: &Connection,
    path: &str,
    interface: &'static str,
) -> zbus::Result<Proxy<'static>> {
    Builder::new(connection)
        .destination(NAME)
        .path(path.to_owned())
        .interface(interface)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

/// The outcome where there is no such unit. One that is not there is stopped all right.
async fn not_usable(
    unit: &str,
    state: &Proxy<'_>,
    action: Action,
) -> zbus::Result<Option<Outcome>> {
    let load: String = state.get_property("LoadState").await?;
    if load == "loaded" {
        return Ok(None);
    }
    let active: String = state.get_property("ActiveState").await?;
    let status = match action {
        // The file may be gone while the service runs on; then it can still be stopped.
        Action::Stop | Action::Monitor if active != "inactive" => return Ok(None),
        Action::Stop => Status::Ok,
        _ => Status::NotInstalled,
    };
    Ok(Some(Outcome::told(status, format!("{unit} is {load}"))))
}

/// Queues a job and waits for its end; its result in systemd's word.
async fn run_job(manager: &Proxy<'_>, method: &str, unit: &str) -> zbus::Result<String> {
    // Without it systemd sends no signals; a second time does no harm.
    manager.call::<_, _, ()>("Subscribe", &()).await.or_else(already)?;
    let mut removed = manager.receive_signal("JobRemoved").await?;
    let job: OwnedObjectPath = manager.call(method, &(unit, "replace")).await?;
    while let Some(signal) = removed.next().await {
        let body = signal.body();
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
        if path == job {
            return Ok(result);
        }
    }
    Err(zbus::Error::Failure("the connection ended before the job did".to_owned()))
}

fn already(error: zbus::Error) -> zbus::Result<()> {
    match &error {
        zbus::Error::MethodError(name, ..) if name.as_str().ends_with(".AlreadySubscribed") => {
            Ok(())
        }
        _ => Err(error),
    }
}

/// The unit's state once it is not on its way to another; the caller's timeout bounds the wait.
async fn settled(state: &Proxy<'_>) -> zbus::Result<String> {
    loop {
        let active: String = state.get_property("ActiveState").await?;
        match active.as_str() {
            "activating" | "deactivating" | "maintenance" => sleep(UNIT_POLL).await,
            // It serves while it does so.
            "reloading" | "refreshing" => return Ok("active".to_owned()),
            _ => return Ok(active),
        }
    }
}

fn judge(reached: bool, unit: &str, job: &str, active: &str) -> Outcome {
    let status = if reached { Status::Ok } else { Status::Error };
    Outcome::told(status, format!("job {job}, {unit} is {active}"))
}

fn from_error(unit: &str, error: &zbus::Error) -> Outcome {
    let name = match error {
        zbus::Error::MethodError(name, ..) => name.as_str(),
        _ => "",
    };
    let denied = matches!(error, zbus::Error::FDO(e)
        if matches!(**e, zbus::fdo::Error::AccessDenied(_)
            | zbus::fdo::Error::InteractiveAuthorizationRequired(_)));
    let status = match name.rsplit('.').next().unwrap_or_default() {
        "NoSuchUnit" | "UnitMasked" | "LoadFailed" => Status::NotInstalled,
        _ if denied => Status::InsufficientPermissions,
        _ => Status::Error,
    };
    Outcome::told(status, format!("systemd about {unit}: {error}"))
}
