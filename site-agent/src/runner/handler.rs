//! Runs a handler or lag command: somebody else's program, which may hang or flood.
//!
//! It gets its own process group, no input, an environment that is made and not inherited, and a
//! time; whatever it has started ends with it when that is over, or when nobody waits any more.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::{MAX_HANDLER_OUTPUT, MAX_HANDLER_PARTS};

/// How long the output is awaited once the program itself has ended.
const DRAIN: Duration = Duration::from_millis(50);

/// Ends the whole group, unless the program has ended by itself.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL); // gone already is as good
        }
    }
}

/// Runs it; the text is what it printed. The error says in words why it did not succeed. A folder
/// stands for all programs in it, in the order of their names, as with booth.
pub(crate) async fn run(
    words: Vec<String>,
    env: BTreeMap<String, String>,
    time: Duration,
) -> Result<String, String> {
    let deadline = Instant::now() + time;
    let Some((program, arguments)) = words.split_first() else {
        return Err("no program is named".to_owned());
    };
    let mut printed = String::new();
    for program in programs(Path::new(program))? {
        printed = match timeout_at(deadline, one(&program, arguments, &env)).await {
            Ok(ended) => ended.map_err(|why| format!("{}: {why}", program.display()))?,
            Err(_) => {
                return Err(format!("{} was still running after {time:?}", program.display()));
            }
        };
    }
    Ok(printed)
}

fn programs(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let runnable = |path: &PathBuf| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(runnable).take(MAX_HANDLER_PARTS).collect();
    found.sort();
    if found.is_empty() {
        return Err(format!("{} has no program in it", path.display()));
    }
    Ok(found)
}

async fn one(
    program: &Path,
    arguments: &[String],
    env: &BTreeMap<String, String>,
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot be run: {e}"))?;
    let mut group = Group(child.id().map(u32::cast_signed));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(keep(stdout, &mut out), keep(stderr, &mut err));
        });
        tokio::select! {
            biased;
            () = &mut reading => child.wait().await,
            status = child.wait() => {
                let _ = timeout(DRAIN, &mut reading).await; // a child of it may hold the pipe
                status
            }
        }
    };
    let status = status.map_err(|e| format!("its end was not seen: {e}"))?;
    group.0 = None;
    drop(group);
    if status.success() {
        return Ok(String::from_utf8_lossy(&out).trim().to_owned());
    }
    let text = String::from_utf8_lossy(if err.is_empty() { &out } else { &err }).into_owned();
    let last = text.trim().lines().last().unwrap_or_default().to_owned();
    let code = status.code().map_or("a signal".to_owned(), |c| c.to_string());
    Err(if last.is_empty() { format!("ended with {code}") } else { format!("{last} ({code})") })
}

/// Reads to the end, keeps the first part.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0u8; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        let room = MAX_HANDLER_OUTPUT.saturating_sub(into.len()).min(n);
        into.extend_from_slice(&piece[..room]);
    }
}
