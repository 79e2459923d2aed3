//! One round: its plan, the faults in order, healing, and the judgement.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use tierce_rig::tierce::{Cluster, NAMES};
use tierce_rig::{Mono, Random, Shared};

use crate::clock::WallClock;
use crate::fault::{Fault, Kind, Undo};
use crate::{AFTER_THAW, TICKET};

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

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Faults that were done, and whether the witness ran somewhere at that moment.
    pub(crate) fired: Vec<(Kind, bool)>,
    #[serde(rename = "overlap_ms", serialize_with = "as_ms")]
    pub(crate) overlap: Duration,
    pub(crate) refused: usize,
    /// Since a machine thawed until its last write that was refused.
    #[serde(rename = "after_thaw_ms", serialize_with = "maybe_as_ms")]
    pub(crate) after_thaw: Option<Duration>,
    /// A machine was frozen as a whole.
    pub(crate) frozen: bool,
    pub(crate) moved: bool,
    /// From the last fault's end until all was in order, ticket held and running.
    #[serde(rename = "healed_in_ms", serialize_with = "as_ms")]
    pub(crate) healed_in: Duration,
}

fn as_ms<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(d.as_secs_f64() * 1e3)
}

#[allow(clippy::ref_option, reason = "the form that serde calls")]
fn maybe_as_ms<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    d.map(|d| d.as_secs_f64() * 1e3).serialize(s)
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        if self.frozen {
            // It could not be stopped in time; it is stopped at once, and was not believed.
            return self.after_thaw.is_none_or(|wrote| wrote <= AFTER_THAW);
        }
        self.overlap.is_zero() && self.refused == 0
    }
}

impl Rig {
    /// Waits for order and draws the next round's faults. Every kind has its turn as the first.
    pub(crate) fn plan(&mut self, round: usize, kinds: &[Kind]) -> anyhow::Result<Plan> {
        let holder = self.cluster.calm(TICKET)?;
        let promise = self.cluster.options().lease.promise;
        let mut faults = vec![kinds[round % kinds.len()].draw(&mut self.random, holder, promise)];
        for chance in [0.4, 0.3] {
            if self.random.chance(chance) {
                let kind = kinds[(self.random.fraction() * kinds.len() as f64) as usize];
                faults.push(kind.draw(&mut self.random, holder, promise));
            }
        }
        // A machine has one fault of its own at a time, and the operator moves one thing.
        let mut machines = BTreeSet::new();
        faults.retain(|f| f.kind.of_the_network() || machines.insert(f.member));
        faults.sort_by_key(|f| f.begins);
        Ok(Plan { holder, faults })
    }

    pub(crate) fn round(&mut self, plan: &Plan) -> anyhow::Result<Verdict> {
        let (from, writes) = (Mono::now(), self.shared.writes().len());
        let begun = Instant::now();
        let mut fired = Vec::new();
        let mut on: Vec<(Fault, Undo)> = Vec::new();
        let mut to_come = plan.faults.iter().cloned().peekable();
        let mut thawed = None;
        loop {
            let next_end = on.iter().map(|(f, _)| f.ends).min();
            let next_begin = to_come.peek().map(|f| f.begins);
            let Some(next) = next_end.into_iter().chain(next_begin).min() else { break };
            std::thread::sleep(next.saturating_sub(begun.elapsed()));
            let ended = on.extract_if(.., |(f, _)| f.ends <= next).collect::<Vec<_>>();
            for (fault, undo) in ended {
                fault.end(&mut self.cluster, &self.clocks, undo)?;
                if fault.kind == Kind::FreezeMachine {
                    thawed = Some((Mono::now(), fault.member));
                }
            }
            while let Some(fault) = to_come.next_if(|f| f.begins <= next) {
                let held = [0, 1].iter().any(|s| self.cluster.witness(*s, TICKET).runs());
                if let Some(undo) = fault.begin(&mut self.cluster, &self.clocks)? {
                    fired.push((fault.kind, held));
                    on.push((fault, undo));
                }
            }
            self.shape(&on);
        }
        let healing = Instant::now();
        self.heal()?;
        let holder = self.cluster.calm(TICKET)?;
        let healed_in = healing.elapsed();
        let all = self.shared.writes().split_off(writes);
        let refused: Vec<_> = all.into_iter().filter(|w| !w.accepted).collect();
        let frozen = plan.faults.iter().any(|f| f.kind == Kind::FreezeMachine);
        let after_thaw = thawed.and_then(|(at, _)| Some(refused.last()?.at.since(at)));
        Ok(Verdict {
            fired,
            overlap: self.cluster.overlap(TICKET, from),
            refused: refused.len(),
            after_thaw,
            frozen,
            moved: holder != plan.holder,
            healed_in,
        })
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
