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
//! When it thaws, its guard must end what it finds within a quarter of a second; what that site
//! wrote until then is what the term is for, and must have been refused.
//!
//! *Upgrades* are of two builds: these programs, and either those of an earlier release
//! (`--previous`) or copies of these that offer the previous version of the wire format only. Each
//! upgrade changes one member from the one to the other, so that after a while all mixtures were
//! there, and both directions.
//!
//! Reading order: `fault` (what is done) → `round` (one round) → `verdict` → `tally` → here.

mod fault;
mod round;
mod tally;
mod verdict;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use serde_json::{Value, json};
use tierce_rig::tierce::{Cluster, Options, THIRD};
use tierce_rig::{
    Frozen, Programs, Random, Shared, WallClock, directory, own_mounts, tidy_on_signals,
};

use fault::Kind;
use round::Rig;
use tally::Tally;

/// The ticket.
pub(crate) const TICKET: &str = "web";
/// What only a guard can bear: with nobody in its agent's place the resource runs on.
const FOR_GUARDS: [Kind; 2] = [Kind::FreezeDaemonThreeT, Kind::KillDaemon];

/// Faults done to real processes, at random: does anything ever run twice?
#[derive(Debug, Parser)]
#[command(name = "tierce-nemesis", version, about)]
struct Cli {
    /// How long to begin new rounds.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How often each kind of fault must have been done while the ticket was held; exit 1 when one
    /// was not. Kinds that lag are drawn first.
    #[arg(long, value_name = "N", default_value_t = 1)]
    fired: usize,
    /// Seed of the faults; the same seed does the same to other moments of the processes.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Programs of the previous release, for upgrades. Without them these programs are held back to
    /// the previous version of the wire format.
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    /// Rounds and sums as JSON lines go here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without guards: shows that the witness sees an overlap (the run is to fail).
    #[arg(long)]
    no_guards: bool,
    /// Whether this harness sees anything: without guards, under faults that need them, an overlap
    /// and a refused write must be found. Ends with the first, exit 0; with none, exit 1.
    #[arg(long)]
    canary: bool,
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

fn nemesis(cli: &Cli) -> anyhow::Result<bool> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root: it makes network namespaces, disks and machines of its own"
    );
    own_mounts()?;
    tidy_on_signals()?;
    let kinds = kinds(cli)?;
    let seed = cli.seed.unwrap_or_else(Random::any_seed);
    println!("again with: --seed {seed}");
    let dir = directory("nemesis-")?;
    let rig = rig(cli, dir.path(), seed)?;
    if cli.canary { canary(rig, &kinds, minutes(cli)) } else { run(cli, rig, &kinds, seed) }
}

fn minutes(cli: &Cli) -> Duration {
    Duration::from_secs_f64(cli.minutes * 60.0)
}

fn kinds(cli: &Cli) -> anyhow::Result<Vec<Kind>> {
    let all = if cli.canary { FOR_GUARDS.to_vec() } else { Kind::value_variants().to_vec() };
    let mut kinds = if cli.only.is_empty() { all } else { cli.only.clone() };
    if !Frozen::possible() && kinds.iter().any(|k| k.freezes_machine()) {
        eprintln!("SKIPPED: freezing machines: this kernel or container has no freezer to use");
        kinds.retain(|k| !k.freezes_machine());
    }
    anyhow::ensure!(!kinds.is_empty(), "no kind of fault is left");
    Ok(kinds)
}

/// All that a round works on, with the ticket held.
fn rig(cli: &Cli, dir: &Path, seed: u64) -> anyhow::Result<Rig> {
    let shared = Shared::start(dir.join("shared.sock"))?;
    let clocks = [0, 1].map(|site| WallClock::new(dir.join(format!("clock-{site}"))));
    let clocks = clocks.into_iter().collect::<Result<Vec<_>, _>>()?;
    let these = Programs::find()?;
    let previous = match &cli.previous {
        Some(folder) => Programs::of(folder.clone())?,
        None => these.held_back(dir.join("previous"))?,
    };
    let options = Options {
        shared: Some(shared.path().to_owned()),
        disks: true,
        builds: vec![these.copy_to(dir.join("these"))?, previous],
        guarded: !cli.no_guards && !cli.canary,
        ..Options::one_ticket(TICKET, seed)
    };
    let mut cluster = Cluster::start(options)?;
    for (site, clock) in clocks.iter().enumerate().take(THIRD) {
        cluster.set_environment(site, clock.environment());
        cluster.restart_daemon(site)?;
    }
    cluster.formed()?;
    cluster.grant(TICKET, 0)?;
    Ok(Rig { cluster, shared, clocks, random: Random::new(seed) })
}

