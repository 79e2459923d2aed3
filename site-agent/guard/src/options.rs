//! The command line, parsed by hand: the guard is to stay small.

use crate::daemon::run;
use crate::limits::MAX_TICKETS;
use crate::resort::ResortSpec;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code for a wrong command line.
const USAGE: u8 = 64;

const HELP: &str = "\
tierce-guard: stops dependents and resets this node when a ticket's deadline passes

usage: tierce-guard --socket PATH --last-resort NAME [options]

  --socket PATH           where the agent connects; only this user and root are let in
  --last-resort NAME      watchdog[:DEVICE]  reset by hardware (and sysrq where there is one)
                          sysrq[:FILE]       immediate reset by the kernel
                          kill               SIGKILL to registered process groups; no reset
                          record:FILE        write a line and do nothing; for tests
                          There is no default: the first two reset this machine.
  --watchdog-timeout S    whole seconds within which the hardware fires (default 5);
                          at most W, or the agent's greeting is refused
  --events PATH           append one line per event to this file
  --max-tickets N         places in the table (default and limit 16384)
  --lock-memory           refuse to start where memory cannot be locked (else: try, and say so)
  --no-lock-memory        do not try
  --no-realtime           do not try real-time scheduling
  --force                 obey SIGTERM even while tickets are guarded, which leaves the node
                          unguarded (a watchdog device is left running: the node is reset)
  --help, --version

Without --force, SIGTERM and SIGINT are refused while tickets are guarded: stop the agent first.
exit codes: 0 ended in order, 1 error, 64 usage, 69 socket taken, 78 last resort unusable
";

/// Whether memory is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMemory {
    /// Refuse to start without.
    Must,
    /// Try, and say what came of it.
    Try,
    /// Do not.
    No,
}

/// Everything that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Path of the `SOCK_SEQPACKET` socket.
    pub socket: PathBuf,
    /// What happens when a stop does not succeed in time.
    pub last_resort: ResortSpec,
    /// For `watchdog`: the timeout of the device, whole seconds.
    pub watchdog_timeout: Duration,
    /// Memory locking.
    pub lock_memory: LockMemory,
    /// Try real-time scheduling.
    pub realtime: bool,
    /// Append one line per event.
    pub events: Option<PathBuf>,
    /// Places in the table.
    pub max_tickets: usize,
    /// Obey SIGTERM while tickets are guarded.
    pub force: bool,
}

impl Options {
    /// Defaults with the two things that have none.
    pub fn new(socket: PathBuf, last_resort: ResortSpec) -> Self {
        Self {
            socket,
            last_resort,
            watchdog_timeout: Duration::from_secs(5),
            lock_memory: LockMemory::Try,
            realtime: true,
            events: None,
            max_tickets: MAX_TICKETS,
            force: false,
        }
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Run with these options.
    Run(Box<Options>),
    /// Print this and end.
    Print(String),
}

/// Parses arguments (without the program's name). The error is one line for people.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut args = args.into_iter();
    let mut socket = None;
    let mut resort = None;
    let mut options = Options::new(PathBuf::new(), ResortSpec::Kill);
    while let Some(arg) = args.next() {
        let name = arg.to_string_lossy().into_owned();
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Asked::Print(HELP.to_owned())),
            "--version" => {
                return Ok(Asked::Print(format!("tierce-guard {}\n", env!("CARGO_PKG_VERSION"))));
            }
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--last-resort" => {
                let text = value()?.to_string_lossy().into_owned();
                resort = Some(text.parse::<ResortSpec>().map_err(|error| error.to_string())?);
            }
            "--watchdog-timeout" => {
                let seconds = number(&name, &value()?, 1, 3600)?;
                options.watchdog_timeout = Duration::from_secs(seconds);
            }
            "--events" => options.events = Some(PathBuf::from(value()?)),
            "--max-tickets" => {
                options.max_tickets = number(&name, &value()?, 1, MAX_TICKETS as u64)? as usize;
            }
            "--lock-memory" => options.lock_memory = LockMemory::Must,
            "--no-lock-memory" => options.lock_memory = LockMemory::No,
            "--no-realtime" => options.realtime = false,
            "--force" => options.force = true,
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    options.socket = socket.ok_or("--socket is missing")?;
    options.last_resort = resort.ok_or(
        "--last-resort is missing: watchdog and sysrq reset this machine, kill and record do not",
    )?;
    Ok(Asked::Run(Box::new(options)))
}

fn number(name: &str, text: &OsString, min: u64, max: u64) -> Result<u64, String> {
    let text = text.to_string_lossy();
    let value: Option<u64> = text.parse().ok();
    value
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("{name} takes a number from {min} to {max}, not {text:?}"))
}

/// The whole program, for its own binary and for those that act as it.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args) {
        Ok(Asked::Run(options)) => run(&options),
        Ok(Asked::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(line) => {
            eprintln!("error: {line}\ninspect: tierce-guard --help");
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use tierce_tests::fuzz;

    use super::*;

    fn words(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let line = "--socket /run/g --last-resort record:/tmp/r --events /tmp/e --max-tickets 9 \
                    --lock-memory --no-realtime --force --watchdog-timeout 3";
        let Ok(Asked::Run(options)) = words(line) else { panic!("refused") };
        assert_eq!(options.socket, PathBuf::from("/run/g"));
        assert_eq!(options.last_resort, ResortSpec::Record("/tmp/r".into()));
        assert_eq!((options.max_tickets, options.force, options.realtime), (9, true, false));
        assert_eq!(options.lock_memory, LockMemory::Must);
        assert_eq!(options.watchdog_timeout, Duration::from_secs(3));
    }

    #[test]
    fn nothing_that_could_reset_a_machine_is_assumed() {
        assert!(words("--socket /run/g").unwrap_err().contains("--last-resort"));
        assert!(words("--last-resort kill").unwrap_err().contains("--socket"));
        assert!(words("--socket /g --last-resort reboot").unwrap_err().contains("unknown"));
        assert!(words("--socket /g --last-resort kill --max-tickets 0").is_err());
        assert!(words("--socket /g --last-resort kill --max-tickets 16385").is_err());
        assert!(words("--bogus").is_err());
        assert!(words("--socket").unwrap_err().contains("needs a value"));
        assert!(matches!(words("--help"), Ok(Asked::Print(_))));
    }

    /// Whatever is on its command line: options in their bounds, a text, or one line that says why.
    #[test]
    fn any_words_are_options_or_one_line_that_says_why() {
        let line = "--socket\n/run/g\n--last-resort\nrecord:/tmp/r\n--events\n/tmp/e\n\
                    --max-tickets\n9\n--watchdog-timeout\n3\n--no-realtime\n--force";
        let lines = [line.as_bytes().to_vec()];
        bolero::check!().for_each(|bytes: &[u8]| {
            for line in fuzz::inputs(&lines, bytes) {
                let words = line.split(|b| *b == b'\n');
                match parse(words.map(|w| OsStr::from_bytes(w).to_owned())) {
                    Ok(Asked::Run(options)) => {
                        assert!((1..=MAX_TICKETS).contains(&options.max_tickets));
                        let seconds = options.watchdog_timeout.as_secs();
                        assert!((1..=3600).contains(&seconds), "{seconds}");
                    }
                    Ok(Asked::Print(text)) => assert!(!text.is_empty()),
                    Err(line) => {
                        assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
                    }
                }
            }
        });
    }
}
