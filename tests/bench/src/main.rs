//! Figures of real processes, with a peer measured in the same run.
//!
//! A figure without its peer says little, and one from another machine less. So every part runs
//! Tierce and booth on the same machines behind the same switch, with the same faults, in the same
//! run, and prints both with the bar that Tierce is held to; the scheduler's peer is Pacemaker's.
//! Progress goes to stderr, the table to stdout, rows as JSON lines into a file.
//!
//! Reading order: `row` (what is printed), `facts` (the machine), `ground` (what all share),
//! `failover` (cut, power-off), `moves`, `fault`, `overlap`, `scale`, `tenants`; then `holes`;
//! then `scheduler`, which needs none of these but `row`.

mod facts;
mod failover;
mod fault;
mod ground;
mod holes;
mod moves;
mod overlap;
mod row;
mod scale;
mod scheduler;
mod tenants;

use std::ops::Deref;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tierce_rig::tidy_on_signals;

use ground::Ground;
use row::Table;

/// Figures of real processes.
#[derive(Debug, Parser)]
#[command(name = "tierce-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Takeover, planned moves, overlap under faults, cost of tickets and tenants, beside booth.
    Failover(Failover),
    /// Twelve ways in which booth has two holders at once, tried on both.
    Holes(holes::Options),
    /// The scheduler beside Pacemaker's: CPU seconds and memory.
    Scheduler(scheduler::Options),
    /// What a command costs.
    #[command(hide = true)]
    Cost(scheduler::CostArgs),
    /// The load of part `tenants`, a process of its own.
    #[command(hide = true)]
    TenantLoad(tenants::LoadArgs),
}

/// Options of `failover`.
#[derive(Clone, Debug, clap::Args)]
struct Failover {
    /// Exit with 1 when a bar is missed; a part that breaks always does so.
    #[arg(long)]
    check: bool,
    /// Rows as JSON lines go here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs of each timed fault and of the move.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Also leases of thirty seconds, which takes a quarter of an hour more.
    #[arg(long)]
    long: bool,
    /// Without the peer, as if it were not installed.
    #[arg(long)]
    no_peer: bool,
    /// Tenants of the part `tenants`; the bars are those of a thousand.
    #[arg(long, default_value_t = 1_000)]
    tenants: usize,
    /// Seed of phases and losses.
    #[arg(long)]
    seed: Option<u64>,
}

/// Parts of `failover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The holder's site is cut off.
    Cut,
    /// The holder's site loses its power.
    PowerOff,
    /// A planned move.
    Move,
    /// How long two sites ran at once under faults.
    Overlap,
    /// Many tickets.
    Scale,
    /// Many tenants of one arbitrator.
    Tenants,
}

impl Part {
    fn run(self, run: &Run, table: &mut Table) -> anyhow::Result<()> {
        match self {
            Self::Cut => failover::run(run, table, failover::Fault::Cut),
            Self::PowerOff => failover::run(run, table, failover::Fault::PowerOff),
            Self::Move => moves::run(run, table),
            Self::Overlap => overlap::run(run, table),
            Self::Scale => scale::run(run, table),
            Self::Tenants => tenants::run(run, table),
        }
    }
}

/// What every part knows.
#[derive(Debug)]
struct Run {
    options: Failover,
    ground: Ground,
}

impl Run {
    fn wants(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }
}

impl Deref for Run {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().bench {
        Bench::Failover(options) => failover_bench(options),
        Bench::Holes(options) => holes::bench(&options),
        Bench::Scheduler(options) => scheduler::bench(&options),
        Bench::Cost(args) => scheduler::tell(&args).map(|()| true),
        Bench::TenantLoad(args) => tenants::load(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}\neffect: there are no figures");
            ExitCode::from(2)
        }
    }
}

fn failover_bench(options: Failover) -> anyhow::Result<bool> {
    ground::must_be_root()?;
    tidy_on_signals()?;
    let ground = Ground::new(options.seed, options.no_peer)?;
    let run = Run { options, ground };
    let mut table = Table::default();
    let mut broken = false;
    for part in Part::value_variants().iter().filter(|p| run.wants(**p)) {
        // A part that breaks leaves the others their figures, and fails the run.
        if let Err(e) = part.run(&run, &mut table) {
            let name = part.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
            eprintln!("error: part {name}: {e:#}");
            table.row(format!("{name}.broken"), "-", None, None).bar(0.0).note("see stderr");
            broken = true;
        }
    }
    println!("{}\n", run.facts);
    print!("{table}");
    if let Some(path) = &run.options.json {
        std::fs::write(path, table.json(&run.facts)?).context("writing the rows")?;
    }
    Ok(!broken && (!run.options.check || table.all_met()))
}
