//! Faults that take leases by surprise, done to Tierce and to booth alike.

use std::time::Duration;

use tierce_rig::booth::{self, Booth};
use tierce_rig::net::{Look, Rule};
use tierce_rig::tierce::{Cluster, other};
use tierce_rig::{Random, until};

/// Both leases.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// How long a fault lasts and is watched: three leases and a little.
pub(crate) const WATCH: Duration = Duration::from_millis(3_300);

/// What is done to the holder or its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing leaves or reaches the holder.
    Cut,
    /// SIGKILL to its daemon.
    Kill,
    /// SIGSTOP to its daemon, for so long.
    Freeze(Duration),
    /// Cut off, killed and started again.
    Restart,
    /// A renewal that the holder and the others see differently, then cut off.
    LostUpdates,
    /// Much is lost, then cut off.
    Loss,
    /// Much comes twice and late, then cut off.
    Disorder,
}

fn lossy(rule: &mut Rule) {
    rule.loss = 0.3;
}

fn disorderly(rule: &mut Rule) {
    rule.duplicate = 0.3;
    rule.reorder = 0.3;
    rule.reorder_by = Duration::from_millis(20);
}

pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

impl Fault {
    /// Done to the holder of ours, and watched. The network and the guard's victims stay as they are.
    pub(crate) fn to_ours(
        self,
        cluster: &mut Cluster,
        ticket: &str,
        holder: usize,
        random: &mut Random,
    ) -> anyhow::Result<()> {
        match self {
            Self::Cut => {
                cluster.net().isolate(holder);
                std::thread::sleep(WATCH);
            }
            Self::Kill => {
                cluster.kill_daemon(holder);
                std::thread::sleep(WATCH);
                cluster.start_daemon(holder)?;
            }
            Self::Freeze(long) => {
                cluster.freeze_daemon(holder, true)?;
                std::thread::sleep(long);
                cluster.freeze_daemon(holder, false)?;
                pause(1_000);
            }
            Self::Restart => {
                cluster.net().isolate(holder);
                pause(200);
                cluster.kill_daemon(holder);
                cluster.start_daemon(holder)?;
                std::thread::sleep(WATCH);
            }
            Self::LostUpdates => {
                // The voters hear and promise; the holder hears nothing of it. Then it is cut off.
                cluster.net().switch().change(|_, to, rule| rule.cut = to == holder);
                std::thread::sleep(random.up_to(LEASE));
                cluster.net().isolate(holder);
                std::thread::sleep(WATCH);
            }
            Self::Loss => {
                cluster.net().all(lossy);
                pause(2_000);
                cluster.net().isolate(holder);
                std::thread::sleep(WATCH);
            }
            Self::Disorder => {
                cluster.net().all(disorderly);
                pause(500);
                cluster.shift(ticket, other(holder))?;
                pause(500);
                cluster.net().isolate(other(holder));
                std::thread::sleep(WATCH);
            }
        }
        Ok(())
    }

    /// Done to booth, whose first site holds, and watched.
    pub(crate) fn to_booth(self, booth: &mut Booth) -> anyhow::Result<()> {
        match self {
            Self::Cut => {
                booth.net().isolate(0);
                std::thread::sleep(WATCH);
            }
            Self::Kill => {
                booth.kill_daemon(0);
                std::thread::sleep(WATCH);
            }
            Self::Freeze(long) => {
                booth.freeze_daemon(0, true)?;
                std::thread::sleep(long);
                booth.freeze_daemon(0, false)?;
                pause(1_000);
            }
            Self::Restart => {
                booth.net().isolate(0);
                pause(200);
                booth.kill_daemon(0);
                booth.start_daemon(0)?;
                std::thread::sleep(WATCH);
            }
            Self::LostUpdates => {
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
            Self::Loss => {
                booth.net().all(lossy);
                pause(2_000);
                booth.net().isolate(0);
                std::thread::sleep(WATCH);
            }
            Self::Disorder => {
                booth.net().all(disorderly);
                pause(500);
                booth.net().isolate(0);
                std::thread::sleep(WATCH);
            }
        }
        Ok(())
    }
}

/// The network as it was made.
pub(crate) fn whole(cluster: &Cluster) {
    let rule = cluster.options().rule.clone();
    cluster.net().all(|r| *r = rule.clone());
}
