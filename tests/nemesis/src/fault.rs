//! The faults: what is done to whom, and how it ends.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tierce_rig::net::Rule;
use tierce_rig::tierce::{Cluster, NAMES, THIRD, other};
use tierce_rig::{Frozen, Random, WallClock};

use crate::TICKET;

const HOUR_SECONDS: f64 = 3_600.0;
/// More than find room in what a store has taken beforehand.
const DECISIONS: usize = 60;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL to a daemon; started again at the fault's end.
    KillDaemon,
    /// SIGKILL to a site's guard.
    KillGuard,
    /// SIGSTOP to a daemon for T/2.
    FreezeDaemonHalfT,
    /// SIGSTOP to a daemon for T.
    FreezeDaemonOneT,
    /// SIGSTOP to a daemon for 3T.
    FreezeDaemonThreeT,
    /// All processes of a site's machine frozen for T/2, guard and resource included.
    FreezeMachineHalfT,
    /// The same for T.
    FreezeMachineOneT,
    /// The same for 3T.
    FreezeMachineThreeT,
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
    /// A member's disk is full, and there is something to write down. When there is room again,
    /// nobody is told.
    FullDisk,
    /// A machine ends at once and is booted again at the fault's end.
    PowerOff,
    /// The same, and its disk loses what was not on it.
    PowerCut,
    /// SIGTERM and a new start.
    Restart,
    /// The holder's site is cut off or loses its power; before the other one runs the ticket, it or
    /// the arbitrator is given the other build, and later the former one again.
    UpgradeInTakeover,
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

    /// Whether everything on a machine is frozen, its guard, too.
    pub(crate) fn freezes_machine(self) -> bool {
        matches!(
            self,
            Self::FreezeMachineHalfT | Self::FreezeMachineOneT | Self::FreezeMachineThreeT
        )
    }

    /// Whether somebody else takes over when it lasts.
    pub(crate) fn takes_from_the_others(self) -> bool {
        Self::FALLS.contains(&self)
    }

    const FALLS: [Self; 3] = [Self::Cut, Self::PowerOff, Self::PowerCut];

    /// Whether only sites can have it.
    fn of_sites(self) -> bool {
        matches!(self, Self::KillGuard | Self::WallClock | Self::Move) || self.freezes_machine()
    }

    /// Its length in T, where the kind says it.
    fn promises(self) -> Option<f64> {
        match self {
            Self::FreezeDaemonHalfT | Self::FreezeMachineHalfT => Some(0.5),
            Self::FreezeDaemonOneT | Self::FreezeMachineOneT => Some(1.0),
            Self::FreezeDaemonThreeT | Self::FreezeMachineThreeT => Some(3.0),
            _ => None,
        }
    }

    /// Whom, how hard and for how long; one fault, or two that belong together. `holder` has it
    /// more often than not.
    pub(crate) fn draw(self, random: &mut Random, holder: usize, promise: Duration) -> Vec<Fault> {
        if self == Self::UpgradeInTakeover {
            return in_takeover(random, holder, promise);
        }
        let member = match random.fraction() {
            p if p < 0.6 => holder,
            p if p < 0.8 || self.of_sites() => other(holder),
            _ => THIRD,
        };
        let drawn = match random.fraction() {
            p if p < 1.0 / 3.0 => 0.5,
            p if p < 2.0 / 3.0 => 1.0,
            _ => 3.0,
        };
        let length = promise.mul_f64(self.promises().unwrap_or(drawn));
        let length = length + random.up_to(promise / 10);
        let begins = random.up_to(promise / 2);
        vec![Fault { kind: self, member, begins, ends: begins + length, much: random.fraction() }]
    }
}

/// A fall of the holder, and an upgrade of one of those who take over from it.
fn in_takeover(random: &mut Random, holder: usize, promise: Duration) -> Vec<Fault> {
    let begins = random.up_to(promise / 2);
    let ends = begins + promise * 3;
    let fall = Kind::FALLS[(random.fraction() * Kind::FALLS.len() as f64) as usize];
    let fall = Fault { kind: fall, member: holder, begins, ends, much: random.fraction() };
    let member = if random.chance(0.5) { other(holder) } else { THIRD };
    let begins = begins + random.up_to(promise * 5 / 4);
    let kind = Kind::UpgradeInTakeover;
    vec![fall, Fault { kind, member, begins, ends, much: random.fraction() }]
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.word())
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
            Kind::FreezeDaemonHalfT | Kind::FreezeDaemonOneT | Kind::FreezeDaemonThreeT if runs => {
                cluster.freeze_daemon(member, true)?;
                Undo::GoOn
            }
            Kind::Restart if runs => {
                cluster.restart_daemon(member)?;
                Undo::Nothing
            }
            Kind::UpgradeInTakeover if runs => {
                cluster.upgrade(member)?;
                Undo::Nothing
            }
            Kind::KillDaemon
            | Kind::FreezeDaemonHalfT
            | Kind::FreezeDaemonOneT
            | Kind::FreezeDaemonThreeT
            | Kind::Restart
            | Kind::UpgradeInTakeover => return Ok(None),
            Kind::KillGuard => return Ok(cluster.kill_guard(member).then_some(Undo::Nothing)),
            Kind::FreezeMachineHalfT | Kind::FreezeMachineOneT | Kind::FreezeMachineThreeT => {
                Undo::Thaw(Frozen::freeze(cluster.machine(member))?)
            }
            Kind::WallClock => {
                clocks[member].set(((self.much - 0.5) * 2.0 * HOUR_SECONDS) as i64)?;
                Undo::SetClock
            }
            Kind::FullDisk => {
                cluster.disk(member).map_or(Ok(()), tierce_rig::Disk::fill)?;
                // At rest nothing needs room.
                cluster.request_decisions(usize::from(member == 0), DECISIONS)?;
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
            Undo::Empty => {
                // A service manager does not know that a disk is full.
                if !cluster.runs(member) {
                    cluster.start_daemon(member)?;
                }
                cluster.disk(member).map_or(Ok(()), tierce_rig::Disk::empty)?;
            }
            Undo::PowerOn => cluster.power_on(member)?,
            Undo::SetClock => clocks[member].set(0)?,
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
