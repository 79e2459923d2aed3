//! One question over a daemon's control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tierce_wire::control::{API_VERSION, Ask, Reply, Request};

use crate::error::{Result, RigError};

/// Asks and waits for the final answer.
pub fn ask_at(socket: &Path, ask: &Ask, within: Duration) -> Result<Reply> {
    let what = || RigError::system(format!("asking at {}", socket.display()));
    let bad = |e: serde_json::Error| what()(e.into());
    let mut stream = UnixStream::connect(socket).map_err(what())?;
    stream.set_read_timeout(Some(within)).map_err(what())?;
    let request = Request { api_version: API_VERSION.to_owned(), ask: ask.clone() };
    let mut line = serde_json::to_string(&request).map_err(bad)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(what())?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(what())?;
        match serde_json::from_str(&line).map_err(bad)? {
            Reply::Progress { .. } => {}
            reply => return Ok(reply),
        }
    }
    Err(RigError::Answer { what: format!("{ask:?}"), said: "no final answer".to_owned() })
}
