//! Twelve ways in which booth has two holders at once, tried on both in the same lab.
//!
//! Each is a scenario with a fault of its own. Ours is judged by the witness, what really ran;
//! booth's by what its sites had written as granted. A scenario that did nothing proves nothing: of
//! ours, the ticket must have run at the other site since the fault, and what was done must be seen
//! to have been done, or the row is missed.
//!
//! Reading order: `list` (the scenarios in words) → `lab` (one run) → the scenarios: `faults`,
//! `messages`, `clocks`, `writes`, `operators`, `restarts` → `page` (the table as it is published).

mod clocks;
mod faults;
mod lab;
mod list;
mod messages;
mod operators;
mod page;
mod restarts;
mod writes;

use std::path::PathBuf;

use anyhow::Context as _;
use tierce_rig::{own_mounts, tidy_on_signals};

use crate::ground::{Ground, must_be_root};
use crate::row::{Table, ms};
use lab::{Common, Figure};
use list::{HOLES, Hole, Pace, Peer};

/// Options of `holes`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Exit with 1 when two sites of ours ever ran at once, or a scenario did nothing.
    #[arg(long)]
    check: bool,
    /// Only these holes, by number.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only: Vec<u8>,
    /// Runs of each scenario.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Rows as JSON lines go here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The table between the markers of this page is replaced by this run's.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Ours without its guards: shows that the witness sees an overlap (the run is to fail).
    #[arg(long)]
    no_guards: bool,
    /// Without the peer, as if it were not installed.
    #[arg(long)]
    no_peer: bool,
    /// Seed of phases and losses.
    #[arg(long)]
    seed: Option<u64>,
}

/// A scenario and what came of it; nothing for the peer where it was not tried.
#[derive(Debug)]
struct Outcome {
    hole: &'static Hole,
    ours: Figure,
    peer: Option<Figure>,
}

pub(crate) fn bench(options: &Options) -> anyhow::Result<bool> {
    must_be_root()?;
    own_mounts()?;
    tidy_on_signals()?;
    anyhow::ensure!(options.runs > 0, "--runs must be at least 1");
    let wanted = |h: &&Hole| options.only.is_empty() || options.only.contains(&h.number);
    let holes: Vec<&'static Hole> = HOLES.iter().filter(wanted).collect();
    anyhow::ensure!(!holes.is_empty(), "--only: the holes are numbered 1 to 12");
    let page = options.markdown.as_deref().map(page::Page::open).transpose()?;
    let ground = Ground::new(options.seed, options.no_peer)?;
    eprintln!("== {} scenarios, {} runs each, both products at once", holes.len(), options.runs);
    let common = Common { ground: &ground, runs: options.runs, guarded: !options.no_guards };
    let outcomes = all(common, &holes)?;
    let table = report(&outcomes, options.runs);
    println!("{}\n", ground.facts);
    print!("{table}");
    if let Some(path) = &options.json {
        std::fs::write(path, table.json(&ground.facts)?).context("writing the rows")?;
    }
    if let Some(page) = page {
        page.write(&ground.facts, &outcomes)?;
    }
    Ok(!options.check || table.all_met())
}

/// Both products at once, and what takes long beside the rest: all wait for most of their time.
fn all(common: Common<'_>, holes: &[&'static Hole]) -> anyhow::Result<Vec<Outcome>> {
    let of = |pace| holes.iter().copied().filter(move |h: &&Hole| h.pace == pace);
    let panicked = |_| anyhow::anyhow!("a lab panicked");
    let (ours, peers) = std::thread::scope(|scope| {
        let lanes = [Pace::Usual, Pace::Slow].map(|pace| {
            let (ours, peer) = (of(pace), of(pace));
            let ours = scope.spawn(move || lab::ours(common, pace, ours));
            let peer = scope.spawn(move || lab::peer(common, peer));
            (ours, peer)
        });
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for (one, peer) in lanes {
            ours.extend(one.join().map_err(panicked)?);
            peers.extend(peer.join().map_err(panicked)?);
        }
        anyhow::Ok((ours, peers))
    })?;
    let found = |all: &[(&'static str, Figure)], hole: &Hole| {
        all.iter().find(|(name, _)| *name == hole.name).map(|(_, f)| f.clone())
    };
    let outcome = |hole: &&'static Hole| {
        let ours = found(&ours, hole).unwrap_or_default();
        Outcome { hole, ours, peer: found(&peers, hole) }
    };
    Ok(holes.iter().map(outcome).collect())
}

fn report(outcomes: &[Outcome], runs: usize) -> Table {
    let mut table = Table::default();
    for Outcome { hole, ours, peer } in outcomes {
        let name = format!("hole.{:02}-{}", hole.number, hole.name);
        let theirs = peer.as_ref().and_then(|p| p.overlap).map(ms);
        let row = table.row(name, "ms", ours.overlap.map(ms), theirs).bar(0.0);
        let beside = match (hole.peer, peer) {
            (Peer::Not(why), _) => format!("; booth: not shown here: {why}"),
            (Peer::Do(..), Some(p)) if !p.said.is_empty() => format!("; booth: {}", p.said),
            (Peer::Do(..), _) => String::new(),
        };
        row.note(format!("greatest of {runs}; {}{beside}", ours.said));
    }
    table
}
