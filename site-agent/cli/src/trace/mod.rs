//! `tierce trace`: flight recordings, merged so that no effect stands before its cause; and
//! recordings that members live through again.

mod replay;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use tierce_trace::{Entry, Recording, merge, render};
use tierce_wire::control::Ask;

use crate::Ctx;
use crate::client::Client;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::limits::MAX_RECORDINGS;
use crate::tickets::change;

/// Commands on recordings.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Merges recordings of any number of members, in the order of cause and effect.
    Show {
        /// Recordings (.tfr), or folders with recordings [default: this machine's own].
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
        /// The newest so many records only.
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Lets members live through a recording again, with breakpoints.
    Replay(replay::ReplayArgs),
    /// Lets the daemon keep a copy of its recording; prints where it is.
    Dump {
        /// Why, for the name of the file.
        #[arg(long, value_name = "TEXT", default_value = "asked-for")]
        reason: String,
    },
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: TraceCommand) -> Result<Exit, Failure> {
    match command {
        TraceCommand::Show { files, json, last } => {
            show(ctx, &files, json || ctx.out.is_json(), last)
        }
        TraceCommand::Replay(args) => replay::replay(ctx, args),
        TraceCommand::Dump { reason } => {
            change(ctx, &Client::new(ctx), Ask::Dump { reason }, Duration::ZERO)
        }
    }
}

fn show(ctx: &Ctx, named: &[PathBuf], json: bool, last: Option<usize>) -> Result<Exit, Failure> {
    let files = if named.is_empty() {
        let own = tierce_trace::default_recorder_dir().map_err(|e| trouble(&e))?;
        recordings_in(&own)?
    } else {
        let found = named
            .iter()
            .map(|path| if path.is_dir() { recordings_in(path) } else { Ok(vec![path.clone()]) });
        found.collect::<Result<Vec<_>, _>>()?.concat()
    };
    if files.is_empty() || files.len() > MAX_RECORDINGS {
        let count = files.len();
        return Err(Failure::new(
            if count == 0 { codes::NO_SUCH } else { codes::USAGE },
            format!("{count} recordings found; 1 to {MAX_RECORDINGS} can be shown"),
            "nothing was shown",
            "ls the recorder's folder; tierce trace dump",
            "name the .tfr files of the members concerned",
        ));
    }
    let mut failed = None;
    let mut recordings = Vec::new();
    for file in &files {
        match Recording::read(file) {
            Ok(recording) => {
                note_damage(file, &recording);
                recordings.push(recording);
            }
            Err(e) => {
                // The rest may be all there is: it is shown, and the exit code tells.
                eprintln!("error: {e}");
                failed = Some(trouble(&e));
            }
        }
    }
    if let (true, Some(failure)) = (recordings.is_empty(), &failed) {
        return Err(failure.clone());
    }
    let merged = merge(&recordings);
    let from = last.map_or(0, |n| merged.len().saturating_sub(n));
    print(ctx, &merged[from..], json)?;
    failed.map_or(Ok(Exit::Ok), Err)
}

fn print(ctx: &Ctx, entries: &[Entry], json: bool) -> Result<(), Failure> {
    if !json {
        return ctx.out.text(&render(entries));
    }
    entries.iter().try_for_each(|entry| ctx.out.json_line(entry))
}

fn recordings_in(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: std::io::Error| {
        Failure::new(
            codes::ERROR,
            format!("{} cannot be read: {e}", dir.display()),
            "nothing was shown",
            "ls -ld the folder",
            "name the .tfr files themselves",
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "tfr") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn note_damage(file: &Path, recording: &Recording) {
    if recording.missing > 0 {
        eprintln!(
            "{}: {} records are missing, {} damaged places were stepped over",
            file.display(),
            recording.missing,
            recording.torn
        );
    }
}

fn trouble(e: &tierce_trace::Error) -> Failure {
    Failure::sentence(codes::ERROR, &e.to_string(), "ls -l the file")
}
