//! Waiting for the real end of a grant, move or revoke.
//!
//! "Done" is said when it is done: the ledger decided *and*, where a site was granted the ticket,
//! its resources run there. For this site the runner says so; for another one its agent tells in an
//! attribute (see [`crate::told`]). When the wait ends first, the client hears what was reached and
//! gets no zero: booth's `grant` that returned 0 minutes before the real grant must not come back.

use std::time::Duration;

use tierce_ticket::docket::{Holding, Ticket};
use tierce_ticket::ids::{LogIndex, MemberName, Term, TicketName};
use tierce_wire::control::Reply;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::answer::{self, Failure, code};
use crate::facts::TicketFacts;
use crate::limits::{MAX_WAIT, PROGRESS_EVERY};
use crate::shared::Shared;
use crate::told::{ATTRIBUTE, Told};
use crate::view::words::{about, ms};

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// That the ticket runs at a site, under a term decided at or after `index`.
    Runs {
        /// Where.
        to: MemberName,
        /// The decision that was asked for.
        index: LogIndex,
    },
    /// That nobody holds it under the term that was asked back.
    Free {
        /// The term.
        term: Option<Term>,
        /// The decision that was asked for.
        index: LogIndex,
    },
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Reached.
    Reached { text: String, term: Option<Term> },
    /// It cannot be reached any more.
    Over { code: u8, error: String, effect: String },
    /// Not yet; what for.
    Wait(String),
}

/// Waits, and says each second what for and until when.
pub(super) async fn wait(
    shared: &Shared,
    name: &TicketName,
    goal: Goal,
    begun: Instant,
    wait_ms: u64,
    progress: &mpsc::Sender<Reply>,
) -> Result<Reply, Failure> {
    let limit = Duration::from_millis(wait_ms).min(MAX_WAIT);
    let deadline = begun + limit;
    let mut changed = shared.changed.subscribe();
    let mut speak = begun + PROGRESS_EVERY;
    loop {
        changed.borrow_and_update();
        let asked = name.clone();
        let facts = shared
            .member
            .read(move |m, _| TicketFacts::gather(m, &asked))
            .await
            .ok_or_else(answer::ended)?;
        let told = facts.ticket.as_ref().and_then(|t| told_of(shared, t, &goal));
        let waits_for = match step(&facts, &goal, name, told.as_ref()) {
            Step::Reached { text, term } => {
                let index = Some(match &goal {
                    Goal::Runs { index, .. } | Goal::Free { index, .. } => index.0,
                });
                let took_ms = ms(begun.elapsed());
                return Ok(Reply::Done { text, term: term.map(|t| t.0), index, took_ms });
            }
            Step::Over { code, error, effect } => {
                let (inspect, safer) = (answer::inspect(Some(name.as_str())), safer(code, name));
                return Err(Failure::from(answer::error(code, error, effect, inspect, safer)));
            }
            Step::Wait(text) => text,
        };
        let now = Instant::now();
        if now >= deadline {
            return Err(Failure::from(answer::error(
                code::TIMEOUT,
                format!("not finished after {}: {waits_for}", about(limit)),
                "it was decided and goes on by itself; only the waiting has ended",
                answer::inspect(Some(name.as_str())),
                format!("wait longer: tierce tickets show {name}, or tierce status -w"),
            )));
        }
        if now >= speak {
            speak = now + PROGRESS_EVERY;
            let left = about(deadline.saturating_duration_since(now));
            let text = format!("{waits_for}; waiting for another {left} at the most");
            let _ = progress.send(Reply::Progress { text }).await;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep_until(speak.min(deadline)) => {}
        }
    }
}

fn safer(code: u8, name: &TicketName) -> String {
    match code {
        code::ERROR => {
            format!("repair what failed, or move it: tierce tickets plan {name} --to SITE")
        }
        _ => "look at the present state, then ask again".to_owned(),
    }
}

/// What is known of the resources at the goal's site.
fn told_of(shared: &Shared, t: &Ticket, goal: &Goal) -> Option<Told> {
    let Goal::Runs { to, .. } = goal else { return None };
    if *to == shared.name {
        return shared.state().told.get(&t.id).cloned();
    }
    let mut own = t.attributes.iter().filter(|((s, n), _)| s == to && n.as_str() == ATTRIBUTE);
    own.find_map(|(_, value)| Told::read(value))
}

