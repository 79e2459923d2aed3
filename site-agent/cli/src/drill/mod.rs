//! `tierce drill`: what the demo shows, with the cluster and the tickets that are there.
//!
//! A failover that was never tried does not work; one that is tried carelessly is an outage of its
//! own. So a drill says beforehand what it does to whom and how long the service will be away,
//! looks whether the day is good for it, watches all the time, ends itself when something else goes
//! wrong, goes back, and says what it left.
//!
//! A drill is a lease: if its conductor dies, nothing may be left that somebody would have to find.
//! That is why it sets nothing, no hold and no flag. A planned move is one decision of the ledger,
//! so after the conductor's death the ticket is at one site or at the other and moves on as its
//! policy says.
//!
//! | module | what it does |
//! |---|---|
//! | `plan` | L0: what a loss would do |
//! | `preflight` | whether the day is good: pure |
//! | `switch` | L4: there and back again |
//! | `course` | the steps of a switch-over, and what ends it |
//! | `watch`, `probe` | what is seen meanwhile |
//! | `back` | the way home after an abort |
//! | `limits` | every bound |
//!
//! L1 is the demo's lab with chosen faults (`crate::demo`).

mod back;
mod course;
mod limits;
mod plan;
mod preflight;
mod probe;
mod switch;
mod watch;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use tierce_ticket::timing::Profile;

use crate::Ctx;
use crate::codes::{self, Exit};
use crate::demo::{self, Fault, Program};
use crate::evidence::report::{Report, Unread};
use crate::evidence::timeline::Show;
use crate::evidence::{html, junit, text};
use crate::failure::Failure;
use crate::out::Format;
use crate::table::Table;

const HELP: &str = "\
Ctrl-C ends a drill and brings the ticket back, if that is safe; once more leaves it where it is.

Exit codes: 0 passed, 1 failed or ended by something that went wrong, 105 no such drill, 112 nobody
can tell where the ticket is, 113 refused by the preflight (nothing was touched), 124 a step was not
done in time, 130 interrupted.";

/// Commands on drills.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// The built-in drills: what they do to whom, how long, at what risk.
    List,
    /// Whether a ticket could be drilled now; changes nothing.
    Check(switch::CheckArgs),
    /// Runs a drill.
    #[command(after_help = HELP)]
    Run {
        #[command(subcommand)]
        drill: Drill,
    },
    /// Shows a report again: -o table (text), json, junit, html.
    Report {
        /// report.json, or the directory that it is in.
        #[arg(value_name = "DIR_OR_FILE")]
        place: PathBuf,
    },
}

/// The drills.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Drill {
    /// L0: what the loss of a site would do now, with times; touches nothing.
    #[command(alias = "L0")]
    Plan(plan::PlanArgs),
    /// L1: faults in a cluster of its own on this machine; touches no real service.
    #[command(alias = "L1")]
    Lab(LabArgs),
    /// L4: a real move of a real ticket, there and back.
    #[command(alias = "L4", after_help = HELP)]
    SwitchOver(switch::SwitchArgs),
    /// Names that are none.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// What is done in the lab.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// What is broken, in this order; may be repeated [default: cut, kill, freeze,
    /// arbitrator-lost].
    #[arg(long = "fault", value_name = "FAULT", value_enum)]
    faults: Vec<Fault>,
    /// Fixes the timing of the faults.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Lease times: metro-fast, lan, wan, cautious.
    #[arg(long, default_value = "metro-fast", value_parser = demo::profile)]
    profile: Profile,
    /// Writes report.json, report.html and junit.xml there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Keeps the lab's directory (files, logs, stores, recordings).
    #[arg(long)]
    keep: bool,
    /// How many milliseconds a phase may be beyond its prediction: processes share this machine.
    #[arg(long, value_name = "MS", default_value_t = demo::ALLOWANCE_MS)]
    allowance: u64,
}

/// A row of the list.
struct Row {
    name: &'static str,
    level: u8,
    does: &'static str,
    touches: &'static str,
    time: &'static str,
    risk: &'static str,
}

const DRILLS: [Row; 3] = [
    Row {
        name: "plan",
        level: 0,
        does: "says what the loss of a site would do now, with predicted times",
        touches: "nothing",
        time: "below 1 s",
        risk: "none",
    },
    Row {
        name: "lab",
        level: 1,
        does: "cuts, kills and freezes members while a client writes",
        touches: "a cluster of its own on this machine",
        time: "15 s to 1 min",
        risk: "none for real services; two cores are busy",
    },
    Row {
        name: "switch-over",
        level: 4,
        does: "moves a ticket to another site, holds, and moves it back",
        touches: "one real ticket and its service",
        time: "baseline + hold + two moves: some 15 s",
        risk: "two planned outages, each as long as the plan says",
    },
];
/// Levels without a drill yet.
const MISSING: &str = "L2 (shadow), L3 (canary) and L5 (fault injection) are not built yet";

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: DrillCommand) -> Result<Exit, Failure> {
    match command {
        DrillCommand::List => list(ctx),
        DrillCommand::Check(args) => switch::check(ctx, &args),
        DrillCommand::Run { drill: Drill::Plan(args) } => plan::run(ctx, &args),
        DrillCommand::Run { drill: Drill::Lab(args) } => Ok(lab(ctx, args)),
        DrillCommand::Run { drill: Drill::SwitchOver(args) } => switch::run(ctx, &args),
        DrillCommand::Run { drill: Drill::Other(words) } => Err(no_such(&words)),
        DrillCommand::Report { place } => show(ctx, &place),
    }
}

