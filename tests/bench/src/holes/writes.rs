//! Holes 6 and 12: what carries out a decision fails, hangs or is slow.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::Booth;
use tierce_rig::tierce::{NAMES, other};
use tierce_rig::{Mono, Programs, Stop, Witness, both, until};
use tierce_wire::control::Ask;

use super::lab::{Ours, TICKET, Theirs};
use crate::fault::{LEASE, WATCH, pause};

/// A booth whose write hangs does so for this long.
const STALL: Duration = Duration::from_secs(3);
/// A stop within the budget of T = 1 s, and one far beyond.
const SLOW: Duration = Duration::from_millis(200);
const TOO_SLOW: Duration = Duration::from_millis(1_500);
/// A daemon that has to write finds within this time that there is no room.
const NOTICED: Duration = Duration::from_secs(10);
const ATTRIBUTE_CHARS: usize = 64;

// ---- hole 6: ours -----------------------------------------------------------------------------

/// The holder is cut off, and its stops are odd.
fn cut_off_with(o: &mut Ours, holder: usize, stop: Stop) -> anyhow::Result<String> {
    let witness = o.cluster.witness(holder, TICKET);
    let before = witness.odd_stops();
    witness.set_stop(stop)?;
    o.cluster.net().isolate(holder);
    std::thread::sleep(WATCH);
    let odd = witness.odd_stops() - before;
    anyhow::ensure!(odd > 0, "no stop was tried: {stop:?} was never in effect");
    let tries = if odd == 1 { "stop was" } else { "stops were" };
    Ok(format!("{odd} {tries} tried"))
}

pub(crate) fn stop_fails(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    cut_off_with(o, holder, Stop::Fails)
}

pub(crate) fn stop_hangs(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    cut_off_with(o, holder, Stop::Hangs)
}

pub(crate) fn disk_full(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let cluster = &mut o.cluster;
    cluster.disk(holder).context("the holder has no disk of its own")?.fill()?;
    // At rest nothing needs room. Decisions do; these are for all members to write.
    let mut decisions = 0;
    let ended = until(NOTICED, || {
        let (site, name) = (NAMES[other(holder)].to_owned(), format!("filler-{decisions}"));
        let value = Some("x".repeat(ATTRIBUTE_CHARS));
        let ask = Ask::SetAttribute { site, ticket: None, name, value };
        decisions += usize::from(cluster.must(other(holder), &ask).is_ok());
        (!cluster.runs(holder)).then_some(())
    });
    for n in 0..decisions {
        let (site, name) = (NAMES[other(holder)].to_owned(), format!("filler-{n}"));
        let ask = Ask::SetAttribute { site, ticket: None, name, value: None };
        cluster.must(other(holder), &ask).context("taking an attribute away again")?;
    }
    ended.with_context(|| format!("{decisions} decisions found room on a full disk"))?;
    std::thread::sleep(WATCH);
    Ok(format!("{} could not write and ended, at decision {decisions}", NAMES[holder]))
}

pub(crate) fn disk_hangs(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let cluster = &mut o.cluster;
    let disk = cluster.disk(holder).context("the holder has no disk of its own")?;
    disk.hang()?;
    std::thread::sleep(WATCH + LEASE);
    // Whoever hangs in a write can only be ended when the write can.
    disk.go_on();
    Ok(format!("writes at {} hung for {:?}", NAMES[holder], WATCH + LEASE))
}

// ---- hole 6: booth ----------------------------------------------------------------------------

pub(crate) fn peer_write_fails(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    t.booth.net().isolate(0);
    pause(200);
    t.booth.fail_writes(0, true)?;
    std::thread::sleep(LEASE * 3 / 2);
    // From here on a write would succeed; it is watched whether anybody tries.
    t.booth.fail_writes(0, false)?;
    std::thread::sleep(WATCH);
    Ok(t.overlap())
}

pub(crate) fn peer_write_hangs(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    t.booth.stall_writes(0, STALL)?;
    std::thread::sleep(STALL + WATCH);
    let overlap = t.overlap();
    // A write that hangs keeps the port of a daemon that is gone: the next one could not start.
    t.booth.stall_writes(0, Duration::ZERO)?;
    std::thread::sleep(STALL);
    Ok(overlap)
}

