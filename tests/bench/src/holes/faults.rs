//! Holes 1, 4 and 5: the faults that `bench failover` has, too.

use std::time::Duration;

use tierce_rig::tierce::NAMES;

use super::lab::{Ours, TICKET, Theirs};
use crate::fault::{Fault, LEASE};

/// 1.6 leases.
const FROZEN: Duration = Duration::from_millis(LEASE.as_millis() as u64 * 8 / 5);

fn ours(o: &mut Ours, holder: usize, fault: Fault) -> anyhow::Result<String> {
    fault.to_ours(&mut o.cluster, TICKET, holder, &mut o.random)?;
    Ok(format!("{} was overtaken", NAMES[holder]))
}

fn peer(t: &mut Theirs, fault: Fault) -> anyhow::Result<Duration> {
    t.held()?;
    fault.to_booth(&mut t.booth)?;
    Ok(t.overlap())
}

pub(crate) fn lost_updates(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let lost = |o: &Ours| {
        let switch = o.cluster.net().switch();
        (0..3).map(|from| switch.count(from, holder).dropped).sum::<u64>()
    };
    let before = lost(o);
    ours(o, holder, Fault::LostUpdates)?;
    let lost = lost(o) - before;
    anyhow::ensure!(lost > 0, "no answer to the holder was lost");
    Ok(format!("{lost} packets to the holder were lost"))
}

pub(crate) fn peer_lost_updates(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer(t, Fault::LostUpdates)
}

pub(crate) fn killed(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    ours(o, holder, Fault::Kill)
}

pub(crate) fn peer_killed(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer(t, Fault::Kill)
}

pub(crate) fn frozen(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    ours(o, holder, Fault::Freeze(FROZEN))
}

pub(crate) fn peer_frozen(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer(t, Fault::Freeze(FROZEN))
}

pub(crate) fn restarted(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    ours(o, holder, Fault::Restart)
}

pub(crate) fn peer_restarted(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer(t, Fault::Restart)
}
