//! Counterexamples for people: one aligned line for each action, with times.

use std::fmt::Write as _;

use tierce_ticket::entry::FenceTarget;

use crate::action::Act;
use crate::clock::{SLOW, holder, voter};
use crate::scope::name;
use crate::world::{Msg, World};

/// One state in one line: for each member its clock, who runs, how far it has applied, promises.
pub fn picture(w: &World) -> String {
    let mut s = String::new();
    for (i, m) in w.members.iter().enumerate() {
        let state = match (m.admitted, m.up, m.paused) {
            (false, ..) => "out",
            (_, false, _) => "down",
            (.., true) => "frozen",
            _ => "",
        };
        let pace = if m.rate == SLOW { "slow" } else { "fast" };
        let _ = write!(s, "{}{{{pace} {}/{}", name(i), m.applied, w.log.len());
        for session in &w.log.sessions {
            let left = m.promises.remaining(voter(m.clock), *session).as_millis();
            if left > 0 {
                let _ = write!(s, " s{session}:{left}");
            }
        }
        if let Some(site) = &m.site {
            let d = site.holder.deadline_d().map_or(0, |d| d.since(holder(m.clock)).as_millis());
            let _ = write!(s, " D:{d}");
        }
        let runs = if w.runs(i) { " RUNS" } else { "" };
        let _ = write!(s, "{runs}{}{state}}} ", if state.is_empty() { "" } else { " " });
    }
    for (v, target, _) in &w.votes {
        let what = match target {
            FenceTarget::Session(s) => format!("s{s}"),
            FenceTarget::Ticket(_, t) => format!("term{t}"),
        };
        let _ = write!(s, "vote({}:{what}) ", name(v.0 as usize - 1));
    }
    s.trim_end().to_owned()
}

/// An action in words, as seen from the state in which it happens.
pub fn words(w: &World, act: &Act) -> String {
    let age = |site: usize, sent: u64| (w.members[site].clock - sent) / w.members[site].rate.0;
    match act {
        Act::Deliver(n) | Act::Command(n, _) | Act::Answer(n) => match &w.net[*n] {
            Msg::Renew { site, to, sent, renew } => format!(
                "renewal of {} (session {}, sent {} ticks ago) reaches {}",
                name(*site),
                renew.session,
                age(*site, *sent),
                name(to.0 as usize - 1)
            ),
            Msg::Answer { site, from, sent, .. } => format!(
                "answer of {} (to what was sent {} ticks ago) reaches {}",
                name(from.0 as usize - 1),
                age(*site, *sent),
                name(*site)
            ),
            Msg::Command(op) => format!("decided: {op:?}"),
            Msg::Pull { .. } => "the coordinator answers its node".to_owned(),
            Msg::Remaining { remaining, .. } => {
                format!("the node hears: {:?} left", remaining.left)
            }
        },
        Act::Tick => "one tick".to_owned(),
        Act::Vote(i, target, device) => {
            let on = if *device { " on a device's proof" } else { "" };
            format!("{} votes to fence {target:?}{on}", name(*i))
        }
        Act::Decide(i) => format!("{} decides as leader", name(*i)),
        Act::Apply(i) => format!("{} applies entry {}", name(*i), w.members[*i].applied + 1),
        other => format!("{other:?}"),
    }
}

/// A whole story.
pub fn tell(path: &[(World, Option<Act>)]) -> String {
    let mut out = String::new();
    let mut ticks = 0;
    for (w, act) in path {
        let Some(act) = act else {
            let _ = writeln!(out, "{ticks:>4}  {:<64}  {}", "END", picture(w));
            break;
        };
        let _ = writeln!(out, "{ticks:>4}  {:<64}  {}", words(w, act), picture(w));
        ticks += u32::from(*act == Act::Tick);
    }
    for n in crate::scope::FIRST_ENTRIES + 1..=path.last().map_or(0, |(w, _)| w.log.len()) {
        if let Some((w, _)) = path.last() {
            let _ = writeln!(out, "      entry {n}: {:?}", w.log.events(n));
        }
    }
    out
}
