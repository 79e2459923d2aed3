//! The service that moves: a hidden subcommand which is resource agent and server in one.
//!
//! `tierce demo-service start|stop|monitor|meta-data` is an OCF resource agent (the demo writes a
//! script of two lines that calls it); `serve` is what it starts: a UDP server that answers each
//! numbered record with site, term and time. It takes its term from `TIERCE_TERM`, as any resource
//! may (R18), so every answer says by which grant it was given.
//!
//! A question is `put N`, an answer `ok N SITE TERM BEGAN NOW PID` with times of
//! `CLOCK_MONOTONIC`. The server ends by itself when the demo is gone.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::take_care;
use super::limits::{OWNER_LOOK, SERVICE_MONITOR, SERVICE_START, SERVICE_STOP};
use crate::evidence::clock::At;

/// Exit codes of OCF.
const OK: u8 = 0;
const ERROR: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const NOT_RUNNING: u8 = 7;

const META_DATA: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="demo-service" version="1.0">
<version>1.0</version>
<longdesc lang="en">The service of tierce demo.</longdesc>
<shortdesc lang="en">tierce demo</shortdesc>
<parameters>
<parameter name="program" required="1"><content type="string"/></parameter>
<parameter name="listen" required="1"><content type="string"/></parameter>
<parameter name="pidfile" required="1"><content type="string"/></parameter>
<parameter name="owner" required="1"><content type="integer"/></parameter>
</parameters>
<actions>
<action name="start" timeout="5s"/><action name="stop" timeout="1s"/>
<action name="monitor" timeout="2s" interval="1s"/><action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="5s"/>
</actions>
</resource-agent>
"#;

/// The demo's service; started by the demo's resource agent only.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceArgs {
    /// start, stop, monitor, meta-data, validate-all; serve; or tidy, the demo's caretaker.
    action: String,
    /// Where it answers.
    #[arg(long, env = "OCF_RESKEY_listen")]
    listen: Option<SocketAddr>,
    /// Its process number is written here.
    #[arg(long, env = "OCF_RESKEY_pidfile")]
    pidfile: Option<PathBuf>,
    /// The demo's process: the service ends with it.
    #[arg(long, env = "OCF_RESKEY_owner")]
    owner: Option<i32>,
    /// The site in the answers.
    #[arg(long, env = "TIERCE_SITE", default_value = "?")]
    site: String,
    /// The term in the answers.
    #[arg(long, env = "TIERCE_TERM", default_value_t = 0)]
    term: u64,
}

/// Does one action.
pub(crate) fn run(args: &ServiceArgs) -> ExitCode {
    if args.action == "meta-data" {
        print!("{META_DATA}");
        return ExitCode::SUCCESS;
    }
    let (Some(listen), Some(pidfile), Some(owner)) = (args.listen, &args.pidfile, args.owner)
    else {
        eprintln!("listen, pidfile and owner are needed: this is a part of tierce demo");
        return ExitCode::from(BAD_ARGUMENTS);
    };
    let service = Service { listen, pidfile, owner, args };
    ExitCode::from(match args.action.as_str() {
        "start" => service.start(),
        "stop" => service.stop(),
        "monitor" => service.monitor(),
        "validate-all" => OK,
        "tidy" => {
            take_care(owner, pidfile);
            OK
        }
        "serve" => match service.serve() {
            Ok(()) => OK,
            Err(e) => {
                eprintln!("{listen}: {e}");
                ERROR
            }
        },
        _ => UNIMPLEMENTED,
    })
}

struct Service<'a> {
    listen: SocketAddr,
    pidfile: &'a Path,
    owner: i32,
    args: &'a ServiceArgs,
}