fn list(ctx: &Ctx) -> Result<Exit, Failure> {
    if ctx.out.is_json() {
        let row = |r: &Row| {
            json!({
                "name": r.name, "level": r.level, "does": r.does, "touches": r.touches,
                "time": r.time, "risk": r.risk,
            })
        };
        ctx.out.json(&json!({ "drills": DRILLS.iter().map(row).collect::<Vec<_>>() }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "LEVEL", "DOES", "TOUCHES", "TIME", "RISK"]);
    for r in &DRILLS {
        let level = format!("L{}", r.level);
        table.row(vec![
            r.name.into(),
            level.into(),
            r.does.into(),
            r.touches.into(),
            r.time.into(),
            r.risk.into(),
        ]);
    }
    ctx.out.text(&format!("{}\n{MISSING}\n", table.text(ctx.out.colour())))?;
    Ok(Exit::Ok)
}

fn no_such(words: &[OsString]) -> Failure {
    let name = words.first().map(|w| w.to_string_lossy().into_owned()).unwrap_or_default();
    let planned = ["L2", "L3", "L5", "shadow", "canary", "fault-injection", "inject"];
    let known = planned.iter().any(|p| p.eq_ignore_ascii_case(&name));
    let error = if known {
        format!("the drill {name} is not there: {MISSING}")
    } else {
        format!("there is no drill {name}")
    };
    let names = DRILLS.map(|r| format!("{} (L{})", r.name, r.level)).join(", ");
    let safer = format!("the drills are: {names}");
    Failure::new(codes::NO_SUCH, error, "nothing was done", "tierce drill list", safer)
}

fn lab(ctx: &Ctx, args: LabArgs) -> Exit {
    let all = vec![Fault::Cut, Fault::Kill, Fault::Freeze, Fault::ArbitratorLost];
    Exit::Daemon(demo::execute(&Program {
        drill: true,
        faults: if args.faults.is_empty() { all } else { args.faults },
        seed: args.seed.unwrap_or_else(demo::some_seed),
        profile: args.profile,
        report: args.report,
        keep: args.keep,
        allowance: args.allowance,
        show: if ctx.out.is_json() { Show::Aside } else { Show::Text },
    }))
}

// ----- reports -------------------------------------------------------------------------------

fn show(ctx: &Ctx, place: &Path) -> Result<Exit, Failure> {
    let report = Report::read(place).map_err(|(file, why)| unread(&file, &why))?;
    match ctx.out.format() {
        Format::Json => ctx.out.json(&report)?,
        Format::Junit => ctx.out.text(&junit::page(&report))?,
        Format::Html => ctx.out.text(&html::page(&report))?,
        Format::Table | Format::Wide => ctx.out.text(&text::whole(&report, ctx.out.colour()))?,
    }
    Ok(Exit::Ok)
}

fn unread(file: &Path, why: &Unread) -> Failure {
    let file = file.display();
    let (code, error, safer) = match why {
        Unread::Missing(e) => (
            codes::NO_SUCH,
            format!("{file} cannot be read: {e}"),
            "name a report.json, or the directory that --report named",
        ),
        Unread::Foreign(e) => (
            codes::CONFIG,
            format!("{file} is no report of a drill or a demo: {e}"),
            "name a report.json that tierce has written",
        ),
        Unread::Damaged(e) => (
            codes::CONFIG,
            format!("{file} is damaged: {e}"),
            "take a copy of it, or run the drill again",
        ),
    };
    let inspect = format!("head -c 300 {file}; ls -l {file}");
    Failure::new(code, error, "nothing is shown of it", inspect, safer)
}

/// Writes the report, if it is to be written.
fn wrote(report: &Report, dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else { return Ok(()) };
    let written = std::fs::create_dir_all(dir).and_then(|()| report.write(dir));
    written.map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("the report cannot be written to {}: {e}", dir.display()),
            format!("the drill itself has ended: {}", report.summary),
            format!("ls -ld {}; df", dir.display()),
            "name a directory that may be written",
        )
    })
}

/// Shows how it ended.
fn finish(ctx: &Ctx, report: &Report, dir: Option<&Path>) -> Result<(), Failure> {
    if ctx.out.is_json() {
        return ctx.out.json(report);
    }
    let mut text = text::scorecard(report);
    if let Some(dir) = dir {
        let _ = writeln!(text, "report: {}", dir.join("report.html").display());
    }
    ctx.out.text(&text)
}
