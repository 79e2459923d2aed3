//! The faults: what is done to whom, and how it ends.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tierce_rig::net::Rule;
use tierce_rig::tierce::{Cluster, NAMES, THIRD, other};
use tierce_rig::{Frozen, Random};

use crate::TICKET;
use crate::clock::WallClock;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// SIGKILL to a daemon; started again at the fault's end.
    KillDaemon,
    /// SIGKILL to a site's guard.
    KillGuard,
    /// SIGSTOP to a daemon.
    FreezeDaemon,
    /// All processes of a site's machine frozen, guard and resource included.
    FreezeMachine,
    /// Nothing leaves or reaches a member.
    Cut,
    /// Nothing reaches a member; what it says arrives.
    CutInward,
    /// Nothing leaves a member; it hears the others.
    CutOutward,
    /// Two members do not reach each other; both reach the third.
    CutPair,
    /// Ten to forty percent of all packets are lost.
    Loss,
    /// Packets arrive twice and out of order.
    Disorder,
    /// Round trips of up to 80 ms, with jitter.
    Slow,
    /// 2 to 16 kB/s in each direction of a member.
    Narrow,
    /// The wall clock of a site steps by up to an hour, there and back.
    WallClock,
    /// A member's disk is full.
    FullDisk,
    /// A machine ends at once and is booted again at the fault's end.
    PowerOff,
    /// The same, and its disk loses what was not on it.
    PowerCut,
    /// SIGTERM and a new start, as in an upgrade.
    Restart,
    /// The operator moves the ticket.
    Move,
}

/// One fault of a round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) member: usize,
    /// Since the round's beginning.
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
    /// How much, from 0 to 1, of what there is in the kind.
    pub(crate) much: f64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.begins.as_millis(), self.ends.as_millis());
        write!(f, "{} {} {from}-{to} ms", self.kind.word(), NAMES[self.member])
    }
}

impl Kind {
    pub(crate) fn word(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned())
    }

    /// Whether it is done to the network: several of these may be on at once anywhere.
    pub(crate) fn of_the_network(self) -> bool {
        matches!(
            self,
            Self::Cut
                | Self::CutInward
                | Self::CutOutward
                | Self::CutPair
                | Self::Loss
                | Self::Disorder
                | Self::Slow
                | Self::Narrow
        )
    }

    /// Whether only sites can have it.
    fn of_sites(self) -> bool {
        matches!(self, Self::KillGuard | Self::FreezeMachine | Self::WallClock | Self::Move)
    }

    /// Whom, how hard and for how long. `holder` has it more often than not.
    pub(crate) fn draw(self, random: &mut Random, holder: usize, promise: Duration) -> Fault {
        let member = match random.fraction() {
            p if p < 0.6 => holder,
            p if p < 0.8 || self.of_sites() => other(holder),
            _ => THIRD,
        };
        let length = match random.fraction() {
            p if p < 1.0 / 3.0 => promise / 2,
            p if p < 2.0 / 3.0 => promise,
            _ => promise * 3,
        };
        let length = length + random.up_to(promise / 4);
        let begins = random.up_to(promise / 2);
        Fault { kind: self, member, begins, ends: begins + length, much: random.fraction() }
    }
}

/// What has to be undone when a fault of the machine ends.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Start,
    GoOn,
    Thaw(#[allow(dead_code, reason = "thawed when dropped")] Frozen),
    Empty,
    PowerOn,
    SetClock,
}

impl Fault {
    /// Does it. Nothing when it is not possible now, as with a guard that is not there.
    pub(crate) fn begin(
        &self,
        cluster: &mut Cluster,
        clocks: &[WallClock],
    ) -> anyhow::Result<Option<Undo>> {
        let member = self.member;
        let runs = cluster.runs(member);
        Ok(Some(match self.kind {
            Kind::KillDaemon if runs => {
                cluster.kill_daemon(member);
                Undo::Start
            }
            Kind::FreezeDaemon if runs => {
                cluster.freeze_daemon(member, true)?;
                Undo::GoOn
            }
            Kind::Restart if runs => {
                cluster.restart_daemon(member)?;
                Undo::Nothing
            }
            Kind::KillDaemon | Kind::FreezeDaemon | Kind::Restart => return Ok(None),
            Kind::KillGuard => return Ok(cluster.kill_guard(member).then_some(Undo::Nothing)),
            Kind::FreezeMachine => Undo::Thaw(Frozen::freeze(cluster.machine(member))?),
            Kind::WallClock => {
                clocks[member].step(self.much)?;
                Undo::SetClock
            }
            Kind::FullDisk => {
                cluster.disk(member).map_or(Ok(()), tierce_rig::Disk::fill)?;
                Undo::Empty
            }
            Kind::PowerOff => {
                cluster.power_off(member);
                Undo::PowerOn
            }
            Kind::PowerCut => {
                cluster.power_cut(member)?;
                Undo::PowerOn
            }
            Kind::Move => {
                cluster.request_move(TICKET, member)?;
                Undo::Nothing
            }
            Kind::Cut
            | Kind::CutInward
            | Kind::CutOutward
            | Kind::CutPair
            | Kind::Loss
            | Kind::Disorder
            | Kind::Slow
            | Kind::Narrow => Undo::Nothing,
        }))
    }

    /// Ends it.
    pub(crate) fn end(
        &self,
        cluster: &mut Cluster,
        clocks: &[WallClock],
        undo: Undo,
    ) -> anyhow::Result<()> {
        let member = self.member;
        match undo {
            Undo::Nothing => {}
            Undo::Start => cluster.start_daemon(member)?,
            // The guard may have ended it in the meantime, which is its duty.
            Undo::GoOn => drop(cluster.freeze_daemon(member, false)),
            Undo::Thaw(frozen) => drop(frozen),
            Undo::Empty => cluster.disk(member).map_or(Ok(()), tierce_rig::Disk::empty)?,
            Undo::PowerOn => cluster.power_on(member)?,
            Undo::SetClock => clocks[member].set_right()?,
        }
        Ok(())
    }

    /// What it makes of the way from one member to another.
    pub(crate) fn shape(&self, from: usize, to: usize, rule: &mut Rule) {
        let (m, ms) = (self.member, Duration::from_millis);
        let much = |least: f64, most: f64| least + (most - least) * self.much;
        match self.kind {
            Kind::Cut => rule.cut |= from == m || to == m,
            Kind::CutInward => rule.cut |= to == m,
            Kind::CutOutward => rule.cut |= from == m,
            Kind::CutPair => {
                let pair = [m, (m + 1) % 3];
                rule.cut |= pair.contains(&from) && pair.contains(&to);
            }
            Kind::Loss => rule.loss = much(0.1, 0.4),
            Kind::Disorder => {
                rule.duplicate = much(0.1, 0.5);
                rule.reorder = much(0.1, 0.5);
                rule.reorder_by = ms(50).mul_f64(self.much);
            }
            Kind::Slow => {
                rule.delay = ms(40).mul_f64(self.much);
                rule.jitter = ms(20);
            }
            Kind::Narrow if from == m || to == m => rule.rate = Some(much(2e3, 16e3) as u32),
            _ => {}
        }
    }
}
