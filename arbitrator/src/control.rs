//! The control socket: one request per connection, from root or the daemon's own user.
//!
//! The format is `tierce_wire::control`. What only a site's agent can answer is refused in so many
//! words: an arbitrator holds no tickets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tierce_wire::control::{API_VERSION, AlarmView, Ask, ErrorView, Reply, Request, StatusView};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::daemon::Shared;
use crate::limits::{MAX_CONTROL_CLIENTS, MAX_REQUEST_BYTES, REQUEST_TIMEOUT};
use crate::trouble::{Code, Trouble};

/// A pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONTROL_CLIENTS));
    loop {
        // More clients wait in the listener's backlog; the semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("the control socket: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(e) = client(stream, &shared).await {
                tracing::debug!("a control client went away: {e}");
            }
        });
    }
}

async fn client(stream: UnixStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let reply = if uid == 0 || uid == geteuid().as_raw() {
        let mut line = String::new();
        let mut reader = BufReader::new(read).take(MAX_REQUEST_BYTES);
        match timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await {
            Ok(Ok(n)) if n > 0 => answer(&line, shared).await,
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(e)) => usage(&format!("the request cannot be read: {e}")),
            Err(_) => usage("no request came in time"),
        }
    } else {
        refuse(Code::Error, "this socket answers its own user and root only")
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

fn refuse(code: Code, error: &str) -> Reply {
    Reply::Error(ErrorView {
        code: code as u8,
        error: error.to_owned(),
        effect: "nothing was done".to_owned(),
        inspect: "tierce-arbitrator --help".to_owned(),
        safer: "ask what this daemon answers".to_owned(),
    })
}

fn usage(error: &str) -> Reply {
    refuse(Code::Usage, error)
}

fn done(text: String, since: Instant) -> Reply {
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    Reply::Done { text, term: None, index: None, took_ms }
}

async fn answer(line: &str, shared: &Arc<Shared>) -> Reply {
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(e) => return usage(&format!("not a request: {e}")),
    };
    if request.api_version != API_VERSION {
        return usage(&format!("this daemon speaks {API_VERSION}"));
    }
    let since = Instant::now();
    let outcome = carry_out(request.ask, shared).await;
    outcome.map_or_else(
        |trouble: Trouble| Reply::Error(trouble.view()),
        |result| match result {
            Answer::Text(text) => done(text, since),
            Answer::Reply(reply) => reply,
        },
    )
}

enum Answer {
    Text(String),
    Reply(Reply),
}

async fn carry_out(ask: Ask, shared: &Arc<Shared>) -> Result<Answer, Trouble> {
    let roster = &shared.roster;
    Ok(match ask {
        Ask::TenantList => {
            let seen = shared.surveyor.anew(roster).await;
            let tenants = seen.iter().map(crate::survey::Seen::view).collect();
            Answer::Reply(Reply::Tenants { tenants })
        }
        Ask::TenantAdd { tenant } => {
            tierce_link::Tenant::new(&tenant)?;
            roster.add(&tenant).await?;
            Answer::Text(format!("tenant {tenant} is served"))
        }
        Ask::TenantRemove { tenant, purge } => {
            tierce_link::Tenant::new(&tenant)?;
            Answer::Text(roster.remove(&tenant, purge).await?)
        }
        Ask::Reload => {
            shared.reload().await?;
            Answer::Text(roster.summary())
        }
        Ask::Status { .. } => Answer::Reply(Reply::Status(Box::new(status(shared).await))),
        Ask::Dump { reason } => {
            let dir = roster.data.dumps();
            let dumping =
                tokio::task::spawn_blocking(move || tierce_trace::dump(&reason, &dir)).await;
            match dumping {
                Ok(path) => Answer::Text(path?.display().to_string()),
                Err(e) => Answer::Reply(refuse(Code::Error, &format!("dumping failed: {e}"))),
            }
        }
        Ask::Stop { .. } => {
            shared.stop.notify_one();
            Answer::Text("the daemon ends; leases run on at the other voters".to_owned())
        }
        _ => Answer::Reply(refuse(
            Code::Usage,
            "an arbitrator holds no tickets; ask the agent of a site",
        )),
    })
}

async fn status(shared: &Arc<Shared>) -> StatusView {
    let seen = shared.surveyor.anew(&shared.roster).await;
    let stopped = seen.iter().filter(|t| t.word == "stopped").count();
    let alarms = seen.iter().flat_map(|t| {
        let tenant = t.name.clone();
        t.alarms.iter().map(move |a| AlarmView {
            at: a.at.clone(),
            text: format!("tenant {tenant}: {}", a.text),
        })
    });
    let mut alarms: Vec<AlarmView> = alarms.collect();
    alarms.sort_by(|a, b| b.at.cmp(&a.at));
    StatusView {
        api_version: API_VERSION.to_owned(),
        verdict: if stopped == 0 { "ok" } else { "degraded" }.to_owned(),
        summary: shared.roster.summary(),
        next: if stopped == 0 { String::new() } else { "tierce-arbitrator tenant list".to_owned() },
        role: "arbitrator".to_owned(),
        alarms,
        ..StatusView::default()
    }
}
