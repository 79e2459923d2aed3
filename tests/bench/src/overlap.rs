//! How long two sites ran at once, under faults that take leases by surprise.
//!
//! Ours by the witness: what really ran. booth's by what its sites had written as granted, which is
//! what a cluster manager acts upon. Both see the same faults for the same time. Where booth does
//! not end the overlap by itself, it is counted up to the end of the watch.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::{self, Booth};
use tierce_rig::tierce::Cluster;
use tierce_rig::{Mono, Random};

use crate::Run;
use crate::fault::{Fault, LEASE, WATCH, pause, whole};
use crate::row::{Table, ms};

const TICKET: &str = "web";
/// Runs of each fault, of each product.
const RUNS: usize = 3;

/// All faults with their words.
const FAULTS: [(Fault, &str); 7] = [
    (Fault::Cut, "cut"),
    (Fault::Kill, "kill-9"),
    (Fault::Freeze(LEASE.saturating_mul(3)), "sigstop-3-leases"),
    (Fault::Restart, "restart-in-minority"),
    (Fault::LostUpdates, "lost-updates"),
    (Fault::Loss, "loss-30-percent"),
    (Fault::Disorder, "duplicated-reordered"),
];

pub(crate) fn run(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("== overlap: {} faults, {RUNS} runs each", FAULTS.len());
    // Both at once, each on machines of its own: these runs wait for most of their time.
    let (ours, peer) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| if run.peer() { peer(run) } else { Ok(Worst::new()) });
        let ours = ours(run);
        (ours, peer.join())
    });
    let ours = ours?;
    let peer = peer.map_err(|_| anyhow::anyhow!("booth's lab panicked"))??;
    for (fault, word) in FAULTS {
        let of = |all: &Worst| all.get(word).copied().map(ms);
        let row = table.row(format!("overlap.{word}"), "ms", of(&ours), of(&peer)).bar(0.0);
        row.note(format!("greatest of {RUNS} runs"));
        if fault == Fault::Kill {
            row.note(format!("greatest of {RUNS} runs; booth's does not end, watched {WATCH:?}"));
        }
    }
    Ok(())
}

/// The longest overlap under each fault.
type Worst = BTreeMap<&'static str, Duration>;

fn note(worst: &mut Worst, product: &str, word: &'static str, n: usize, overlap: Duration) {
    eprintln!("   {product} {word} {n}: overlap {:.1} ms", ms(overlap));
    let longest = worst.entry(word).or_default();
    *longest = (*longest).max(overlap);
}

// ---- ours -------------------------------------------------------------------------------------

fn ours(run: &Run) -> anyhow::Result<Worst> {
    let mut cluster = Cluster::start(run.one_ticket(TICKET))?;
    cluster.grant(TICKET, 0)?;
    let (mut random, mut worst) = (run.random(48), Worst::new());
    for (fault, word) in FAULTS {
        for n in 0..RUNS {
            let one = ours_once(&mut cluster, fault, &mut random).with_context(|| {
                format!("{word} {n}; files in {}", cluster.keep_files().display())
            })?;
            note(&mut worst, "tierce", word, n, one);
            if !one.is_zero() {
                eprintln!("   OVERLAP; files are kept in {}", cluster.keep_files().display());
            }
        }
    }
    Ok(worst)
}

fn ours_once(cluster: &mut Cluster, fault: Fault, random: &mut Random) -> anyhow::Result<Duration> {
    let holder = cluster.calm(TICKET)?;
    std::thread::sleep(random.up_to(LEASE / 4));
    let from = Mono::now();
    fault.to_ours(cluster, TICKET, holder, random)?;
    whole(cluster);
    cluster.calm(TICKET)?;
    Ok(cluster.overlap(TICKET, from))
}

// ---- booth ------------------------------------------------------------------------------------

fn peer(run: &Run) -> anyhow::Result<Worst> {
    let mut booth = Booth::new(run.on_our_net(booth::Options::one_second(run.seed)))?;
    let (mut random, mut worst) = (run.random(49), Worst::new());
    for (fault, word) in FAULTS {
        for n in 0..RUNS {
            let one = peer_once(&mut booth, fault, &mut random);
            let one = one.with_context(|| format!("booth {word} {n}"))?;
            note(&mut worst, "booth", word, n, one);
        }
    }
    Ok(worst)
}

fn peer_once(booth: &mut Booth, fault: Fault, random: &mut Random) -> anyhow::Result<Duration> {
    booth.fresh()?;
    booth.grant(0, "t0")?;
    pause(300);
    std::thread::sleep(random.up_to(LEASE / 2));
    fault.to_booth(booth)?;
    Ok(booth.overlap("t0", Mono::now()))
}