fn step(facts: &TicketFacts, goal: &Goal, name: &TicketName, told: Option<&Told>) -> Step {
    if !facts.quorate {
        return Step::Wait(format!("the outcome cannot be seen here: {}", facts.why_not));
    }
    let Some(t) = &facts.ticket else {
        return over(code::NO_SUCH, format!("{name} was removed meanwhile"), "nobody holds it");
    };
    match goal {
        Goal::Runs { to, index } => step_runs(t, to, *index, facts, told),
        Goal::Free { term, .. } => step_free(t, *term),
    }
}

fn over(code: u8, error: impl Into<String>, effect: impl Into<String>) -> Step {
    Step::Over { code, error: error.into(), effect: effect.into() }
}

fn step_runs(
    t: &Ticket,
    to: &MemberName,
    index: LogIndex,
    facts: &TicketFacts,
    told: Option<&Told>,
) -> Step {
    let name = &t.name;
    match &t.holding {
        Holding::Held { site, term, .. } if site == to && term.index() >= index => {
            match told.filter(|told| told.term == *term).map(|told| &told.result) {
                Some(Ok(took)) => Step::Reached {
                    text: format!(
                        "{name} runs at {to}, term {term}; its start took {}",
                        about(*took)
                    ),
                    term: Some(*term),
                },
                Some(Err(why)) => over(
                    code::ERROR,
                    format!("{name} was granted to {to}, but its resources did not start: {why}"),
                    format!("{to} holds it under term {term} and does not run it"),
                ),
                None => Step::Wait(format!(
                    "{name} is granted to {to} under term {term}; its resources are starting there"
                )),
            }
        }
        Holding::Held { site, term, .. } if term.index() >= index => over(
            code::NOT_NOW,
            format!("{name} went to {site} instead of {to}"),
            format!("{site} holds it under term {term}"),
        ),
        Holding::Held { site, handover: Some(h), .. } if h.to.as_ref() == Some(to) => {
            Step::Wait(format!("{site} stops the resources of {name} and then hands it to {to}"))
        }
        Holding::Held { site, handover: Some(_), .. } => over(
            code::NOT_NOW,
            format!("the handover of {name} to {to} was replaced by another"),
            format!("{site} gives it up, {to} does not get it"),
        ),
        Holding::Held { site, term, handover: None, .. } => over(
            code::NOT_NOW,
            format!("the handover of {name} was called off"),
            format!("{site} keeps it under term {term}"),
        ),
        Holding::Free { wanted: true, .. } => {
            Step::Wait(format!("{name} is free and waits until {to} may hold it"))
        }
        // The grant itself may not be visible at this moment of the log yet: it was decided.
        Holding::Free { .. } if facts.holder().is_none() && t.last_term.index() < index => {
            Step::Wait(format!("{name} is to be granted to {to}"))
        }
        Holding::Free { .. } => over(
            code::NOT_NOW,
            format!("{name} was given up again before it ran at {to}"),
            "nobody holds it",
        ),
    }
}

