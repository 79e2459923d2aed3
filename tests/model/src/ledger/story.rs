//! Counterexamples for people: one line for each action.

use std::fmt::Write as _;

use tierce_ticket::ids::LogIndex;
use tierce_ticket::ledger::LedgerRole;

use super::action::Act;
use super::state::Cluster;

/// One state in one line: role, ballot, log with its ballots, commit index, records not durable.
pub fn picture(c: &Cluster) -> String {
    let mut s = String::new();
    for n in &c.nodes {
        let l = &n.ledger;
        let role = match l.role() {
            LedgerRole::Follower => "follows",
            LedgerRole::PreCandidate => "asks",
            LedgerRole::Candidate => "campaigns",
            LedgerRole::Leader => "LEADS",
        };
        let _ = write!(s, "{}{{{role} b{} ", n.id, l.ballot());
        if let Some(snapshot) = l.snapshot() {
            let _ = write!(s, "[..{}] ", snapshot.last_index);
        }
        for e in l.entries_between(LogIndex(2), l.last_index()) {
            let _ = write!(s, "{}@{} ", e.index, e.ballot);
        }
        let _ = write!(s, "c{}", l.commit());
        if !n.unsynced.is_empty() {
            let _ = write!(s, " unsynced {}", n.unsynced.len());
        }
        s.push_str("} ");
    }
    s.trim_end().to_owned()
}

/// An action in words, as seen from the state in which it happens.
pub fn words(c: &Cluster, act: &Act) -> String {
    match act {
        Act::Deliver { at, quiet } => {
            let late = if *quiet { ", after a silence" } else { "" };
            let m = &c.net[*at];
            format!("{} to {}: {}{late}", m.from, m.to, m.message)
        }
        Act::Duplicate(at) => {
            let m = &c.net[*at];
            format!("{} to {}, not for the last time: {}", m.from, m.to, m.message)
        }
        Act::Crash(i, landed) => format!("{} crashes, {landed} records landed", c.nodes[*i].id),
        Act::Silence(i) => format!("silence at {}", c.nodes[*i].id),
        Act::Beat(i) => format!("heartbeat of {}", c.nodes[*i].id),
        Act::Sync(i) => format!("a record of {} becomes durable", c.nodes[*i].id),
        Act::Propose(i) => format!("{} proposes", c.nodes[*i].id),
        Act::Read(i) => format!("a read is asked of {}", c.nodes[*i].id),
        Act::Compact(i) => format!("{} takes a snapshot", c.nodes[*i].id),
        Act::Change(i) => format!("{} changes the voters", c.nodes[*i].id),
    }
}

/// A whole story.
pub fn tell(path: &[(Cluster, Option<Act>)]) -> String {
    let mut out = String::new();
    for (c, act) in path {
        let what = act.as_ref().map_or_else(|| "END".to_owned(), |a| words(c, a));
        let _ = writeln!(out, "{what:<64}  {}", picture(c));
    }
    out
}
