//! `tierce-mutants`: breaks one rule at a time, and sees who finds it.

mod finder;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use finder::{Finder, in_scope};
use tierce_model::mutant::Mutant;
use tierce_model::scopes;
use tierce_sim::duties;
use tierce_ticket::planted::Bug;

/// Plants each bug and looks for it.
#[derive(Debug, Parser)]
struct Args {
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
    /// Tries all finders on each bug, for so many seconds each at most.
    #[arg(long)]
    explore: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    finder::listen();
    let limit = Duration::from_secs(args.explore.unwrap_or(600));
    for bug in Bug::ALL.iter().filter(|b| args.only.as_ref().is_none_or(|o| o == b.word())) {
        println!("{} ({})", bug.word(), bug.rule());
        let say = |f: Option<finder::Found>| {
            if let Some(f) = f {
                println!("   {:<50} {:<40} {:>6.1} s  {}", f.by, f.effort, f.took.as_secs_f64(), f.what);
            }
        };
        for d in duties::ALL {
            say(Finder::Duty(d.name).find(*bug, limit));
        }
        for s in scopes::small() {
            if s.name == "called-off" && bug.rule() != "R17" { continue; }
            say(Finder::Scope(s.name).find(*bug, limit));
        }
        say(Finder::Seeds.find(*bug, limit * 8));
    }
    let _ = (in_scope, Mutant::ALL);
    ExitCode::SUCCESS
}
