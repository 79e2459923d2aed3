//! How long two sites ran at once, under faults that take leases by surprise.
//!
//! Ours by the witness: what really ran. booth's by what its sites had written as granted, which is
//! what a cluster manager acts upon. Both see the same faults for the same time. Where booth does
//! not end the overlap by itself, it is counted up to the end of the watch.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::{self, Booth};
use tierce_rig::net::{Look, Rule};
use tierce_rig::tierce::{Cluster, other};
use tierce_rig::{Mono, Random, until};

use crate::Run;
use crate::row::{Table, ms};

const TICKET: &str = "web";
/// Runs of each fault, of each product.
const RUNS: usize = 3;
/// Both leases.
const LEASE: Duration = Duration::from_secs(1);
/// How long a fault lasts and is watched: three leases and a little.
const WATCH: Duration = Duration::from_millis(3_300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    Kill,
    Freeze,
    Restart,
    LostUpdates,
    Loss,
    Disorder,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Cut,
        Self::Kill,
        Self::Freeze,
        Self::Restart,
        Self::LostUpdates,
        Self::Loss,
        Self::Disorder,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Kill => "kill-9",
            Self::Freeze => "sigstop-3-leases",
            Self::Restart => "restart-in-minority",
            Self::LostUpdates => "lost-updates",
            Self::Loss => "loss-30-percent",
            Self::Disorder => "duplicated-reordered",
        }
    }
}

fn lossy(rule: &mut Rule) {
    rule.loss = 0.3;
}

fn disorderly(rule: &mut Rule) {
    rule.duplicate = 0.3;
    rule.reorder = 0.3;
    rule.reorder_by = Duration::from_millis(20);
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub(crate) fn run(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("== overlap: {} faults, {RUNS} runs each", Fault::ALL.len());
    // Both at once, each on machines of its own: these runs wait for most of their time.
    let (ours, peer) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| if run.peer() { peer(run) } else { Ok(Worst::new()) });
        let ours = ours(run);
        (ours, peer.join())
    });
    let ours = ours?;
    let peer = peer.map_err(|_| anyhow::anyhow!("booth's lab panicked"))??;
    for fault in Fault::ALL {
        let word = fault.word();
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

fn note(worst: &mut Worst, product: &str, fault: Fault, n: usize, overlap: Duration) {
    let word = fault.word();
    eprintln!("   {product} {word} {n}: overlap {:.1} ms", ms(overlap));
    let longest = worst.entry(word).or_default();
    *longest = (*longest).max(overlap);
}

// ---- ours -------------------------------------------------------------------------------------

fn ours(run: &Run) -> anyhow::Result<Worst> {
    let mut cluster = Cluster::start(run.one_ticket(TICKET))?;
    cluster.grant(TICKET, 0)?;
    let (mut random, mut worst) = (run.random(48), Worst::new());
    for fault in Fault::ALL {
        for n in 0..RUNS {
            let one = ours_once(&mut cluster, fault, &mut random).with_context(|| {
                format!("{} {n}; files in {}", fault.word(), cluster.keep_files().display())
            })?;
            note(&mut worst, "tierce", fault, n, one);
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
    match fault {
        Fault::Cut => {
            cluster.net().isolate(holder);
            std::thread::sleep(WATCH);
        }
        Fault::Kill => {
            cluster.kill_daemon(holder);
            std::thread::sleep(WATCH);
            cluster.start_daemon(holder)?;
        }
        Fault::Freeze => {
            cluster.freeze_daemon(holder, true)?;
            std::thread::sleep(LEASE * 3);
            cluster.freeze_daemon(holder, false)?;
            pause(1_000);
        }
        Fault::Restart => {
            cluster.net().isolate(holder);
            pause(200);
            cluster.kill_daemon(holder);
            cluster.start_daemon(holder)?;
            std::thread::sleep(WATCH);
        }
        Fault::LostUpdates => {
            // The voters hear and promise; the holder hears nothing of it. Then it is cut off.
            cluster.net().switch().change(|_, to, rule| rule.cut = to == holder);
            std::thread::sleep(random.up_to(LEASE));
            cluster.net().isolate(holder);
            std::thread::sleep(WATCH);
        }
        Fault::Loss => {
            cluster.net().all(lossy);
            pause(2_000);
            cluster.net().isolate(holder);
            std::thread::sleep(WATCH);
        }
        Fault::Disorder => {
            cluster.net().all(disorderly);
            pause(500);
            cluster.shift(TICKET, other(holder))?;
            pause(500);
            cluster.net().isolate(other(holder));
            std::thread::sleep(WATCH);
        }
    }
    let rule = cluster.options().rule.clone();
    cluster.net().all(|r| *r = rule.clone());
    cluster.calm(TICKET)?;
    Ok(cluster.overlap(TICKET, from))
}

// ---- booth ------------------------------------------------------------------------------------

fn peer(run: &Run) -> anyhow::Result<Worst> {
    let mut booth = Booth::new(run.on_our_net(booth::Options::one_second(run.seed)))?;
    let (mut random, mut worst) = (run.random(49), Worst::new());
    for fault in Fault::ALL {
        for n in 0..RUNS {
            let one = peer_once(&mut booth, fault, &mut random);
            let one = one.with_context(|| format!("booth {} {n}", fault.word()))?;
            note(&mut worst, "booth", fault, n, one);
        }
    }
    Ok(worst)
}

fn peer_once(booth: &mut Booth, fault: Fault, random: &mut Random) -> anyhow::Result<Duration> {
    booth.fresh()?;
    booth.grant(0, "t0")?;
    pause(300);
    std::thread::sleep(random.up_to(LEASE / 2));
    match fault {
        Fault::Cut => {
            booth.net().isolate(0);
            std::thread::sleep(WATCH);
        }
        Fault::Kill => {
            booth.kill_daemon(0);
            std::thread::sleep(WATCH);
        }
        Fault::Freeze => {
            booth.freeze_daemon(0, true)?;
            std::thread::sleep(LEASE * 3);
            booth.freeze_daemon(0, false)?;
            pause(1_000);
        }
        Fault::Restart => {
            booth.net().isolate(0);
            pause(200);
            booth.kill_daemon(0);
            booth.start_daemon(0)?;
            std::thread::sleep(WATCH);
        }
        Fault::LostUpdates => {
            let look = Look { at: booth::COMMAND_AT, bytes: booth::UPDATE.to_vec() };
            booth.net().switch().change(|from, _, rule| {
                rule.drop_if = (from == 0).then(|| look.clone());
            });
            // Cut off right after the next renewal, which the others were not told of.
            let mut writes = booth.watch(0);
            until(LEASE * 2, || writes.new_ones().into_iter().find(|e| e.granted));
            booth.net().isolate(0);
            std::thread::sleep(WATCH);
        }
        Fault::Loss => {
            booth.net().all(lossy);
            pause(2_000);
            booth.net().isolate(0);
            std::thread::sleep(WATCH);
        }
        Fault::Disorder => {
            booth.net().all(disorderly);
            pause(500);
            booth.net().isolate(0);
            std::thread::sleep(WATCH);
        }
    }
    Ok(booth.overlap("t0", Mono::now()))
}
