//! Questions to the agents over their control sockets, with a bound on every one.

use std::path::Path;
use std::time::Duration;

use tierce_wire::control::{API_VERSION, Ask, Reply, Request, StatusView};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::lab::{Trouble, trouble};
use super::limits::ASK;

/// Asks and waits for the final answer; an error of the daemon is an error.
pub(super) async fn ask(socket: &Path, ask: Ask, wait: Duration) -> Result<Reply, Trouble> {
    let asked = tokio::time::timeout(wait, exchange(socket, ask)).await;
    match asked.map_err(|_| Trouble(format!("no answer within {} ms", wait.as_millis())))?? {
        Reply::Error(e) => Err(Trouble(e.error)),
        reply => Ok(reply),
    }
}

async fn exchange(socket: &Path, ask: Ask) -> Result<Reply, Trouble> {
    let lost = || trouble("the control socket");
    let mut stream = UnixStream::connect(socket).await.map_err(lost())?;
    let request = Request { api_version: API_VERSION.to_owned(), ask };
    let mut line = serde_json::to_vec(&request).map_err(trouble("the question"))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(lost())?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(lost())? {
        match serde_json::from_str(&line).map_err(trouble("the answer"))? {
            Reply::Progress { .. } => {}
            reply => return Ok(reply),
        }
    }
    Err(Trouble("the daemon hung up".to_owned()))
}

/// What a member knows, without asking the others.
pub(super) async fn status(socket: &Path) -> Result<Box<StatusView>, Trouble> {
    match ask(socket, Ask::Status { linear: false }, ASK).await? {
        Reply::Status(view) => Ok(view),
        _ => Err(Trouble("an answer that does not fit".to_owned())),
    }
}
