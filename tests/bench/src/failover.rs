//! Takeover: the holder's site is cut off or loses its power; when may the other site begin?
//!
//! Ours is the moment at which the successor's agent has seen the grant to be the cluster's and
//! orders its runner; booth's is the beginning of its write to the ticket's state. Both are the
//! moment at which the site is told. Beside it, ours only, stands the first moment of the witness:
//! the service really runs.

use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::{self, Booth};
use tierce_rig::tierce::{self, Cluster, Lease, other};
use tierce_rig::{Mono, Random, until};

use crate::Run;
use crate::row::{Table, ms};

const TICKET: &str = "web";
/// Without a grant by then something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clusters side by side where a run takes half a minute.
const LONG_LABS: usize = 5;
/// What the bar allows beyond T, two round trips and two fsync.
const ALLOWED_MS: f64 = 50.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    PowerOff,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Cut => "cut",
            Fault::PowerOff => "power-off",
        }
    }
}

/// Milliseconds from the fault.
#[derive(Debug, Default)]
struct Times {
    granted: Vec<f64>,
    running: Vec<f64>,
    overlap: Duration,
}

impl Times {
    fn add(&mut self, more: Times) {
        self.granted.extend(more.granted);
        self.running.extend(more.running);
        self.overlap = self.overlap.max(more.overlap);
    }
}

pub(crate) fn run(run: &Run, table: &mut Table, fault: Fault) -> anyhow::Result<()> {
    let (word, runs) = (fault.word(), run.options.runs);
    eprintln!("== {word}: {runs} runs, T = 1 s");
    let times = ours(run, fault, &Lease::METRO_FAST, runs, 0)?;
    let options = run.on_our_net(booth::Options::one_second(run.seed));
    let beside = if run.peer() { peer(run, fault, &options, runs)? } else { vec![] };
    report(run, table, word, &Lease::METRO_FAST, &times, &beside);
    if run.options.long {
        eprintln!("== {word}: {runs} runs, T = 30 s, {LONG_LABS} clusters at once");
        let (times, beside) = long(run, fault)?;
        report(run, table, &format!("{word}-30s"), &Lease::HALF_A_MINUTE, &times, &beside);
    }
    Ok(())
}

fn report(run: &Run, table: &mut Table, word: &str, lease: &Lease, ours: &Times, peer: &[f64]) {
    let facts = &run.facts;
    let bar = ms(lease.promise) + 2.0 * facts.rtt_ms + 2.0 * facts.fsync_ms + ALLOWED_MS;
    table.spread(&format!("{word}.granted"), &ours.granted, peer, Some(bar));
    table.spread(&format!("{word}.running"), &ours.running, &[], None);
    let runs = ours.granted.len();
    table
        .row(format!("{word}.overlap"), "ms", ms(ours.overlap), None)
        .bar(0.0)
        .note(format!("greatest of {runs} runs"));
}

/// Runs side by side, for leases of half a minute.
fn long(run: &Run, fault: Fault) -> anyhow::Result<(Times, Vec<f64>)> {
    let each = run.options.runs.div_ceil(LONG_LABS);
    let ours_one = |n| ours(run, fault, &Lease::HALF_A_MINUTE, each, n);
    let peer_one = |n: u64| {
        peer(run, fault, &run.on_our_net(booth::Options::thirty_seconds(run.seed ^ n)), each)
    };
    let mut times = Times::default();
    let mut peers = Vec::new();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let labs: Vec<_> =
            (1..=LONG_LABS as u64).map(|n| scope.spawn(move || ours_one(n))).collect();
        for lab in labs {
            times.add(lab.join().map_err(|_| anyhow::anyhow!("a lab panicked"))??);
        }
        if run.peer() {
            let labs: Vec<_> =
                (1..=LONG_LABS as u64).map(|n| scope.spawn(move || peer_one(n))).collect();
            for lab in labs {
                peers.extend(lab.join().map_err(|_| anyhow::anyhow!("a lab panicked"))??);
            }
        }
        Ok(())
    })?;
    Ok((times, peers))
}

