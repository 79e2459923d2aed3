//! Assigning a clone: its instances, one after the other, and then which of them are promoted.

use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::row::Cause;
use tierce_cib::values::INFINITY;

use super::colocation::Select;

impl Cluster<'_> {
    pub(super) fn assign_clone(&mut self, clone: RscIx) {
        if !self.rscs[clone].provisional || self.rscs[clone].assigning {
            return;
        }
        self.rscs[clone].assigning = true;
        if self.rscs[clone].promotable {
            self.add_promotion_scores(clone);
        }
        for ix in self.this_with(clone) {
            let primary = self.colocations[ix].primary;
            self.assign(primary, None, true);
        }
        for ix in self.with_this(clone) {
            let col = self.colocations[ix].clone();
            if !self.has_influence(&col) {
                continue;
            }
            let factor = f64::from(col.score) / f64::from(INFINITY);
            let mut row = self.rscs[clone].allowed.clone();
            let select = Select { active: true, positive: true, ..Select::default() };
            self.add_wishes(col.dependent, clone, &mut row, Some(ix), factor, select);
            self.rscs[clone].allowed = row;
            self.rscs[clone].allowed.tell(Cause::Wanted(ix));
        }
        let (max, per_node) = (self.rscs[clone].clone_max, self.rscs[clone].clone_node_max);
        self.assign_instances(clone, max, per_node);
        if self.rscs[clone].promotable {
            self.choose_promoted(clone);
        }
        self.rscs[clone].provisional = false;
        self.rscs[clone].assigning = false;
    }
}
