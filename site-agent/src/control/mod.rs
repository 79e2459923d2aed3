//! The control socket: local clients ask, the agent answers. One JSON object a line.
//!
//! The socket is mode 0600 and lets in root and the agent's own user by the kernel's word on the
//! peer: whoever may move a service may do everything to it. Clients are bounded in number, their
//! requests in size and time; one that goes away is not waited for.

pub(crate) mod answer;
mod ask;
mod wait;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::Uid;
use tierce_wire::control::{API_VERSION, Ask, Reply, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use self::answer::{Failure, code};
use crate::limits::{ANSWER_WAIT, MAX_CLIENTS, MAX_REQUEST_BYTES, REQUEST_WAIT};
use crate::shared::Shared;

/// Binds the socket. The caller holds the lock on the data directory, so a socket that is there
/// belongs to a process that is gone.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Under another name until its mode is right: nobody may slip in between.
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves clients until the runtime ends.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("a client could not be taken in: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_welcome(&stream) {
            tracing::warn!("a client of another user was refused");
            continue;
        }
        let (place, shared) = (places.clone().try_acquire_owned(), shared.clone());
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            if place.is_err() {
                let e = answer::error(
                    code::RETRY,
                    format!("{MAX_CLIENTS} clients are served already"),
                    "nothing has changed",
                    "ps: which tierce commands wait",
                    "try again when one of them has ended",
                );
                let _ = send(&mut writer, &Reply::Error(e)).await;
                return;
            }
            client(reader, writer, &shared).await;
            drop(place);
        });
    }
}

fn is_welcome(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == Uid::effective().as_raw())
}

/// One client: one request, its progress, its answer.
async fn client(reader: OwnedReadHalf, mut writer: OwnedWriteHalf, shared: &Arc<Shared>) {
    let mut reader = BufReader::new(reader.take(MAX_REQUEST_BYTES));
    let mut line = Vec::new();
    match timeout(REQUEST_WAIT, reader.read_until(b'\n', &mut line)).await {
        Ok(Ok(n)) if n > 0 => {}
        _ => return,
    }
    let ask = match parse(&line) {
        Ok(ask) => ask,
        Err(e) => {
            let _ = send(&mut writer, &Reply::Error(*e.0)).await;
            return;
        }
    };
    let (progress, mut told) = mpsc::channel(4);
    let work = ask::answer(shared, ask, progress);
    tokio::pin!(work);
    let mut rest = [0u8; 64];
    loop {
        tokio::select! {
            reply = &mut work => {
                // What was said last comes first.
                while let Ok(p) = told.try_recv() {
                    let _ = send(&mut writer, &p).await;
                }
                let _ = send(&mut writer, &reply).await;
                return;
            }
            Some(p) = told.recv() => {
                if send(&mut writer, &p).await.is_err() {
                    return;
                }
            }
            // A client that goes away is not waited for; what was decided goes on.
            gone = reader.read(&mut rest) => if !matches!(gone, Ok(1..)) {
                return;
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Ask, Failure> {
    if !line.ends_with(b"\n") {
        return Err(answer::usage(format!(
            "the request does not end within {MAX_REQUEST_BYTES} bytes"
        )));
    }
    let request: Request = serde_json::from_slice(line)
        .map_err(|e| answer::usage(format!("the request cannot be read: {e}")))?;
    if request.api_version != API_VERSION {
        let other = request.api_version.chars().take(40).collect::<String>();
        return Err(answer::usage(format!("apiVersion {other:?} is not {API_VERSION}")));
    }
    Ok(request.ask)
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    timeout(ANSWER_WAIT, writer.write_all(&line)).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_bad_ones_are_refused_with_the_reason() {
        let good = br#"{"apiVersion":"tierce/v1","ask":"status","linear":false}"#;
        assert_eq!(parse(&[good, &b"\n"[..]].concat()).unwrap(), Ask::Status { linear: false });
        for (bad, word) in [
            (&b"{}\n"[..], "cannot be read"),
            (b"\xff\n", "cannot be read"),
            (b"{\"apiVersion\":\"tierce/v9\",\"ask\":\"reload\"}\n", "is not tierce/v1"),
            (b"{\"apiVersion\":\"tierce/v1\",\"ask\":\"explode\"}\n", "cannot be read"),
            (b"{\"apiVersion\":\"tierce/v1\"", "does not end"),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.0.code == 64 && e.0.error.contains(word), "{e:?}");
        }
    }
}
