//! Holes 3 and 11: times that are rounded, and wall clocks that jump.

use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::tierce::{Cluster, other};
use tierce_rig::{Mono, WallClock, mono_of_utc, until};

use super::lab::{Ours, TICKET, Theirs};
use crate::fault::{WATCH, pause};

/// Beyond the end of a lease, so that whoever would still run is seen to do so.
const BEYOND: Duration = Duration::from_secs(2);
const HOUR: i64 = 3_600;
/// A log that is off by so much is not of the right time.
const MUCH: Duration = Duration::from_mins(30);

// ---- hole 3 -----------------------------------------------------------------------------------

pub(crate) fn cut_off(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let promise = o.cluster.options().lease.promise;
    let from = Mono::now();
    let witness = o.cluster.witness(other(holder), TICKET);
    o.cluster.net().isolate(holder);
    let starts = || witness.lives().iter().any(|l| l.from > from).then_some(());
    until(promise * 2, starts).context("the other site did not take over")?;
    std::thread::sleep(BEYOND);
    Ok(format!("T = {promise:?}"))
}

pub(crate) fn peer_cut_off(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    let expire = t.booth.options().expire;
    let mut writes = t.booth.watch(1);
    t.booth.net().isolate(0);
    writes.first_grant(expire * 2).context("the other site did not take over")?;
    std::thread::sleep(BEYOND);
    Ok(t.overlap())
}

// ---- hole 11 ----------------------------------------------------------------------------------

/// Whether the newest line of a member's log has a stamp that is far from the right time.
fn stamps_are_off(cluster: &Cluster, member: usize) -> bool {
    let text = std::fs::read_to_string(cluster.log(member)).unwrap_or_default();
    let stamp = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["time"].as_str().map(str::to_owned)
    };
    // A moment before this machine's boot is no moment of its clock.
    text.lines().rev().find_map(stamp).is_some_and(|at| {
        mono_of_utc(&at).is_none_or(|at| Mono::now().ms_since(at).abs() > MUCH.as_secs_f64() * 1e3)
    })
}

pub(crate) fn wall_clock(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let cluster = &mut o.cluster;
    let clock = WallClock::new(cluster.path("wall-clock"))?;
    cluster.set_environment(holder, clock.environment());
    cluster.restart_daemon(holder)?;
    // A daemon that is told to end gives up what it holds.
    if cluster.calm(TICKET)? != holder {
        cluster.shift(TICKET, holder)?;
    }
    o.since = Mono::now();
    // Forward while it runs, back while it is cut off.
    clock.set(HOUR)?;
    pause(1_500);
    anyhow::ensure!(cluster.holder(holder, TICKET) == Some(holder), "the clock's step moved it");
    cluster.net().isolate(holder);
    clock.set(-HOUR)?;
    pause(200);
    cluster.kill_daemon(holder);
    cluster.start_daemon(holder)?;
    std::thread::sleep(WATCH);
    let off = stamps_are_off(cluster, holder);
    anyhow::ensure!(off, "the daemon's log has right stamps: its clock was not wrong");
    cluster.set_environment(holder, Vec::new());
    cluster.kill_daemon(holder);
    Ok("the holder's log is off by an hour".to_owned())
}

pub(crate) fn peer_wall_clock(t: &mut Theirs) -> anyhow::Result<Duration> {
    let clock = WallClock::new(t.booth.path("wall-clock"))?;
    t.booth.set_environment(0, clock.environment());
    t.held()?;
    t.booth.net().isolate(0);
    // Its next write is of the restarted daemon: what it wrote before was by the right clock.
    t.booth.kill_daemon(0);
    clock.set(-HOUR)?;
    t.booth.start_daemon(0)?;
    std::thread::sleep(WATCH);
    let overlap = t.overlap();
    let alive = t.booth.dead().is_empty();
    anyhow::ensure!(alive, "a daemon ended: {}", t.booth.list(0));
    Ok(overlap)
}
