//! Steps that wait for each other: they would never be done, so there is no plan.
//!
//! Only a configuration that orders two things both ways makes such a graph. Pacemaker hands it on all the same, and its transition ends
//! there ("An invalid transition was produced"). While nothing of the loop is to be done, it harms nobody and is not looked for.

use crate::Error;
use crate::arena::{ActIx, Key as _, OrdIx};
use crate::plan::Plan;

/// Names that an error holds at most.
const NAMES: usize = 8;

impl Plan<'_> {
    /// Refuses a graph with a loop, with the orderings that make it.
    pub(crate) fn refuse_loops(&self) -> Result<(), Error> {
        let order = self.order();
        if order.len() == self.graph.synapses.len() {
            return Ok(());
        }
        let mut stuck = vec![false; self.cluster.actions.len()];
        for synapse in &self.graph.synapses {
            stuck[synapse.action.position()] = true;
        }
        for done in order {
            stuck[self.graph.synapses[done].action.position()] = false;
        }
        let around = self.around(&stuck);
        Err(self.loop_error(&around))
    }

    /// The steps of a loop: from one that is stuck always to what it waits for.
    fn around(&self, stuck: &[bool]) -> Vec<ActIx> {
        let is_stuck = |a: &ActIx| stuck[a.position()];
        let mut way: Vec<ActIx> = Vec::new();
        let mut at = self.graph.synapses.iter().map(|s| s.action).find(is_stuck);
        while let Some(ix) = at {
            if let Some(begin) = way.iter().position(|w| *w == ix) {
                return way.split_off(begin);
            }
            way.push(ix);
            at = self.inputs(ix).iter().copied().find(is_stuck);
        }
        way
    }

    fn loop_error(&self, around: &[ActIx]) -> Error {
        let c = &self.cluster;
        let mut orders: Vec<OrdIx> = Vec::new();
        for (i, then) in around.iter().enumerate() {
            let first = around[(i + 1) % around.len()];
            let between = c.actions[*then].before.iter().filter(|e| e.other == first);
            orders.extend(between.filter_map(|e| e.origin));
        }
        orders.sort_unstable();
        orders.dedup();
        let more = |n: usize| if n > NAMES { ", …" } else { "" };
        let steps: Vec<String> = around.iter().take(NAMES).map(|ix| c.in_words(*ix)).collect();
        let line = |ix: OrdIx| c.order_xml[ix].line();
        let named: Vec<String> = orders
            .iter()
            .take(NAMES)
            .map(|ix| format!("{} (line {})", c.order_xml[*ix].id().unwrap_or(""), line(*ix)))
            .collect();
        Error::Invalid {
            what: format!(
                "steps wait for each other: {}{}: by the orderings {}{}",
                steps.join(", "),
                more(around.len()),
                named.join(", "),
                more(orders.len())
            ),
            place: orders.first().map_or_else(String::new, |ix| format!("line {}", line(*ix))),
        }
    }
}
