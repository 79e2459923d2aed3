//! Faults done to real processes, at random, without end: does anything ever run twice?
//!
//! Three machines behind a switch, disks of their own, the installed programs, T = 1 s. A round
//! begins with the ticket held and everything in order; one to three faults come and go; all is
//! healed and must be in order again. The witness under the ticket notes when it really ran, and
//! writes to a shared store that refuses older terms.
//!
//! A round fails when
//! * the witness ran at both sites at once, for however short a time;
//! * the shared store had to refuse a write: somebody wrote who had been overtaken;
//! * order does not come back.
//!
//! *One fault is judged otherwise*: a machine that is frozen as a whole, guard included, has nobody
//! who could stop anything at its deadline (a watchdog device would reset it; there is none here).
//! When it thaws, its guard must end what it finds within [`AFTER_THAW`]; writes in that time are
//! what the term is for, and must have been refused.
//!
//! Reading order: `fault` (what is done) → `round` (one round and its judgement) → here.

mod clock;
mod fault;
mod round;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use serde_json::json;
use tierce_rig::tierce::{Cluster, Options, THIRD};
use tierce_rig::{Frozen, Random, Shared, directory, own_mounts, tidy_on_signals};

use clock::WallClock;
use fault::Kind;
use round::{Rig, Verdict};

/// The ticket.
pub(crate) const TICKET: &str = "web";
/// How long a site may go on when it thaws, until its guard has looked at the clock.
pub(crate) const AFTER_THAW: Duration = Duration::from_millis(250);

/// Faults done to real processes, at random: does anything ever run twice?
#[derive(Debug, Parser)]
#[command(name = "tierce-nemesis", version, about)]
struct Cli {
    /// How long to begin new rounds.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of the faults; the same seed does the same to other moments of the processes.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Rounds and sums as JSON lines go here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without guards: shows that the witness sees an overlap (the run is to fail).
    #[arg(long)]
    no_guards: bool,
}

fn main() -> ExitCode {
    match nemesis(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// What a kind was good for.
#[derive(Clone, Copy, Debug, Default)]
struct Coverage {
    fired: usize,
    while_held: usize,
}

fn nemesis(cli: &Cli) -> anyhow::Result<bool> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root: it makes network namespaces, disks and machines of its own"
    );
    own_mounts()?;
    tidy_on_signals()?;
    let mut kinds: Vec<Kind> = Kind::value_variants().to_vec();
    if !cli.only.is_empty() {
        kinds.retain(|k| cli.only.contains(k));
    }
    if !Frozen::possible() && kinds.contains(&Kind::FreezeMachine) {
        eprintln!("SKIPPED: freeze-machine: this kernel or container has no freezer to use");
        kinds.retain(|k| *k != Kind::FreezeMachine);
    }
    anyhow::ensure!(!kinds.is_empty(), "no kind of fault is left");
    let seed = cli.seed.unwrap_or_else(Random::any_seed);
    println!("again with: --seed {seed}");
    let dir = directory("nemesis-")?;
    let shared = Shared::start(dir.path().join("shared.sock"))?;
    let clocks = [0, 1].map(|site| WallClock::new(dir.path().join(format!("clock-{site}"))));
    let clocks = clocks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options {
        shared: Some(shared.path().to_owned()),
        disks: true,
        guarded: !cli.no_guards,
        ..Options::one_ticket(TICKET, seed)
    };
    let mut cluster = Cluster::start(options)?;
    for (site, clock) in clocks.iter().enumerate().take(THIRD) {
        cluster.set_environment(site, clock.environment());
        cluster.restart_daemon(site)?;
    }
    cluster.formed()?;
    cluster.grant(TICKET, 0)?;
    let mut rig = Rig { cluster, shared, clocks, random: Random::new(seed) };

    let begun = Instant::now();
    let mut coverage: BTreeMap<Kind, Coverage> =
        kinds.iter().map(|k| (*k, Coverage::default())).collect();
    let (mut rounds, mut failed, mut moved, mut slowest) = (0, 0, 0, Duration::ZERO);
    let mut lines = Vec::new();
    while begun.elapsed().as_secs_f64() < cli.minutes * 60.0 {
        let plan = rig.plan(rounds, &kinds)?;
        println!("{rounds:>4} {:>5} s  {plan}", begun.elapsed().as_secs());
        let verdict = rig.round(&plan).with_context(|| {
            format!("round {rounds}; files in {}", rig.cluster.keep_files().display())
        })?;
        println!("                {verdict}");
        for (kind, held) in &verdict.fired {
            let c = coverage.entry(*kind).or_default();
            c.fired += 1;
            c.while_held += usize::from(*held);
        }
        moved += usize::from(verdict.moved);
        slowest = slowest.max(verdict.healed_in);
        lines.push(json!({ "round": rounds, "faults": plan.faults, "verdict": verdict }));
        rounds += 1;
        if !verdict.passed() {
            failed += 1;
            println!("FAILED: files are kept in {}", rig.cluster.keep_files().display());
        }
    }
    println!("\n{:<16} {:>6} {:>12}", "fault", "fired", "while held");
    for (kind, c) in &coverage {
        println!("{:<16} {:>6} {:>12}", kind.word(), c.fired, c.while_held);
    }
    let missed: Vec<String> =
        coverage.iter().filter(|(_, c)| c.while_held == 0).map(|(k, _)| k.word()).collect();
    let writes = rig.shared.writes();
    let refused = writes.iter().filter(|w| !w.accepted).count();
    println!(
        "{rounds} rounds in {:.0} s, {failed} failed; {moved} times the ticket ended elsewhere; in \
         order again after at most {:.1} s; {} writes to the shared store, {refused} refused",
        begun.elapsed().as_secs_f64(),
        slowest.as_secs_f64(),
        writes.len(),
    );
    if !missed.is_empty() {
        println!("NOT COVERED: never while the ticket was held: {}", missed.join(", "));
    }
    let sums = json!({
        "rounds": rounds, "failed": failed, "moved": moved, "not_covered": missed, "seed": seed,
        "healed_in_at_most_ms": slowest.as_millis() as u64, "writes": writes.len(), "refused": refused,
    });
    if let Some(path) = &cli.json {
        lines.push(sums);
        let mut file = std::fs::File::create(path).context("making the file of rounds")?;
        lines.iter().try_for_each(|l| writeln!(file, "{l}")).context("writing the rounds")?;
    }
    Ok(failed == 0 && missed.is_empty())
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "overlap {:.1} ms, refused {}, in order after {:.1} s{}",
            self.overlap.as_secs_f64() * 1e3,
            self.refused,
            self.healed_in.as_secs_f64(),
            if self.moved { ", elsewhere" } else { "" },
        )?;
        if let Some(thaw) = self.after_thaw {
            write!(f, "; after the thaw it wrote for {:.1} ms", thaw.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}
