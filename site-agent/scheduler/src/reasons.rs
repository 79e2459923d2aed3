//! Why a resource is where it is: the constraints and scores that spoke for and against each node, as data.

use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::plan::Plan;

/// One thing that spoke for or against a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A location constraint, a failure, a health score or a ticket that is missing gave a node a score.
    Location {
        /// The constraint's id, or the name of the rule that acted.
        id: String,
        /// The node.
        node: String,
        /// The score.
        score: i32,
    },
    /// It goes along with another resource, or stays away from it.
    Colocation {
        /// The constraint's id.
        id: String,
        /// The other resource.
        with: String,
        /// The score.
        score: i32,
    },
    /// It needs a ticket.
    Ticket {
        /// The constraint's id.
        id: String,
        /// The ticket.
        ticket: String,
        /// Whether this site has it and uses it.
        usable: bool,
    },
    /// One of its actions happens, or can not, because of something.
    Action {
        /// The operation's key.
        key: String,
        /// Why.
        why: String,
    },
}

impl Plan<'_> {
    /// All that spoke about a resource and the collectives that it is in; empty if there is no such resource.
    pub fn reasons(&self, resource: &str) -> Vec<Reason> {
        let c = &self.cluster;
        let mut found = Vec::new();
        let mut at = c.rsc_by_id.get(resource).copied();
        while let Some(rsc) = at {
            collect(c, rsc, &mut found);
            at = c.rscs[rsc].parent;
        }
        found
    }
}

fn collect(c: &Cluster<'_>, rsc: RscIx, found: &mut Vec<Reason>) {
    let r = &c.rscs[rsc];
    for ix in &r.locations {
        let location = &c.locations[*ix];
        for (node, score) in &location.nodes {
            let node = c.nodes[*node].name.to_string();
            found.push(Reason::Location { id: location.id.to_string(), node, score: *score });
        }
    }
    for ix in &r.this_with {
        let col = &c.colocations[*ix];
        let with = c.rscs[col.primary].id.clone();
        found.push(Reason::Colocation { id: col.id.to_string(), with, score: col.score });
    }
    for position in &r.tickets {
        let used = &c.ticket_uses[*position];
        let usable = c.tickets.get(used.ticket).is_some_and(|t| t.granted && !t.standby);
        found.push(Reason::Ticket {
            id: used.id.to_owned(),
            ticket: used.ticket.to_owned(),
            usable,
        });
    }
    for ix in &c.rsc_actions[rsc.0 as usize] {
        let a = &c.actions[*ix];
        if let Some(why) = a.reason.as_ref().filter(|_| !a.optional) {
            found.push(Reason::Action { key: a.key.to_string(), why: why.clone() });
        }
    }
}
