//! Fencing is asked for and there is nothing to fence with: everything is held where it is.
//!
//! Nobody could prove that what is lost has ended, so nothing is started, promoted or moved; and nothing is stopped, for it
//! could not come back. Pacemaker says "resource start-up disabled" of this. Probes and recurring monitors go on.
//!
//! One thing is let go: what runs without its ticket ends, for its right to run has ended, and with it ends what an
//! ordering says must be down before. It does not begin anywhere else.

use crate::action::{End, Task, flag};
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

impl Cluster<'_> {
    /// Whether nothing may begin, for want of anything to fence with.
    pub(crate) fn start_disabled(&self) -> bool {
        self.fencing() && !self.has_fencing
    }

    /// Holds all resources, but for those that a missing ticket asks to end.
    pub(crate) fn hold_without_fencing(&mut self) {
        if !self.start_disabled() {
            return;
        }
        let ending = self.ending_without_fencing();
        for rsc in self.rscs.keys() {
            // An instance that is one too many is no longer configured: to stop it takes nothing away.
            let surplus = self.rscs[rsc].removed && self.rscs[rsc].instance.is_some();
            if self.rscs[rsc].kind != Kind::Primitive || !self.rscs[rsc].managed || surplus {
                continue;
            }
            if !ending[rsc.0 as usize] {
                self.rscs[rsc].managed = false;
                continue;
            }
            let here = self.rscs[rsc].running_on.clone();
            for node in self.nodes.keys().filter(|node| !here.contains(node)) {
                self.ban(rsc, node, "__no_fencing__");
            }
        }
    }

    /// For each resource whether its ticket is gone, or it is in the way of one whose ticket is.
    fn ending_without_fencing(&self) -> Vec<bool> {
        let mut ending: Vec<bool> =
            self.rscs.keys().map(|rsc| self.runs_without_ticket(rsc)).collect();
        loop {
            let mut more = Vec::new();
            for order in &self.orders {
                let (End::Op(first, Task::Stop, _), End::Op(then, Task::Stop, _)) =
                    (order.first, order.then)
                else {
                    continue;
                };
                let firm = order.flags & (flag::THEN_IMPLIES_FIRST | flag::FIRST_IMPLIES_THEN) != 0;
                if firm && self.parts(then).iter().any(|part| ending[part.0 as usize]) {
                    more.extend(self.parts(first));
                }
            }
            for rsc in self.rscs.keys().filter(|rsc| self.rscs[*rsc].kind == Kind::Group) {
                // Members go down from the last to the first.
                let members = &self.rscs[rsc].children;
                if let Some(at) = members.iter().position(|m| ending[m.0 as usize]) {
                    more.extend(&members[at..]);
                }
            }
            more.retain(|part| !ending[part.0 as usize]);
            if more.is_empty() {
                return ending;
            }
            for part in more {
                ending[part.0 as usize] = true;
            }
        }
    }

    fn parts(&self, rsc: RscIx) -> Vec<RscIx> {
        let mut parts = Vec::new();
        self.primitives(rsc, &mut parts);
        parts
    }

    /// Whether a primitive is active in a role that needs a ticket which is missing or aside.
    fn runs_without_ticket(&self, rsc: RscIx) -> bool {
        let r = &self.rscs[rsc];
        if r.kind != Kind::Primitive || r.running_on.is_empty() {
            return false;
        }
        std::iter::successors(Some(rsc), |at| self.rscs[*at].parent).any(|at| {
            self.rscs[at].tickets.iter().map(|position| &self.ticket_uses[*position]).any(
                |needed| {
                    let usable =
                        self.tickets.get(needed.ticket).is_some_and(|t| t.granted && !t.standby);
                    !usable && (needed.role != Some(Role::Promoted) || r.role == Role::Promoted)
                },
            )
        })
    }
}
