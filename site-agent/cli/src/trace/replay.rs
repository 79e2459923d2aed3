//! `tierce trace replay`: members live through a recording again, with breakpoints.
//!
//! The recording is a line of JSON for each event ([`tierce_ticket::replay`]); the simulator writes
//! them (`tests/run sim --seed N --events FILE`). On a terminal a breakpoint stops and asks; elsewhere
//! it marks the line and shows the member, and goes on.

mod desk;
mod words;

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tierce_ticket::replay::{Event, Stage};

use self::desk::{Desk, Next};
use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::limits::MAX_EVENT_BYTES;

/// What to play, and where to stop.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArgs {
    /// The recording: one event a line, as the simulator writes it with --events.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only what happens to this member is shown; all are played. May be given several times.
    #[arg(long = "member", value_name = "NAME")]
    members: Vec<String>,
    /// Stops at each event whose line contains this text, what follows from it included. May be given several times.
    #[arg(long = "break", value_name = "TEXT")]
    breaks: Vec<String>,
    /// Stops at the first event from this second of the recording on.
    #[arg(long, value_name = "SECONDS")]
    break_at: Option<f64>,
    /// Shows nothing before this second.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    from: f64,
    /// Ends there.
    #[arg(long, value_name = "SECONDS")]
    until: Option<f64>,
    /// Ticks that had no effect are shown too.
    #[arg(long)]
    all: bool,
    /// Never asks: breakpoints are marked, and shown with the member's state.
    #[arg(long)]
    batch: bool,
}

/// Plays it.
pub(crate) fn replay(ctx: &Ctx, args: ReplayArgs) -> Result<Exit, Failure> {
    let path = args.file.clone();
    let events = Events::open(&path)?;
    let asks = !args.batch
        && !ctx.out.is_json()
        && std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal();
    let mut desk = Desk::new(args, asks);
    let mut stage = Stage::default();
    let mut first_difference = None;
    let mut count = 0_u64;
    for event in events {
        let (line, event) = event?;
        if desk.is_past(&event) {
            break;
        }
        count += 1;
        // An invariant that breaks ends the process: what broke it must be on the screen by then.
        desk.announce(ctx, &event)?;
        let played = stage.play(&event).map_err(|e| unplayable(line, &e.to_string()))?;
        if !played.as_recorded && first_difference.is_none() {
            first_difference = Some(line);
        }
        if desk.show(ctx, &stage, &event, &played)? == Next::Leave {
            break;
        }
    }
    if ctx.out.is_json() {
        ctx.out.json_line(&json!({"events": count, "differs_from_line": first_difference}))?;
    }
    match first_difference {
        None => {
            if !ctx.out.is_json() {
                ctx.out.text(&format!("{count} events, each with the recorded effects\n"))?;
            }
            Ok(Exit::Ok)
        }
        Some(line) => Err(Failure::new(
            codes::ERROR,
            format!("this version does something else than the recorded one from line {line} on"),
            format!("all {count} events were played; what they show is this version's doing"),
            format!("sed -n {line}p {} | head -c 300", path.display()),
            "play the recording with the version that made it",
        )),
    }
}

/// Events of a file, with their line numbers.
struct Events {
    path: PathBuf,
    from: BufReader<File>,
    line: usize,
}

impl Events {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| {
            Failure::new(
                codes::NO_SUCH,
                format!("{} cannot be read: {e}", path.display()),
                "nothing was played",
                "ls -l the file",
                "tests/run sim --seed N --events FILE writes one",
            )
        })?;
        Ok(Self { path: path.to_owned(), from: BufReader::new(file), line: 0 })
    }
}

impl Iterator for Events {
    type Item = Result<(usize, Event), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line += 1;
        let mut text = Vec::new();
        let mut bounded = std::io::Read::take(&mut self.from, MAX_EVENT_BYTES + 1);
        let bad = |why: String| {
            let place = format!("line {} of {}", self.line, self.path.display());
            Some(Err(Failure::new(
                codes::CONFIG,
                format!("{place} is no event: {why}"),
                "what comes before it was played",
                format!("sed -n {}p FILE | head -c 200", self.line),
                "record it again; a recording of another version cannot be read",
            )))
        };
        match bounded.read_until(b'\n', &mut text) {
            Ok(0) => None,
            Ok(n) if n as u64 > MAX_EVENT_BYTES => {
                bad(format!("it is longer than {MAX_EVENT_BYTES} bytes"))
            }
            Ok(_) => match serde_json::from_slice(&text) {
                Ok(event) => Some(Ok((self.line, event))),
                Err(e) => bad(e.to_string()),
            },
            Err(e) => bad(e.to_string()),
        }
    }
}

fn unplayable(line: usize, why: &str) -> Failure {
    Failure::new(
        codes::CONFIG,
        format!("line {line}: {why}"),
        "what comes before it was played",
        "head -c 300 FILE",
        "play a recording from its beginning",
    )
}
