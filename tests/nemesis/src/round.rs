//! One round: its plan, the faults in order, healing.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use tierce_rig::tierce::{Cluster, NAMES, THIRD, other};
use tierce_rig::{Mono, Random, Shared, WallClock};

use crate::TICKET;
use crate::fault::{Fault, Kind, Undo};
use crate::verdict::{Freeze, Verdict, judge};

/// How often and how long it is looked after the daemons when a round has ended.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that a round works on.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) shared: Shared,
    pub(crate) clocks: Vec<WallClock>,
    pub(crate) random: Random,
}

/// What a round will do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) holder: usize,
    pub(crate) faults: Vec<Fault>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held by {}", NAMES[self.holder])?;
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

impl Rig {
    /// Waits for order and draws the next round's faults, one of this kind among them.
    pub(crate) fn plan(&mut self, kind: Kind, kinds: &[Kind]) -> anyhow::Result<Plan> {
        let holder = self.in_order()?;
        let promise = self.cluster.options().lease.promise;
        let mut faults = kind.draw(&mut self.random, holder, promise);
        for chance in [0.4, 0.3] {
            if self.random.chance(chance) {
                let kind = kinds[(self.random.fraction() * kinds.len() as f64) as usize];
                faults.extend(kind.draw(&mut self.random, holder, promise));
            }
        }
        // A machine has one fault of its own at a time, and the operator moves one thing.
        let mut machines = BTreeSet::new();
        faults.retain(|f| f.kind.of_the_network() || machines.insert(f.member));
        faults.sort_by_key(|f| f.begins);
        Ok(Plan { holder, faults })
    }

    pub(crate) fn round(&mut self, plan: &Plan) -> anyhow::Result<Verdict> {
        let (from, writes) = (Mono::now(), self.shared.count());
        let begun = Instant::now();
        let mut fired = Vec::new();
        let mut on: Vec<(Fault, Undo)> = Vec::new();
        let mut to_come = plan.faults.iter().cloned().peekable();
        let mut freezes: Vec<Freeze> = Vec::new();
        // Whether a holder has fallen and leaves its ticket to be taken over.
        let mut fell = false;
        loop {
            let next_end = on.iter().map(|(f, _)| f.ends).min();
            let next_begin = to_come.peek().map(|f| f.begins);
            let Some(next) = next_end.into_iter().chain(next_begin).min() else { break };
            std::thread::sleep(next.saturating_sub(begun.elapsed()));
            let ended = on.extract_if(.., |(f, _)| f.ends <= next).collect::<Vec<_>>();
            for (fault, undo) in ended {
                if fault.kind.freezes_machine() {
                    let freeze = freezes.iter_mut().find(|f| f.site == fault.member);
                    if let Some(freeze) = freeze {
                        freeze.thawed = Mono::now();
                    }
                }
                fault.end(&mut self.cluster, &self.clocks, undo)?;
            }
            while let Some(fault) = to_come.next_if(|f| f.begins <= next) {
                let runs = |site| self.cluster.witness(site, TICKET).runs();
                let held = match fault.kind {
                    Kind::UpgradeInTakeover => fell && !runs(other(plan.holder)),
                    _ => runs(0) || runs(1),
                };
                if let Some(undo) = fault.begin(&mut self.cluster, &self.clocks)? {
                    let holder = fault.member == plan.holder;
                    fell |= held && holder && fault.kind.takes_from_the_others();
                    if fault.kind.freezes_machine() {
                        freezes.push(Freeze::of(fault.member));
                    }
                    fired.push((fault.kind, held));
                    on.push((fault, undo));
                }
            }
            self.shape(&on);
        }
        let healing = Instant::now();
        let holder = self.in_order()?;
        let healed_in = healing.elapsed();
        let found = judge(self.cluster.lives(TICKET), &self.shared.since(writes), from, &freezes);
        for site in [0, 1] {
            self.cluster.witness(site, TICKET).forget(from);
        }
        Ok(Verdict { fired, found, moved: holder != plan.holder, healed_in })
    }

    /// The network as the faults that are on make it; a machine without power has none.
    fn shape(&self, on: &[(Fault, Undo)]) {
        let base = self.cluster.options().rule.clone();
        let off: Vec<usize> = (0..3).filter(|m| !self.cluster.machine(*m).is_on()).collect();
        self.cluster.net().switch().change(|from, to, rule| {
            *rule = base.clone();
            rule.cut = off.contains(&from) || off.contains(&to);
            for (fault, _) in on {
                fault.shape(from, to, rule);
            }
        });
    }

    /// Waits for order. A service manager is there as long as it takes: a daemon that a fault has
    /// stopped may need a moment to end, after the fault has.
    fn in_order(&mut self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        self.heal()?;
        while begun.elapsed() < PATIENCE && !(0..THIRD).all(|site| self.cluster.in_order_at(site)) {
            std::thread::sleep(LOOK);
            self.heal()?;
        }
        Ok(self.cluster.calm(TICKET)?)
    }

    /// What a service manager does: a daemon that ended is started again.
    fn heal(&mut self) -> anyhow::Result<()> {
        for member in 0..3 {
            if !self.cluster.runs(member) {
                self.cluster.start_daemon(member)?;
            }
        }
        Ok(())
    }
}