/// Rounds, until time is over or order does not come back; whether all was well.
fn run(cli: &Cli, mut rig: Rig, kinds: &[Kind], seed: u64) -> anyhow::Result<bool> {
    let json = cli.json.as_ref().map(File::create).transpose();
    let mut json = json.context("making the file of rounds")?;
    let mut note = |line: Value| {
        let written = json.as_mut().map_or(Ok(()), |file| writeln!(file, "{line}"));
        written.context("writing the rounds")
    };
    let begun = Instant::now();
    let mut tally = Tally::new(kinds, cli.fired);
    while begun.elapsed() < minutes(cli) {
        let round = tally.rounds();
        let done = rig.plan(tally.turn(), kinds).and_then(|plan| {
            println!("{round:>4} {:>5} s  {plan}", begun.elapsed().as_secs());
            Ok((rig.round(&plan)?, plan))
        });
        let (verdict, plan) = match done {
            Ok(done) => done,
            Err(error) => {
                println!("FAILED: {error:#}\nfiles are kept in {}", keep(&mut rig));
                note(json!({ "round": round, "error": error.to_string() }))?;
                tally.add_endless();
                break;
            }
        };
        println!("                {verdict}");
        tally.add(&verdict);
        note(json!({ "round": round, "faults": plan.faults, "verdict": verdict }))?;
        if !verdict.passed() {
            println!("FAILED: files are kept in {}", keep(&mut rig));
        }
    }
    let (writes, versions) = (rig.shared.writes(), rig.cluster.versions());
    let full: usize = rig.cluster.full_disks().iter().sum();
    let refused = writes.iter().filter(|w| !w.accepted).count();
    println!("\n{tally}");
    println!(
        "{:.0} s; {} writes to the shared store, {refused} refused; {full} times a full disk stopped \
         a member; connections: {}",
        begun.elapsed().as_secs_f64(),
        writes.len(),
        versions.iter().map(|(v, n)| format!("{n} {v}")).collect::<Vec<_>>().join(", "),
    );
    let mut missed = tally.missed();
    if cli.previous.is_none()
        && kinds.contains(&Kind::UpgradeInTakeover)
        && !versions.contains_key("V1")
    {
        missed.push("a connection in version 1 after an upgrade".to_owned());
    }
    if kinds.contains(&Kind::FullDisk) && full == 0 {
        missed.push("a member that its full disk stopped".to_owned());
    }
    if !missed.is_empty() {
        let due = cli.fired;
        println!(
            "NOT COVERED: fewer than {due} times while the ticket was held: {}",
            missed.join(", ")
        );
    }
    let mut sums = tally.sums();
    sums["not_covered"] = json!(missed);
    sums["seed"] = json!(seed);
    sums["writes"] = json!(writes.len());
    sums["refused"] = json!(refused);
    sums["connections"] = json!(versions);
    sums["stopped_by_full_disks"] = json!(full);
    note(sums)?;
    Ok(tally.failed() == 0 && missed.is_empty())
}

/// Whether witness and store see what they are for.
fn canary(mut rig: Rig, kinds: &[Kind], within: Duration) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let mut tally = Tally::new(kinds, 1);
    while begun.elapsed() < within {
        let plan = rig.plan(tally.turn(), kinds)?;
        let verdict = rig.round(&plan)?;
        println!("{:>4} {plan}\n                {verdict}", tally.rounds());
        tally.add(&verdict);
        if !verdict.found.overlap.is_zero() && verdict.found.refused > 0 {
            let (rounds, after) = (tally.rounds(), begun.elapsed().as_secs_f64());
            println!("the harness sees it: after {after:.1} s, in round {rounds}");
            return Ok(true);
        }
    }
    println!("without guards nothing was found in {within:?}: the harness is declared broken");
    Ok(false)
}

fn keep(rig: &mut Rig) -> String {
    rig.cluster.keep_files().display().to_string()
}
