//! Questions to daemons over their control sockets while other things go on, with a bound on every
//! one. (`crate::client` is for a command that asks one question and waits for nothing else.)

use std::path::Path;
use std::time::Duration;

use tierce_wire::control::{
    API_VERSION, Ask, ErrorView, MAX_LINE_BYTES, Reply, Request, StatusView,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The daemon refused it, or could not finish it.
    Refused(Box<ErrorView>),
    /// Nothing is known: it was not reached, hung up, or said something else.
    Lost(String),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(view) => f.write_str(&view.error),
            Self::Lost(why) => f.write_str(why),
        }
    }
}

fn lost<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Unanswered {
    move |e| Unanswered::Lost(format!("{what}: {e}"))
}

/// An answer to another question.
pub(crate) fn unfit() -> Unanswered {
    Unanswered::Lost("an answer that does not fit".to_owned())
}

/// Asks and waits for the final answer; an error of the daemon is an error.
pub(crate) async fn ask(socket: &Path, ask: Ask, wait: Duration) -> Result<Reply, Unanswered> {
    let late = || Unanswered::Lost(format!("no answer within {} ms", wait.as_millis()));
    let asked = tokio::time::timeout(wait, exchange(socket, ask)).await;
    match asked.map_err(|_| late())?? {
        Reply::Error(view) => Err(Unanswered::Refused(Box::new(view))),
        reply => Ok(reply),
    }
}

async fn exchange(socket: &Path, ask: Ask) -> Result<Reply, Unanswered> {
    const SOCKET: &str = "the control socket";
    let mut stream = UnixStream::connect(socket).await.map_err(lost(SOCKET))?;
    let request = Request { api_version: API_VERSION.to_owned(), ask };
    let mut line = serde_json::to_vec(&request).map_err(lost("the question"))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(lost(SOCKET))?;
    // One answer has one long line at the most; progress is short.
    let mut lines = BufReader::new(stream.take(2 * MAX_LINE_BYTES as u64)).lines();
    while let Some(line) = lines.next_line().await.map_err(lost(SOCKET))? {
        match serde_json::from_str(&line).map_err(lost("the answer"))? {
            Reply::Progress { .. } => {}
            reply => return Ok(reply),
        }
    }
    Err(Unanswered::Lost("the daemon hung up".to_owned()))
}

/// What a member knows; `linear`: as new as the ledger.
pub(crate) async fn status(
    socket: &Path,
    linear: bool,
    wait: Duration,
) -> Result<Box<StatusView>, Unanswered> {
    match ask(socket, Ask::Status { linear }, wait).await? {
        Reply::Status(view) => Ok(view),
        _ => Err(unfit()),
    }
}
