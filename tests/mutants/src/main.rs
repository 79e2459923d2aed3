//! `tierce-mutants`: breaks one rule at a time and sees that it is found.
//!
//! A bug is planted where the code keeps the rule (`tierce_ticket::planted`), or where the model or
//! the simulator stands for what is around the code (`tierce_model::mutant`). A proof that does not
//! notice any of them proves nothing; so one that survives fails the run.

mod finder;
mod page;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use finder::{Finder, Found, LIMIT, in_scope};
use tierce_model::mutant::Mutant;
use tierce_model::scopes::AnyScope;
use tierce_sim::duties;
use tierce_ticket::planted::Bug;

/// The rules and inequalities that must each have a planted bug: those of docs/protocol.md but I4,
/// which is the link's (its own tests are `tierce-link`'s).
const RULES: [&str; 22] = [
    "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    "R16", "R17", "R18", "I1", "I2", "I3", "I5",
];
/// One for each finder; if they are not found within their bound, the finders are broken.
const CANARIES: [&str; 3] =
    ["votes-early", "promise-after-vote", "a leader that hears nobody steps down"];

/// Plants each bug and looks for it; exit code 1 when one is not found.
#[derive(Debug, Parser)]
#[command(name = "tierce-mutants", version)]
struct Args {
    /// Only this bug.
    #[arg(long, value_name = "BUG")]
    only: Option<String>,
    /// Lists the bugs, their rules, and who has to find them.
    #[arg(long)]
    list: bool,
    /// Only the canaries: one bug for the model, two for the simulator.
    #[arg(long)]
    canary: bool,
    /// Tries all finders on each bug, for at most so many seconds each. Shows, judges nothing.
    #[arg(long, value_name = "SECONDS")]
    explore: Option<u64>,
    /// With --explore: only scopes with this text in their names, and nothing but scopes.
    #[arg(long, value_name = "TEXT", requires = "explore")]
    scopes: Option<String>,
    /// Writes the table into this page, between its markers.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// A planted bug of either kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Planted {
    /// In the core.
    Core(Bug),
    /// In what stands for the core's surroundings.
    Around(Mutant),
}

impl Planted {
    fn all() -> Vec<Self> {
        let core = Bug::ALL.iter().map(|b| Self::Core(*b));
        core.chain(Mutant::ALL.iter().map(|m| Self::Around(*m))).collect()
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Core(b) => b.word(),
            Self::Around(m) => m.word(),
        }
    }
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Core(b) => b.rule(),
            Self::Around(m) => m.rule(),
        }
    }
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Core(b) => b.words(),
            Self::Around(m) => m.words(),
        }
    }

    fn finder(self) -> String {
        match self {
            Self::Core(b) => match table::finder(b) {
                Finder::Scope(s) => format!("model, scope {s}"),
                Finder::Duty(d) => format!("simulator, {d}"),
                Finder::Seeds => "simulator, random faults".to_owned(),
            },
            Self::Around(m) => format!("model, scope {}", m.scope()),
        }
    }

    fn find(self) -> Option<Found> {
        match self {
            Self::Core(b) => table::finder(b).find(b, LIMIT),
            Self::Around(m) => in_scope(&m.home(), Some(m), LIMIT),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    finder::listen();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(64)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let mut all = Planted::all();
    let covered: BTreeSet<&str> = all.iter().flat_map(|p| p.rule().split(", ")).collect();
    let bare: Vec<&&str> = RULES.iter().filter(|r| !covered.contains(**r)).collect();
    if !bare.is_empty() {
        bail!("no planted bug breaks {bare:?}");
    }
    if let Some(only) = &args.only {
        all.retain(|p| p.word() == only);
        if all.is_empty() {
            bail!("there is no bug {only}; tierce-mutants --list names them");
        }
    }
    if args.canary {
        let found_by = |p: &Planted| {
            CANARIES.contains(&p.word()) || CANARIES.iter().any(|c| p.finder().ends_with(c))
        };
        all.retain(found_by);
    }
    if args.list {
        for p in all {
            println!("{:<26} {:<13} {}", p.word(), p.rule(), p.finder());
        }
        return Ok(true);
    }
    if let Some(seconds) = args.explore {
        explore(&all, args.scopes.as_deref(), Duration::from_secs(seconds));
        return Ok(true);
    }
    let mut rows = Vec::new();
    for p in all {
        let found = p.find();
        match &found {
            Some(f) => println!(
                "{:<26} {:<13} {:>7.1} s  {}: {} ({})",
                p.word(),
                p.rule(),
                f.took.as_secs_f64(),
                f.by,
                f.what,
                f.effort
            ),
            None => println!("{:<26} {:<13} SURVIVED {}", p.word(), p.rule(), p.finder()),
        }
        rows.push((p, found));
    }
    let survived = rows.iter().filter(|(_, f)| f.is_none()).count();
    println!("{} bugs planted, {} found, {survived} survived", rows.len(), rows.len() - survived);
    if let Some(path) = &args.page {
        page::write(path, &rows)?;
    }
    Ok(survived == 0)
}

fn explore(all: &[Planted], only: Option<&str>, limit: Duration) {
    let say = |f: Option<Found>| {
        if let Some(f) = f {
            println!("   {:<52} {:>6.1} s  {} ({})", f.by, f.took.as_secs_f64(), f.what, f.effort);
        }
    };
    for p in all {
        let Planted::Core(bug) = *p else { continue };
        println!("{} ({})", bug.word(), bug.rule());
        let scopes = AnyScope::all(false);
        let chosen = scopes.iter().filter(|s| only.is_none_or(|o| s.name().contains(o)));
        chosen.for_each(|s| say(Finder::Scope(s.name()).find(bug, limit)));
        if only.is_none() {
            for duty in duties::ALL {
                say(Finder::Duty(duty.name).find(bug, limit));
            }
            say(Finder::Seeds.find(bug, limit));
        }
    }
}
