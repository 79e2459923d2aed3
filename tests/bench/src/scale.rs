//! Many tickets: what they cost at rest, and how long a dead site's tickets take to be granted
//! elsewhere.
//!
//! Tickets have nothing to run: what is measured is holding them. CPU is of all processes of a
//! machine, children included; packets and bytes are counted by the switch at the holder's cable,
//! both ways; who leads the ledger has more of them, so that the bar is on all cables together. The
//! last takeover is the moment at which the successor's status had shown all tickets. booth's fastest lease that carries so many tickets stands beside: it pays per ticket
//! and renewal, so that a longer lease flatters it, as its note says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tierce_rig::booth::{self, Booth};
use tierce_rig::net::{Count, Net};
use tierce_rig::tierce::{self, Cluster, Options, THIRD, other};
use tierce_rig::{Machine, Mono, rss_kib_of};
use tierce_wire::control::{Ask, Reply};

use crate::Run;
use crate::row::Table;

/// Ours; the first one is the measure of the datagrams.
const OURS: [usize; 6] = [1, 10, 100, 300, 1_000, 10_000];
/// Window in which cost is measured.
const WINDOW: Duration = Duration::from_secs(12);
/// After the last grant, until everything is quiet.
const SETTLE: Duration = Duration::from_secs(3);
/// Grants asked for at once.
const ASKERS: usize = 16;
/// Longest wait for all of a dead site's tickets; booth gets so long beyond two leases.
const PATIENCE: Duration = Duration::from_secs(30);
/// Granting all tickets one by one takes booth no longer than this, or the part goes without.
const BOOTH_GRANTS: Duration = Duration::from_mins(4);
/// Datagrams of 10,000 tickets over those of one: renewals are counted over a window, so that the
/// two windows may differ by some renewals.
const SAME: f64 = 1.05;