fn step_free(t: &Ticket, asked: Option<Term>) -> Step {
    let name = &t.name;
    match &t.holding {
        Holding::Free { .. } => Step::Reached {
            text: format!("{name} is stopped and released; nobody holds it"),
            term: None,
        },
        Holding::Held { term, site, .. } if asked.is_some_and(|a| *term > a) => Step::Reached {
            text: format!("it was given up; meanwhile {site} was granted {name} under term {term}"),
            term: None,
        },
        Holding::Held { site, handover: None, term, .. } => over(
            code::NOT_NOW,
            format!("the revoke of {name} was called off"),
            format!("{site} keeps it under term {term}"),
        ),
        Holding::Held { site, taking_back: true, .. } => Step::Wait(format!(
            "{name} is being taken back from {site}; the voters' promises on it run out"
        )),
        Holding::Held { site, .. } => {
            Step::Wait(format!("{site} stops the resources of {name} and then releases it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use tierce_ticket::docket::{FreeBecause, Handover};
    use tierce_ticket::entry::{LossPolicy, Mode, Policy, Proof, Regrant};
    use tierce_ticket::ids::{SessionId, TicketId};

    use super::*;

    const NOBODY: &str = "nobody";

    fn site(s: &str) -> MemberName {
        s.parse().unwrap()
    }

    fn ticket(holding: Holding, last: u64) -> TicketFacts {
        let policy = Policy {
            mode: Mode::Manual,
            regrant: Regrant::Lapse,
            loss: LossPolicy::Stop,
            prefer: Vec::new(),
            one_move_per: Duration::ZERO,
            require: BTreeMap::new(),
            max_lag: None,
            stop_budget: Duration::from_millis(300),
        };
        let ticket = Ticket {
            id: TicketId(1),
            name: "web".parse().unwrap(),
            policy,
            holding,
            last_term: Term(last),
            hold: None,
            proposed: None,
            attributes: BTreeMap::new(),
            since_ms: 0,
            history: VecDeque::new(),
        };
        TicketFacts { ticket: Some(ticket), quorate: true, why_not: String::new() }
    }

    fn held(by: &str, term: u64, handover: Option<&str>) -> TicketFacts {
        let handover = handover
            .map(|to| Handover { to: (to != NOBODY).then(|| site(to)), note: String::new() });
        let holding = Holding::Held {
            session: SessionId(1),
            site: site(by),
            term: Term(term),
            proof: Proof::New,
            handover,
            taking_back: false,
        };
        ticket(holding, term)
    }

    fn free(wanted: bool, last: u64) -> TicketFacts {
        ticket(
            Holding::Free {
                because: FreeBecause::Released { by: site("paris") },
                wanted,
                successor: None,
            },
            last,
        )
    }

    fn at(facts: &TicketFacts, goal: &Goal, told: Option<&Told>) -> Step {
        step(facts, goal, &"web".parse().unwrap(), told)
    }

    #[test]
    fn a_move_is_done_only_when_the_successor_says_that_it_runs() {
        let goal = Goal::Runs { to: site("rome"), index: LogIndex(10) };
        let wait = |s: Step| matches!(s, Step::Wait(_));
        assert!(wait(at(&held("paris", 5, Some("rome")), &goal, None)));
        assert!(wait(at(&free(true, 5), &goal, None)));
        assert!(wait(at(&held("rome", 12, None), &goal, None)));
        let old = Told { term: Term(3), result: Ok(Duration::ZERO) };
        assert!(wait(at(&held("rome", 12, None), &goal, Some(&old))), "an older start counted");
        let now = Told { term: Term(12), result: Ok(Duration::ZERO) };
        let done = at(&held("rome", 12, None), &goal, Some(&now));
        assert!(matches!(done, Step::Reached { term: Some(Term(12)), .. }), "{done:?}");
        let failed = Told { term: Term(12), result: Err("exit 1".to_owned()) };
        let step = at(&held("rome", 12, None), &goal, Some(&failed));
        assert!(matches!(step, Step::Over { code: code::ERROR, .. }), "{step:?}");
    }

    #[test]
    fn a_move_that_went_elsewhere_or_was_called_off_ends_without_success() {
        let goal = Goal::Runs { to: site("rome"), index: LogIndex(10) };
        for facts in [
            held("paris", 5, None),
            held("paris", 5, Some(NOBODY)),
            held("oslo", 12, None),
            free(false, 12),
        ] {
            let step = at(&facts, &goal, None);
            assert!(matches!(step, Step::Over { code: code::NOT_NOW, .. }), "{step:?}");
        }
    }

    #[test]
    fn a_revoke_is_done_when_nobody_holds_it() {
        let goal = Goal::Free { term: Some(Term(5)), index: LogIndex(10) };
        assert!(matches!(at(&held("paris", 5, Some(NOBODY)), &goal, None), Step::Wait(_)));
        assert!(matches!(at(&free(false, 5), &goal, None), Step::Reached { .. }));
        assert!(matches!(at(&held("rome", 12, None), &goal, None), Step::Reached { .. }));
        assert!(matches!(at(&held("paris", 5, None), &goal, None), Step::Over { .. }));
    }

    #[test]
    fn without_a_majority_nothing_is_said_to_be_done() {
        let goal = Goal::Free { term: Some(Term(5)), index: LogIndex(10) };
        let facts = TicketFacts { quorate: false, ..free(false, 5) };
        assert!(matches!(at(&facts, &goal, None), Step::Wait(_)));
    }
}