impl Service<'_> {
    fn start(&self) -> u8 {
        match self.ask(SERVICE_MONITOR.min(Duration::from_millis(20))) {
            Some(answer) if answer.term == self.args.term => return OK,
            Some(_) if self.stop() != OK => return ERROR,
            _ => {}
        }
        let words: [OsString; 8] = [
            "demo-service".into(),
            "serve".into(),
            "--listen".into(),
            self.listen.to_string().into(),
            "--pidfile".into(),
            self.pidfile.into(),
            "--owner".into(),
            self.owner.to_string().into(),
        ];
        let Ok(program) = std::env::current_exe() else { return ERROR };
        let spawned = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) => {
                eprintln!("not started: {e}");
                return ERROR;
            }
        };
        let until = Instant::now() + SERVICE_START;
        while Instant::now() < until {
            let answer = self.ask(Duration::from_millis(5));
            if answer.is_some_and(|a| a.pid == child.id()) {
                return OK;
            }
            if let Ok(Some(status)) = child.try_wait() {
                eprintln!("it ended at once: {status}");
                return ERROR;
            }
        }
        eprintln!("it does not answer at {}", self.listen);
        ERROR
    }

    fn stop(&self) -> u8 {
        let Some(pid) = self.pid() else { return OK };
        let _ = kill(pid, Signal::SIGTERM); // gone already is as good
        let until = Instant::now() + SERVICE_STOP;
        while alive(pid) {
            if Instant::now() >= until {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = fs::remove_file(self.pidfile);
        OK
    }

    fn monitor(&self) -> u8 {
        if self.pid().is_none() {
            return NOT_RUNNING;
        }
        if self.ask(SERVICE_MONITOR).is_some() { OK } else { ERROR }
    }

    /// The server's process, if it lives. A number that another process has by now is not taken
    /// for it: the command line must name our file.
    fn pid(&self) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(self.pidfile).ok()?.trim().parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let own = self.pidfile.as_os_str().as_encoded_bytes();
        let named = words.split(|b| *b == 0).any(|word| word == own);
        (named && alive(Pid::from_raw(pid))).then(|| Pid::from_raw(pid))
    }

    fn ask(&self, wait: Duration) -> Option<Answer> {
        let socket = UdpSocket::bind((self.listen.ip(), 0)).ok()?;
        socket.connect(self.listen).ok()?;
        socket.set_read_timeout(Some(wait)).ok()?;
        if socket.send(b"put 0").is_err() {
            std::thread::sleep(wait.min(Duration::from_millis(5)));
            return None;
        }
        let mut buffer = [0; 256];
        match socket.recv(&mut buffer) {
            Ok(length) => Answer::read(&buffer[..length]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => {
                std::thread::sleep(wait.min(Duration::from_millis(5))); // refused: not bound yet
                None
            }
        }
    }

    fn serve(&self) -> std::io::Result<()> {
        // First the number, then the port: whoever answers can be stopped.
        let fresh = self.pidfile.with_extension("new");
        fs::write(&fresh, std::process::id().to_string())?;
        fs::rename(&fresh, self.pidfile)?;
        let socket = UdpSocket::bind(self.listen)?;
        socket.set_read_timeout(Some(OWNER_LOOK))?;
        let (began, own) = (At::now(), std::process::id());
        let mut buffer = [0; 256];
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= OWNER_LOOK {
                looked = Instant::now();
                if !alive(Pid::from_raw(self.owner)) {
                    return Ok(());
                }
            }
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let Some(n) = question(&buffer[..length]) else { continue };
            let (site, term, now) = (&self.args.site, self.args.term, At::now());
            let answer = format!("ok {n} {site} {term} {} {} {own}", began.0, now.0);
            let _ = socket.send_to(answer.as_bytes(), from); // a client that left needs none
        }
    }
}

/// What the service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) n: u64,
    pub(super) site: String,
    pub(super) term: u64,
    /// When this instance began to serve.
    pub(super) began: At,
    /// When it answered.
    pub(super) at: At,
    pub(super) pid: u32,
}

impl Answer {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.strip_prefix("ok ")?.split(' ');
        let mut next = || words.next();
        let answer = Self {
            n: next()?.parse().ok()?,
            site: next()?.to_owned(),
            term: next()?.parse().ok()?,
            began: At(next()?.parse().ok()?),
            at: At(next()?.parse().ok()?),
            pid: next()?.parse().ok()?,
        };
        next().is_none().then_some(answer)
    }
}

fn question(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.strip_prefix("put ")?.parse().ok()
}

/// Whether a process lives; one that has ended and was not collected yet does not.
pub(super) fn alive(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let good = "ok 7 paris 3 100 200 4711";
        let read = Answer::read(good.as_bytes()).expect("it is whole");
        assert_eq!((read.n, read.term, read.pid), (7, 3, 4711));
        assert_eq!((read.site.as_str(), read.began, read.at), ("paris", At(100), At(200)));
        for cut in 0..good.len() - 4 {
            assert_eq!(Answer::read(&good.as_bytes()[..cut]), None, "{cut}");
        }
        assert_eq!(Answer::read(b"ok 7 paris 3 100 200 4711 more"), None);
        assert_eq!(Answer::read(b"ok 7 paris x 100 200 4711"), None);
    }

    #[test]
    fn a_question_is_a_number() {
        assert_eq!(question(b"put 12"), Some(12));
        assert_eq!(question(b"put -1"), None);
        assert_eq!(question(b"get 1"), None);
    }
}
