//! Fail counts and migration threshold.
//!
//! The executor's failures are counted in transient attributes, `fail-count-RSC#OP_INTERVAL`, with the time of the last one beside
//! it. An instance of an anonymous clone shares the count of its name.

use tierce_cib::values::{self, INFINITY, add_scores};

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{FailCount, Kind};

/// Strips an instance number.
pub(crate) fn base_name(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((base, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            base
        }
        _ => name,
    }
}

/// Takes an attribute's name apart into resource and operation.
fn split<'a>(name: &'a str, prefix: &str) -> Option<(&'a str, Option<&'a str>)> {
    let rest = name.strip_prefix(prefix)?;
    Some(rest.split_once('#').map_or((rest, None), |(rsc, op)| (rsc, Some(op))))
}

impl<'a> Cluster<'a> {
    /// Reads the counts of a node from its attributes.
    pub(super) fn index_fail_counts(&mut self, node: NodeIx) {
        let attributes = &self.nodes[node].attributes;
        let mut counts: Vec<FailCount<'a>> = attributes
            .iter()
            .filter_map(|(name, value)| {
                let (resource, operation) = split(name, "fail-count-")?;
                let count = values::score(value)?;
                Some(FailCount { resource, operation, count })
            })
            .collect();
        counts.sort_by(|a, b| (a.resource, a.operation).cmp(&(b.resource, b.operation)));
        self.nodes[node].fail_counts = counts;
    }

    /// Whether a count's resource name means this resource.
    fn counts_for(&self, rsc: RscIx, name: &str) -> bool {
        let r = &self.rscs[rsc];
        if r.instance.is_some() && self.anonymous(rsc) {
            base_name(name) == r.base
        } else {
            name == r.id
        }
    }

    /// Failures of a primitive on a node, whether or not they have expired.
    pub(crate) fn raw_fail_count(&self, rsc: RscIx, node: NodeIx) -> i32 {
        let mut sum = 0;
        for fc in &self.nodes[node].fail_counts {
            if fc.count != 0 && self.counts_for(rsc, fc.resource) {
                sum = add_scores(sum, fc.count);
            }
        }
        sum
    }

    /// When the last failure of a primitive on a node was.
    pub(crate) fn last_failure(&self, rsc: RscIx, node: NodeIx) -> i64 {
        self.nodes[node]
            .attributes
            .iter()
            .filter_map(|(name, value)| {
                let (resource, _) = split(name, "last-failure-")?;
                self.counts_for(rsc, resource).then(|| values::leading_integer(value).unwrap_or(0))
            })
            .max()
            .unwrap_or(0)
    }

    /// Failures that count now. Those of a resource inside count for its container.
    pub(crate) fn fail_count(&self, rsc: RscIx, node: NodeIx, expiring: bool) -> i32 {
        if self.nodes[node].fail_counts.is_empty() {
            return 0;
        }
        let mut count = self.raw_fail_count(rsc, node);
        let r = &self.rscs[rsc];
        if expiring && count > 0 && r.failure_timeout > 0 {
            let last = self.last_failure(rsc, node);
            let blocked = self.blocking_failures.contains(&(rsc, node));
            if !blocked && last > 0 && self.now.epoch() > last + r.failure_timeout {
                count = 0;
            }
        }
        for filler in &r.fillers {
            count = add_scores(count, self.fail_count(*filler, node, expiring));
        }
        count
    }

    /// Whether a primitive has failed too often on a node; then also what must not run there.
    pub(crate) fn threshold_reached(&self, rsc: RscIx, node: NodeIx) -> Option<RscIx> {
        if self.nodes[node].fail_counts.is_empty() || self.rscs[rsc].kind != Kind::Primitive {
            return None;
        }
        let r = &self.rscs[rsc];
        if r.failure_ignored {
            // To ignore a failure is not to count it either.
            return None;
        }
        let count = self.fail_count(rsc, node, true);
        if count <= 0 {
            return None;
        }
        let threshold = r.migration_threshold;
        if count < INFINITY && (threshold == 0 || threshold > count || threshold >= INFINITY) {
            return None;
        }
        if count >= INFINITY && threshold == 0 {
            return None;
        }
        let above = self.anonymous(rsc).then(|| self.top_of(rsc));
        Some(above.unwrap_or(rsc))
    }
}
