//! Assigning a primitive.

use tierce_cib::values::INFINITY;

use super::colocation::Select;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};
use crate::row::{Cause, Choice, Verdict};

impl Cluster<'_> {
    pub(super) fn assign_primitive(
        &mut self,
        rsc: RscIx,
        prefer: Option<NodeIx>,
        stop_if_fail: bool,
    ) -> Option<NodeIx> {
        if let Some(parent) = self.rscs[rsc].parent
            && !self.rscs[parent].assigning
        {
            self.assign(parent, prefer, stop_if_fail);
        }
        if !self.rscs[rsc].provisional {
            return self.rscs[rsc].assigned;
        }
        if self.rscs[rsc].assigning {
            return None;
        }
        self.rscs[rsc].assigning = true;
        // What must be comes before what is only wished, so that as much as possible of it can be.
        for mandatory in [true, false] {
            self.follow_primaries(rsc, mandatory);
            self.hear_dependents(rsc, mandatory);
        }
        if self.rscs[rsc].next_role == Role::Stopped {
            self.close(rsc, Cause::Stopped);
        }
        self.decide(rsc, prefer, stop_if_fail);
        self.connection_assigned(rsc);
        self.rscs[rsc].assigning = false;
        self.rscs[rsc].assigned
    }

    /// Nothing may take it.
    pub(crate) fn close(&mut self, rsc: RscIx, cause: Cause) {
        let row = &mut self.rscs[rsc].allowed;
        for place in &mut *row {
            if place.listed {
                place.score = -INFINITY;
            }
        }
        row.tell(cause);
    }

    /// Those that it must be with are assigned first, and tell where it can be.
    fn follow_primaries(&mut self, rsc: RscIx, mandatory: bool) {
        for ix in self.this_with(rsc) {
            let col = self.colocations[ix].clone();
            if (col.score.abs() >= INFINITY) != mandatory {
                continue;
            }
            let fallible = col.dependent_role >= Some(Role::Promoted)
                || (col.score < 0 && col.score > -INFINITY);
            let saved = fallible.then(|| self.rscs[rsc].allowed.clone());
            self.assign(col.primary, None, true);
            self.apply_colocation(rsc, col.primary, ix);
            if let Some(saved) = saved
                && !self.any_available(&self.rscs[rsc].allowed)
            {
                self.rscs[rsc].allowed = saved;
            }
        }
    }

    /// Those that want to be with it say where.
    fn hear_dependents(&mut self, rsc: RscIx, mandatory: bool) {
        for ix in self.with_this(rsc) {
            let col = self.colocations[ix].clone();
            if (col.score.abs() >= INFINITY) != mandatory {
                continue;
            }
            if !self.has_influence(&col) {
                continue;
            }
            let factor = f64::from(col.score) / f64::from(INFINITY);
            let mut row = std::mem::take(&mut self.rscs[rsc].allowed);
            let select = Select { active: true, ..Select::default() };
            self.rscs[rsc].allowed.clone_from(&row);
            // A member of a group goes where the group goes.
            let group = self.rscs[col.dependent]
                .parent
                .filter(|p| self.rscs[*p].kind == Kind::Group && self.rscs[rsc].parent != Some(*p));
            let source = group.unwrap_or(col.dependent);
            self.add_wishes(source, rsc, &mut row, Some(ix), factor, select);
            self.rscs[rsc].allowed = row;
            self.rscs[rsc].allowed.tell(Cause::Wanted(ix));
        }
    }

    fn decide(&mut self, rsc: RscIx, prefer: Option<NodeIx>, stop_if_fail: bool) {
        let r = &self.rscs[rsc];
        if !r.managed {
            // One instance more than the clone may have runs on, and is nobody's.
            let surplus = r.removed && r.parent.is_some();
            let running = r.running_on.first().copied().filter(|_| !surplus);
            let node = running.or_else(|| {
                let partial = r.partial?;
                Some(partial.target)
            });
            self.rscs[rsc].next_role = self.rscs[rsc].role;
            if node.is_none() {
                self.rscs[rsc].next_role = Role::Stopped;
            }
            let role = self.rscs[rsc].next_role;
            self.set_assignment(rsc, node, true, true);
            self.rscs[rsc].next_role = role;
            self.rscs[rsc].choice = Some(Choice { verdict: Verdict::Unmanaged, lost: Vec::new() });
            return;
        }
        if self.options.stop_all {
            self.set_assignment(rsc, None, true, true);
            self.rscs[rsc].choice = Some(Choice { verdict: Verdict::StopAll, lost: Vec::new() });
            return;
        }
        self.choose_or_fail(rsc, prefer, stop_if_fail);
    }

    fn choose_or_fail(&mut self, rsc: RscIx, prefer: Option<NodeIx>, stop_if_fail: bool) {
        if self.choose_node(rsc, prefer).is_none() && !stop_if_fail {
            self.rscs[rsc].provisional = true;
            if self.rscs[rsc].next_role == Role::Stopped {
                self.rscs[rsc].next_role = self.rscs[rsc].target_role;
            }
        }
    }
}