/// booth's leases: tickets, options by seed, word of the lease.
type Peer = (usize, fn(u64) -> booth::Options, &'static str);

const PEERS: [Peer; 4] = [
    (10, booth::Options::one_second, "booth: 1 s"),
    (100, booth::Options::one_second, "booth: 1 s"),
    (300, two_seconds, "booth: 2 s"),
    (1_000, booth::Options::thirty_seconds, "booth: 30 s"),
];
const LONG_PEERS: [Peer; 2] = [
    (10, booth::Options::thirty_seconds, "booth: 30 s"),
    (100, booth::Options::thirty_seconds, "booth: 30 s"),
];

fn two_seconds(seed: u64) -> booth::Options {
    booth::Options {
        expire: Duration::from_secs(2),
        timeout: Duration::from_millis(200),
        ..booth::Options::one_second(seed)
    }
}

/// What so many tickets cost.
#[derive(Clone, Debug, Default)]
struct Cost {
    /// Percent of a core: holder's machine, the other site's, the arbitrator's.
    cpu: [f64; 3],
    /// Packets and bytes a second at the holder's cable.
    packets: f64,
    bytes: f64,
    /// Packets a second on all cables: the same whoever leads the ledger.
    packets_in_all: f64,
    /// Daemons, MB: holder's, arbitrator's.
    rss: [f64; 2],
    /// Seconds until all were granted, one by one.
    granting: f64,
    /// Tickets that were held when the window ended.
    held: usize,
    /// After the holder's power went: milliseconds to the first and the last grant elsewhere.
    first: Option<f64>,
    last: Option<f64>,
    /// Tickets granted elsewhere.
    taken: usize,
}

pub(crate) fn run(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    let mut peers: BTreeMap<usize, (Cost, &str)> = BTreeMap::new();
    for (n, options, lease) in PEERS.into_iter().filter(|_| run.peer()) {
        if let Some(cost) = peer(run, n, options, lease)? {
            peers.insert(n, (cost, lease));
        }
    }
    let mut one = None;
    for n in OURS {
        let cost = ours(run, n)?;
        let one = one.get_or_insert(cost.packets_in_all);
        report(table, n, &cost, peers.get(&n), *one);
    }
    if run.options.long && run.peer() {
        for (n, options, lease) in LONG_PEERS {
            if let Some(cost) = peer(run, n, options, lease)? {
                report_peer(table, n, &cost, lease);
            }
        }
    }
    Ok(())
}

fn report(table: &mut Table, n: usize, ours: &Cost, peer: Option<&(Cost, &str)>, one: f64) {
    let lease = peer.map_or("", |(_, lease)| lease);
    let mut row = |what: &str, unit, of: fn(&Cost) -> Option<f64>, bar: Option<f64>| {
        let name = format!("scale.{n}.{what}");
        table.row(name, unit, of(ours), peer.and_then(|(p, _)| of(p))).bar(bar).note(lease);
    };
    let at = |tickets: usize, bar: f64| (n == tickets).then_some(bar);
    row("cpu-holder", "% core", |c| Some(c.cpu[0]), at(10_000, 2.0));
    row("cpu-other-site", "% core", |c| Some(c.cpu[1]), at(10_000, 2.0));
    row("cpu-arbitrator", "% core", |c| Some(c.cpu[2]), at(10_000, 2.0));
    row("packets", "1/s", |c| Some(c.packets), None);
    row("bytes", "B/s", |c| Some(c.bytes), None);
    row("packets-in-all", "1/s", |c| Some(c.packets_in_all), at(10_000, one * SAME));
    row("rss-holder", "MB", |c| Some(c.rss[0]), at(1_000, 25.0));
    row("rss-arbitrator", "MB", |c| Some(c.rss[1]), None);
    row("granting", "s", |c| Some(c.granting), None);
    row("takeover-first", "ms", |c| c.first, None);
    row("takeover-last", "ms", |c| c.last, None);
    row("takeover-spread", "ms", |c| Some(c.last? - c.first?), at(10_000, 1_000.0));
    let lost = |c: &Cost| c.held.saturating_sub(c.taken) as f64;
    let peer_lost = peer.map(|(p, _)| lost(p));
    let all = at(10_000, 0.0);
    table.row(format!("scale.{n}.not-taken-over"), "tickets", lost(ours), peer_lost).bar(all);
    let gone = |c: &Cost| n.saturating_sub(c.held) as f64;
    let peer_gone = peer.map(|(p, _)| gone(p));
    table.row(format!("scale.{n}.lost-at-rest"), "tickets", gone(ours), peer_gone);
}

fn report_peer(table: &mut Table, n: usize, cost: &Cost, lease: &str) {
    let mut row = |what: &str, unit, value: Option<f64>| {
        table.row(format!("scale.{n}.30s.{what}"), unit, None, value).note(lease);
    };
    row("cpu-holder", "% core", Some(cost.cpu[0]));
    row("packets", "1/s", Some(cost.packets));
    row("takeover-last", "ms", cost.last);
    row("not-taken-over", "tickets", Some(cost.held.saturating_sub(cost.taken) as f64));
}

/// CPU of machines and traffic of the holder over the window.
fn measure(net: &Net, machines: [&Machine; 3], holder: usize) -> Cost {
    let cpu = || machines.map(Machine::cpu);
    let count = || (net.switch().count_at(holder), net.switch().count_all());
    let (cpu0, (at0, all0), begun) = (cpu(), count(), Instant::now());
    std::thread::sleep(WINDOW);
    let (cpu1, (at1, all1), took) = (cpu(), count(), begun.elapsed());
    let (Count { packets, bytes, .. }, all) = (at1 - at0, all1 - all0);
    let seconds = took.as_secs_f64();
    let percent = |n: usize| 100.0 * (cpu1[n] - cpu0[n]).all().as_secs_f64() / seconds;
    Cost {
        cpu: [percent(0), percent(1), percent(2)],
        packets: packets as f64 / seconds,
        bytes: bytes as f64 / seconds,
        packets_in_all: all.packets as f64 / seconds,
        ..Cost::default()
    }
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

// ---- ours -------------------------------------------------------------------------------------

fn ours(run: &Run, n: usize) -> anyhow::Result<Cost> {
    eprintln!("== scale: {n} tickets, T = 1 s");
    let witnessed = vec![];
    let options = Options { witnessed, bare: n, ..run.one_ticket("") };
    let mut cluster = Cluster::start(options)?;
    let granting = Instant::now();
    grant_all(&cluster, n).context("granting all tickets")?;
    let granting = granting.elapsed().as_secs_f64();
    eprintln!("   tierce {n}: all granted after {granting:.1} s");
    std::thread::sleep(SETTLE);
    let holder = 0;
    let machines = [holder, other(holder), THIRD].map(|m| cluster.machine(m));
    let mut cost = measure(cluster.net(), machines, holder);
    cost.granting = granting;
    cost.rss = [cluster.daemon(holder)?.rss_kib(), cluster.daemon(THIRD)?.rss_kib()].map(megabytes);
    cost.held = held(&cluster, holder)?;
    eprintln!("   tierce {n}: {cost:?}");

    let successor = other(holder);
    let mut grants = cluster.watch_grants(successor);
    let from = Mono::now();
    cluster.power_off(holder);
    let until = Instant::now() + PATIENCE;
    cost.first = grants.first(PATIENCE).map(|at| at.ms_since(from));
    // The daemon's log names the first grants of a decision only; its status has all of them.
    while cost.taken < cost.held && Instant::now() < until {
        cost.taken = held(&cluster, successor)?;
        cost.last = Some(Mono::now().ms_since(from));
    }
    eprintln!("   tierce {n}: {} taken over, {:?} to {:?} ms", cost.taken, cost.first, cost.last);
    Ok(cost)
}

fn grant_all(cluster: &Cluster, n: usize) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let asker = |k: usize| {
            scope.spawn(move || {
                (k..n)
                    .step_by(ASKERS)
                    .try_for_each(|t| cluster.grant(&Options::bare_name(t), 0).map(drop))
            })
        };
        let askers: Vec<_> = (0..ASKERS).map(asker).collect();
        for asker in askers {
            asker.join().map_err(|_| anyhow::anyhow!("an asker panicked"))??;
        }
        Ok(())
    })
}