// ---- ours -------------------------------------------------------------------------------------

fn ours(run: &Run, fault: Fault, lease: &Lease, runs: usize, lab: u64) -> anyhow::Result<Times> {
    let mut random = run.random(fault as u64 + 16 * lab);
    let seed = run.seed ^ lab;
    let options = tierce::Options { lease: lease.clone(), seed, ..run.one_ticket(TICKET) };
    let mut cluster = Cluster::start(options)?;
    cluster.grant(TICKET, 0)?;
    let mut times = Times::default();
    for n in 0..runs {
        let one = once(&mut cluster, fault, &mut random)
            .with_context(|| format!("run {n}; files in {}", cluster.keep_files().display()))?;
        eprintln!(
            "   tierce {} {n}: granted {:.1} ms, running {:.1} ms, overlap {:.1} ms",
            fault.word(),
            one.granted[0],
            one.running[0],
            ms(one.overlap)
        );
        if !one.overlap.is_zero() {
            eprintln!("   OVERLAP; files are kept in {}", cluster.keep_files().display());
        }
        times.add(one);
    }
    Ok(times)
}

fn once(cluster: &mut Cluster, fault: Fault, random: &mut Random) -> anyhow::Result<Times> {
    let holder = cluster.calm(TICKET)?;
    // Any phase of the renewal cycle; every lease here renews within a fifth of its time.
    std::thread::sleep(random.up_to(cluster.options().lease.promise / 4));
    let successor = other(holder);
    let mut grants = cluster.watch_grants(successor);
    let from = Mono::now();
    match fault {
        Fault::Cut => cluster.net().isolate(holder),
        Fault::PowerOff => cluster.power_off(holder),
    }
    let within = cluster.options().lease.promise * 2 + PATIENCE;
    let granted = grants.first(within).context("the other site was not granted the ticket")?;
    let witness = cluster.witness(successor, TICKET);
    let running = until(within, || witness.lives().last().map(|l| l.from).filter(|f| *f > from));
    let running = running.context("the service did not start at the other site")?;
    // Whoever would still run at the old site is seen to do so.
    std::thread::sleep(Duration::from_millis(300));
    match fault {
        Fault::Cut => cluster.net().rejoin(holder),
        Fault::PowerOff => cluster.power_on(holder)?,
    }
    Ok(Times {
        granted: vec![granted.ms_since(from)],
        running: vec![running.ms_since(from)],
        overlap: cluster.overlap(TICKET, from),
    })
}

// ---- booth ------------------------------------------------------------------------------------

fn peer(
    run: &Run,
    fault: Fault,
    options: &booth::Options,
    runs: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut random = run.random(fault as u64 ^ options.seed);
    let mut booth = Booth::new(options.clone())?;
    let mut granted = Vec::new();
    for n in 0..runs {
        booth.fresh()?;
        booth.grant(0, "t0")?;
        // It renews every half of its lease; any phase of that.
        std::thread::sleep(options.expire.mul_f64(0.55) + random.up_to(options.expire / 2));
        if !booth.says_held(0, "t0", 0) {
            eprintln!("   booth {} {n}: the holder lost it by itself", fault.word());
            continue;
        }
        let mut writes = booth.watch(1);
        let from = Mono::now();
        match fault {
            Fault::Cut => booth.net().isolate(0),
            Fault::PowerOff => booth.power_off(0),
        }
        match writes.first_grant(options.expire * 2 + PATIENCE) {
            Some(write) => granted.push(write.began.ms_since(from)),
            None => eprintln!("   booth {} {n}: no takeover", fault.word()),
        }
        eprintln!(
            "   booth {} {n}: granted {:.1} ms",
            fault.word(),
            granted.last().unwrap_or(&-1.0)
        );
    }
    Ok(granted)
}
