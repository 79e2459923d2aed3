//! Liveness as reachability: from a state on nothing goes wrong any more, and a leader comes whose
//! log is final everywhere. One schedule is enough to show that it can be reached.

use tierce_ticket::ids::MemberId;
use tierce_ticket::ledger::LedgerMessage;

use super::action::{Act, happen};
use super::scope::{Fault, Scope};
use super::state::Cluster;

/// Messages that one change of leader may cost, far more than it does.
const MESSAGES: usize = 400;

/// Whether all voters come to agree with a leader on a log that is final to its end.
pub fn finds_a_leader(scope: &Scope, from: &Cluster) -> bool {
    let scope = good(scope);
    let mut c = Cluster { budget: [u8::MAX; Fault::COUNT], ..from.clone() };
    c = until_quiet(&scope, c);
    for i in (0..c.nodes.len()).cycle().take(2 * c.nodes.len()) {
        if is_well(&c) {
            return true;
        }
        if let Some(next) = happen(&scope, &c, &Act::Silence(i), None) {
            c = until_quiet(&scope, next);
        }
    }
    is_well(&c)
}

/// The first member campaigns, and everything arrives.
pub fn led_by_first(scope: &Scope, c: Cluster) -> Cluster {
    let scope = good(scope);
    let c = Cluster { budget: [1; Fault::COUNT], ..c };
    let led = happen(&scope, &c, &Act::Silence(0), None).unwrap_or(c);
    Cluster { signs: 0, ..until_quiet(&scope, led) }
}

fn good(scope: &Scope) -> Scope {
    Scope { syncs_at_once: true, pre_votes_travel: false, ..scope.clone() }
}

fn is_well(c: &Cluster) -> bool {
    let newest = c.nodes.iter().filter(|n| n.ledger.leader() == Some(n.id));
    let Some(leader) = newest.max_by_key(|n| n.ledger.ballot()) else { return false };
    let last = leader.ledger.last_index();
    let voters = leader.ledger.configuration().0.voter_ids();
    let follows = |id: &MemberId| {
        let l = &c.nodes[id.0 as usize - 1].ledger;
        l.commit() == last && l.ballot() == leader.ledger.ballot()
    };
    leader.ledger.commit() == last && voters.iter().all(follows)
}

/// All records become durable, all messages arrive, and leaders speak twice.
fn until_quiet(scope: &Scope, mut c: Cluster) -> Cluster {
    for beat in [false, true, true] {
        for i in 0..c.nodes.len() {
            while !c.nodes[i].unsynced.is_empty() && c.broken.is_none() {
                c = happen(scope, &c, &Act::Sync(i), None).unwrap_or(c);
            }
            if beat && c.leads(i) {
                c = happen(scope, &c, &Act::Beat(i), None).unwrap_or(c);
            }
        }
        for _ in 0..MESSAGES {
            let Some(first) = c.net.first() else { break };
            let asks = matches!(first.message, LedgerMessage::Vote { .. });
            match happen(scope, &c, &Act::Deliver { at: 0, quiet: asks }, None) {
                Some(next) => c = next,
                None => {
                    c.net.remove(0);
                }
            }
        }
    }
    c
}
