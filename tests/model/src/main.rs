//! Runs the model: all scopes, one of them, or the planted bugs.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tierce_model::check::{Effort, Report, Search};
use tierce_model::mutant::Mutant;
use tierce_model::scopes::AnyScope;

/// Explores the ticket protocol.
#[derive(Parser)]
struct Options {
    /// Only this scope.
    #[arg(long)]
    scope: Option<String>,
    /// More of everything: for hours.
    #[arg(long)]
    large: bool,
    /// Only this planted bug: it must be found.
    #[arg(long)]
    mutant: Option<String>,
    /// All planted bugs: each must be found.
    #[arg(long)]
    mutants: bool,
    /// Seconds after which a scope counts as not complete.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Ends a scope after so many generated states, which is said; nothing broken is success.
    #[arg(long, value_name = "N")]
    states: Option<NonZeroUsize>,
    /// In which order; the story of what is broken is shortest with breadth.
    #[arg(long, value_enum, default_value = "depth")]
    search: Search,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

impl Options {
    fn effort(&self) -> Effort {
        Effort {
            search: self.search,
            threads: self.threads,
            limit: Duration::from_secs(self.seconds),
            enough: self.states,
        }
    }
}

fn main() -> ExitCode {
    let o = Options::parse();
    let bugs = |which: &[Mutant], story| {
        let limit = Duration::from_mins(10);
        bugs(
            which,
            Effort { search: Search::Breadth, threads: o.threads, limit, enough: None },
            story,
        )
    };
    if let Some(word) = &o.mutant {
        let Some(m) = Mutant::named(word) else {
            let all: Vec<&str> = Mutant::ALL.iter().map(|m| m.word()).collect();
            eprintln!("there is no mutant {word}; there are: {}", all.join(", "));
            return ExitCode::from(64);
        };
        return bugs(&[m], true);
    }
    if o.mutants {
        return bugs(Mutant::ALL, false);
    }
    let all = AnyScope::all(o.large);
    let chosen: Vec<_> =
        all.iter().filter(|s| o.scope.as_ref().is_none_or(|n| n == s.name())).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(AnyScope::name).collect();
        eprintln!("there is no such scope; there are: {}", names.join(", "));
        return ExitCode::from(64);
    }
    let mut reports: Vec<Report> = Vec::new();
    for s in chosen {
        let r = s.run(None, o.effort());
        println!("{}", r.line());
        for (name, story) in &r.failed {
            println!("{name}\n{story}");
        }
        reports.push(r);
    }
    let sum = |f: fn(&Report) -> usize| reports.iter().map(f).sum::<usize>();
    let took: f64 = reports.iter().map(|r| r.took.as_secs_f64()).sum();
    println!(
        "{:<17} {:>11} generated {:>10} unique {:>17.1} s",
        "all",
        sum(|r| r.generated),
        sum(|r| r.unique),
        took
    );
    if reports.iter().all(|r| r.failed.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bugs(which: &[Mutant], effort: Effort, story: bool) -> ExitCode {
    let mut survived = 0;
    for m in which {
        let r = m.home().run(Some(*m), effort);
        let found = r.failed.first();
        println!(
            "{:<24} {:<14} {:<17} {:>9} states {:>6.1} s  {}",
            m.word(),
            m.rule(),
            r.scope,
            r.generated,
            r.took.as_secs_f64(),
            found.map_or("SURVIVED", |(n, _)| n)
        );
        if let Some((_, text)) = found.filter(|_| story) {
            println!("{text}");
        }
        survived += usize::from(found.is_none());
    }
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
