//! Liveness as reachability: from a state on nothing goes wrong any more, and within a bounded time
//! the ticket runs somewhere. One schedule is enough to show that it can be reached; the simulator
//! shows that real members find it.

use tierce_ticket::entry::FenceTarget;

use crate::action::{Act, happen, possible};
use crate::clock::voter;
use crate::scope::{FIRST_ENTRIES, Fault, Scope};
use crate::world::{Msg, World};

/// Ticks until it must run: two lapses of the longest T at the slowest clock, with a quarantine.
const TICKS: usize = 30;
/// Things that may happen between two ticks, far more than do.
const STEPS: usize = 200;

/// Whether the ticket runs at exactly one site in the end.
pub fn finds_a_holder(scope: &Scope, from: &World) -> bool {
    let scope = Scope { max_log: from.log.len() + FIRST_ENTRIES + 10, ..scope.clone() };
    let mut w = from.clone();
    w.budget = [0; Fault::COUNT];
    for _ in 0..TICKS {
        for _ in 0..STEPS {
            let Some(next) = good_step(&scope, &w) else { break };
            w = next;
        }
        if w.running() == 1 {
            return true;
        }
        match happen(&scope, &w, &Act::Tick, None) {
            Some(next) => w = next,
            None => return false,
        }
    }
    false
}

/// The next thing that happens when all goes well; `None`: time moves on.
fn good_step(scope: &Scope, w: &World) -> Option<World> {
    let mut acts = Vec::new();
    possible(scope, w, None, &mut acts);
    let rank = |a: &Act| match a {
        Act::Resume(_) => Some(0),
        Act::Restart(_, true) => Some(1),
        Act::Apply(_) => Some(2),
        Act::Deliver(n) if !matches!(w.net[*n], Msg::Remaining { .. }) => Some(3),
        Act::Stopped(_) => Some(4),
        Act::Command(..) => Some(5),
        Act::Grant | Act::Decide(_) => Some(6),
        // Asked for only when the session's own site has not renewed here for long.
        Act::Vote(i, FenceTarget::Session(s), false) => {
            let m = &w.members[*i];
            m.promises.remaining(voter(m.clock), *s).is_zero().then_some(7)
        }
        _ => None,
    };
    let mut ranked: Vec<(u8, &Act)> = acts.iter().filter_map(|a| Some((rank(a)?, a))).collect();
    ranked.sort_by_key(|(r, _)| *r);
    ranked.into_iter().find_map(|(_, a)| {
        // A renewal that may arrive again is delivered for good here.
        let once = Scope { duplicates: false, ..scope.clone() };
        happen(&once, w, a, None)
    })
}