// ---- hole 12: ours ----------------------------------------------------------------------------

pub(crate) fn slow_stop(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let status = o.cluster.status(holder).context("the holder does not answer")?;
    let budget = status.timing.get("B").context("the status names no stop budget")?.clone();
    let refused = too_large_a_budget(o, holder)?;
    let said = cut_off_with(o, holder, Stop::Takes(SLOW))?;
    Ok(format!("{said}; the budget was said to be {budget}; 900ms of 1s: {refused}"))
}

pub(crate) fn slower_than_budget(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    cut_off_with(o, holder, Stop::Takes(TOO_SLOW))
}

/// A file whose stop budget does not fit into its lease is refused by I2.
fn too_large_a_budget(o: &Ours, site: usize) -> anyhow::Result<&'static str> {
    let text = std::fs::read_to_string(o.cluster.file(site)).context("a site's file")?;
    let profile = "profile = \"metro-fast\"\n";
    let large = format!("{profile}timing = {{ stop-budget = \"900ms\" }}\n");
    let file = o.cluster.path("too-large.toml");
    std::fs::write(&file, text.replace(profile, &large)).context("a file to be refused")?;
    let mut check = o.cluster.tierce()?;
    check.args(["config", "check"]).arg(&file);
    let out = check.output().context("tierce config check")?;
    let said = [out.stdout, out.stderr].concat();
    let named = String::from_utf8_lossy(&said).contains("I2");
    anyhow::ensure!(!out.status.success() && named, "a budget that does not fit was taken");
    Ok("refused by I2")
}

// ---- hole 12: booth ---------------------------------------------------------------------------

pub(crate) fn peer_slow_stop(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer_stop_takes(t, SLOW)
}

pub(crate) fn peer_slower_than_budget(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer_stop_takes(t, TOO_SLOW)
}

/// A cluster manager's part is played here: the witness is started at a grant and stopped, slowly,
/// at a revoke.
fn peer_stop_takes(t: &mut Theirs, takes: Duration) -> anyhow::Result<Duration> {
    t.held()?;
    let begun = Mono::now();
    let witnesses = [0, 1].map(|site| Witness::of(t.booth.path(&format!("w{site}.{begun}"))));
    witnesses.iter().try_for_each(|w| w.set_stop(Stop::Takes(takes)))?;
    let agent = t.booth.path("witness");
    if !agent.exists() {
        let tool = Programs::folder()?.path("tierce-rig-tool")?;
        std::os::unix::fs::symlink(tool, &agent).context("the witness")?;
    }
    act(&t.booth, 0, &witnesses[0], "start")?;
    let (booth, over) = (&t.booth, AtomicBool::new(false));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let managers = [0, 1].map(|site| {
            let (witness, over) = (&witnesses[site], &over);
            scope.spawn(move || manage(booth, site, witness, over))
        });
        booth.net().isolate(0);
        std::thread::sleep(WATCH);
        over.store(true, Ordering::Relaxed);
        for manager in managers {
            manager.join().map_err(|_| anyhow::anyhow!("a cluster manager panicked"))??;
        }
        Ok(())
    })?;
    let overlap = both(&witnesses[0].lives(), &witnesses[1].lives());
    for (site, witness) in witnesses.iter().enumerate() {
        witness.set_stop(Stop::AtOnce)?;
        act(booth, site, witness, "stop")?;
    }
    Ok(overlap)
}

fn manage(booth: &Booth, site: usize, witness: &Witness, over: &AtomicBool) -> anyhow::Result<()> {
    let mut writes = booth.watch(site);
    let mut granted = site == 0;
    while !over.load(Ordering::Relaxed) {
        for write in writes.new_ones() {
            if write.granted != granted {
                granted = write.granted;
                act(booth, site, witness, if granted { "start" } else { "stop" })?;
            }
        }
        pause(2);
    }
    Ok(())
}

fn act(booth: &Booth, site: usize, witness: &Witness, action: &str) -> anyhow::Result<()> {
    let mut command = Command::new(booth.path("witness"));
    command.arg(action).env("OCF_RESKEY_log", witness.log());
    booth.machine(site).run(command).with_context(|| format!("{action} of a witness"))?;
    Ok(())
}
