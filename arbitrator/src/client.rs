//! Asks the running daemon over its control socket. One request, one final answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tierce_wire::control::{API_VERSION, Ask, MAX_LINE_BYTES, Reply, Request};

use crate::limits::COMMAND_TIMEOUT;
use crate::trouble::Trouble;

/// Asks; an answer that is an error becomes one.
pub(crate) fn ask(socket: &Path, ask: Ask) -> Result<Reply, Trouble> {
    let silent = |sent| {
        move |e: &dyn std::fmt::Display| Trouble::NoAnswer {
            socket: socket.to_owned(),
            why: e.to_string(),
            sent,
        }
    };
    let before = silent(false);
    let mut stream = UnixStream::connect(socket).map_err(|e| before(&e))?;
    let timeout = Some(COMMAND_TIMEOUT);
    stream
        .set_read_timeout(timeout)
        .and(stream.set_write_timeout(timeout))
        .map_err(|e| before(&e))?;
    let request = Request { api_version: API_VERSION.to_owned(), ask };
    let mut line = serde_json::to_string(&request).map_err(|e| before(&e))?;
    line.push('\n');
    let after = silent(true);
    stream.write_all(line.as_bytes()).map_err(|e| after(&e))?;
    let mut reader = BufReader::new(stream).take(MAX_LINE_BYTES as u64);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(|e| after(&e))? == 0 {
            return Err(after(&"it closed the connection"));
        }
        match serde_json::from_str(&line).map_err(|e| after(&e))? {
            Reply::Progress { text } => eprintln!("{text}"),
            Reply::Error(view) => return Err(Trouble::Daemon(view)),
            done => return Ok(done),
        }
    }
}