/// Tickets that a site's agent says it holds.
fn held(cluster: &Cluster, holder: usize) -> anyhow::Result<usize> {
    match cluster.ask(holder, &Ask::Status { linear: false })? {
        Reply::Status(s) => Ok(s
            .tickets
            .iter()
            .filter(|t| t.state == "held" && t.site.as_deref() == Some(tierce::NAMES[holder]))
            .count()),
        other => anyhow::bail!("no status: {other:?}"),
    }
}

// ---- booth ------------------------------------------------------------------------------------

fn peer(
    run: &Run,
    n: usize,
    options: fn(u64) -> booth::Options,
    lease: &str,
) -> anyhow::Result<Option<Cost>> {
    eprintln!("== scale: {n} tickets, {lease}");
    let options = booth::Options { tickets: n, ..run.on_our_net(options(run.seed)) };
    let expire = options.expire;
    let mut booth = Booth::new(options)?;
    booth.fresh()?;
    let begun = Instant::now();
    for t in 0..n {
        // A grant that fails is tried twice more; what is lost is counted below.
        let asked = (0..3).any(|_| {
            let answer = booth.request(0, booth::Op::Grant, &format!("t{t}"));
            answer.is_ok_and(|a| matches!(&*a.result, "ok" | "Pend" | "Over"))
        });
        if !asked && !booth.dead().is_empty() {
            break;
        }
        if begun.elapsed() > BOOTH_GRANTS {
            eprintln!("   booth {n}: {t} granted after {BOOTH_GRANTS:?}, no more");
            break;
        }
    }
    let granting = begun.elapsed().as_secs_f64();
    eprintln!("   booth {n}: granted after {granting:.1} s");
    std::thread::sleep(SETTLE.max(expire / 4));
    let mut cost = measure(booth.net(), [0, 1, 2].map(|m| booth.machine(m)), 0);
    let dead = booth.dead();
    if !dead.is_empty() {
        eprintln!("   booth {n}: {} ended by themselves{}", dead.join(", "), booth.tails());
        return Ok(None);
    }
    cost.granting = granting;
    cost.rss = [booth.daemon(0)?.pid(), booth.daemon(2)?.pid()]
        .map(|pid| megabytes(rss_kib_of(pid).unwrap_or(0)));
    let leader = format!("leader: {}", Net::address(0));
    cost.held = booth.list(0).lines().filter(|l| l.contains(&leader)).count();
    eprintln!("   booth {n}: {cost:?}");

    let mut writes = booth.watch(1);
    let from = Mono::now();
    booth.power_off(0);
    let until = Instant::now() + expire * 2 + PATIENCE;
    let mut taken: BTreeMap<String, f64> = BTreeMap::new();
    while taken.len() < cost.held && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        for e in writes.new_ones().into_iter().filter(|e| e.granted) {
            taken.entry(e.ticket).or_insert(e.began.ms_since(from));
        }
    }
    cost.taken = taken.len();
    cost.first = taken.values().copied().min_by(f64::total_cmp);
    cost.last = taken.values().copied().max_by(f64::total_cmp);
    eprintln!("   booth {n}: {} taken over, {:?} to {:?} ms", cost.taken, cost.first, cost.last);
    Ok(Some(cost))
}
