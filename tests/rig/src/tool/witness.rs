//! The witness: a resource that notes when it really ran.
//!
//! As a resource agent it starts and stops a service of its own and writes one line per action into
//! a log; the service appends its first moment and then overwrites its last one, every two
//! milliseconds, in a file of its own. What the file says cannot be wrong about a service that was
//! killed, frozen or forgotten: nothing but the running service writes it.
//!
//! | file | content |
//! |---|---|
//! | `LOG` | `start|stop BEGAN ENDED PID`, nanoseconds of CLOCK_MONOTONIC |
//! | `LOG.stop` | read: what a stop does besides, [`Stop`]; such a stop is noted as `odd-stop` |
//! | `LOG.BEGAN.life` | `FIRST LAST\n`, twenty digits each |
//!
//! With the parameters `shared` and `site` it also writes to that store, with the term it was
//! started under.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tierce_rig::limits::BEAT;
use tierce_rig::{Stop, write_to};

const OK: u8 = 0;
const ERROR: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const NOT_RUNNING: u8 = 7;
/// A killed process is gone after microseconds; without that the stop has failed.
const GONE: Duration = Duration::from_secs(5);

const META_DATA: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="witness" version="1.0">
<version>1.0</version>
<longdesc lang="en">Notes when it really ran.</longdesc>
<shortdesc lang="en">witness</shortdesc>
<parameters>
<parameter name="log" required="1"><content type="string"/></parameter>
<parameter name="shared"><content type="string"/></parameter>
<parameter name="site"><content type="string"/></parameter>
</parameters>
<actions>
<action name="start" timeout="5s"/><action name="stop" timeout="5s"/>
<action name="monitor" timeout="5s" interval="1s"/><action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="5s"/>
</actions>
</resource-agent>
"#;

pub(crate) fn run(action: &str) -> ExitCode {
    if action == "meta-data" {
        print!("{META_DATA}");
        return ExitCode::SUCCESS;
    }
    let Some(log) = std::env::var_os("OCF_RESKEY_log").map(PathBuf::from) else {
        eprintln!("this is a part of the rig; it needs the parameter log");
        return ExitCode::from(BAD_ARGUMENTS);
    };
    let done = match action {
        "start" => start(&log),
        "stop" => stop(&log),
        "monitor" | "status" => Ok(if running(&log).is_some() { OK } else { NOT_RUNNING }),
        "validate-all" => Ok(OK),
        "serve" => serve(&log).map(|()| OK),
        _ => Ok(UNIMPLEMENTED),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("{action}: {}: {e}", log.display());
            ExitCode::from(ERROR)
        }
    }
}

fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
}

fn with(log: &Path, end: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// On the machine's own `/run`: a process number is worth nothing after a power-off.
fn pidfile(log: &Path) -> PathBuf {
    let name = log.to_string_lossy().replace('/', "-");
    PathBuf::from(format!("/run/resource-agents/witness{name}.pid"))
}

fn running(log: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pidfile(log)).ok()?.trim().parse().ok()?;
    // A number that was given to somebody else has other words.
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    words.windows(5).any(|w| w == b"serve").then(|| Pid::from_raw(pid))
}

fn note(log: &Path, action: &str, began: u64, pid: i32) -> std::io::Result<()> {
    let line = format!("{action} {began} {} {pid}\n", now());
    OpenOptions::new().create(true).append(true).open(log)?.write_all(line.as_bytes())
}

fn start(log: &Path) -> std::io::Result<u8> {
    let began = now();
    if running(log).is_some() {
        return Ok(OK);
    }
    let mut service = Command::new(std::env::current_exe()?);
    service.arg("serve").env("OCF_RESKEY_log", log).stdin(Stdio::null()).stdout(Stdio::piped());
    service.stderr(Stdio::null()).process_group(0);
    let mut child = service.spawn()?;
    let pid = child.id().cast_signed();
    fs::write(pidfile(log), pid.to_string())?;
    let mut word = [0; 3];
    if let Some(mut said) = child.stdout.take() {
        said.read_exact(&mut word)?;
    }
    note(log, "start", began, pid)?;
    Ok(if word == *b"up\n" { OK } else { ERROR })
}

fn stop(log: &Path) -> std::io::Result<u8> {
    let began = now();
    let Some(pid) = running(log) else { return Ok(OK) };
    let odd = Stop::read(log);
    if odd != Stop::AtOnce {
        note(log, "odd-stop", began, pid.as_raw())?;
    }
    match odd {
        Stop::AtOnce => {}
        Stop::Fails => return Ok(ERROR),
        Stop::Hangs => loop {
            std::thread::sleep(GONE);
        },
        Stop::Takes(d) => std::thread::sleep(d),
    }
    kill(pid, Signal::SIGKILL)?;
    let until = now() + u64::try_from(GONE.as_nanos()).unwrap_or(u64::MAX);
    while running(log).is_some() {
        if now() > until {
            return Ok(ERROR);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    note(log, "stop", began, pid.as_raw())?;
    Ok(OK)
}

/// The service: its life and, if it has a shared store, a write to it with every beat.
fn serve(log: &Path) -> std::io::Result<()> {
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    let shared = std::env::var_os("OCF_RESKEY_shared").map(PathBuf::from);
    let site = word("OCF_RESKEY_site");
    let term: u64 = word("TIERCE_TERM").parse().unwrap_or(0);
    let socket = UnixDatagram::unbound()?;
    let mut number = 0;
    let first = now();
    let life = File::create(with(log, &format!(".{first}.life")))?;
    life.write_all_at(format!("{first:020} {first:020}\n").as_bytes(), 0)?;
    println!("up");
    std::io::stdout().flush()?;
    loop {
        std::thread::sleep(BEAT);
        if let Some(shared) = &shared {
            number += 1;
            write_to(&socket, shared, &site, term, number);
        }
        life.write_all_at(format!("{:020}", now()).as_bytes(), 21)?;
    }
}
