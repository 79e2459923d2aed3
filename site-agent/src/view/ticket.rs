//! One ticket's line: its state in one word, and since, until, because, next.

use std::collections::BTreeMap;
use std::time::Duration;

use tierce_ticket::docket::{Docket, FreeBecause, Hold, Holding, Ticket};
use tierce_ticket::entry::{FenceTarget, LossPolicy, Mode, Policy, Proof, Regrant};
use tierce_ticket::ids::{MemberName, SessionId, Term};
use tierce_wire::control::{PolicyView, StartView, TicketView};

use super::Scene;
use super::words::{about, ms, utc};
use crate::config::Span;
use crate::runner::TicketRun;
use crate::told::{ATTRIBUTE, Told};

/// State, until, because, next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) state: &'static str,
    pub(crate) until: String,
    pub(crate) because: String,
    pub(crate) next: String,
}

fn line(
    state: &'static str,
    until: impl Into<String>,
    because: impl Into<String>,
    next: impl Into<String>,
) -> Line {
    Line { state, until: until.into(), because: because.into(), next: next.into() }
}

/// A holder as the docket shows it.
struct Held<'a> {
    session: SessionId,
    site: &'a MemberName,
    term: Term,
    proof: Proof,
}

impl Scene {
    /// The whole view of one ticket.
    pub(crate) fn ticket_view(&self, t: &Ticket) -> TicketView {
        let Line { state, until, because, next } = self.line(t);
        let known = state != "unknown";
        let (site, term, proof) = match &t.holding {
            Holding::Held { site, term, proof, .. } if known => {
                (Some(site.to_string()), Some(term.0), Some(proof.to_string()))
            }
            _ => (None, None, None),
        };
        let run = self.local.runner.tickets.get(t.name.as_str());
        let blip = self.facts.timing().map_or(Duration::ZERO, |timing| {
            timing.blip_budget(t.policy.stop_budget.min(timing.stop_budget))
        });
        TicketView {
            name: t.name.to_string(),
            state: state.to_owned(),
            site,
            term,
            since: utc(t.since_ms),
            until,
            because,
            next,
            policy: policy_view(&t.policy),
            protection: self.protection(t),
            blip_budget_ms: ms(blip),
            sites: self.against(t),
            attributes: self.attributes(t),
            resources: run.map(|r| r.resources.clone()).unwrap_or_default(),
            proof,
            hold: t.hold.as_ref().map(|h| {
                match h {
                    Hold::Operator(_) => "operator",
                    Hold::OneMove { .. } => "one-move",
                }
                .to_owned()
            }),
            starts: starts(t),
        }
    }

    fn line(&self, t: &Ticket) -> Line {
        if !self.facts.quorate() {
            return self.line_alone(t);
        }
        match &t.holding {
            Holding::Held { session, site, term, proof, handover, taking_back } => {
                let held = Held { session: *session, site, term: *term, proof: *proof };
                let to = handover.as_ref().map(|h| (h.to.as_ref(), h.note.as_str()));
                self.line_held(t, &held, to, *taking_back)
            }
            Holding::Free { because, wanted, .. } => self.line_free(t, because, *wanted),
        }
    }

    /// Without a majority: what this member holds is known until its lease ends, nothing else is.
    fn line_alone(&self, t: &Ticket) -> Line {
        let why = self.facts.why_not_quorate();
        if let Some((session, _, term)) = t.holder()
            && Some(session) == self.facts.session
            && let Some(left) = self.lease_left()
        {
            let stopping = self.run_of(t).is_some_and(|r| r.phase.starts_with("stop"));
            return line(
                if stopping { "stopping" } else { "held" },
                format!("the lease ends in {} unless it is renewed", about(left)),
                format!("held here, term {term}; no majority is reached: {why}"),
                "resources stop before the lease ends unless a majority answers",
            );
        }
        let last = match t.holder() {
            Some((_, site, term)) => format!("; last known: held by {site}, term {term}"),
            None => "; last known: free".to_owned(),
        };
        let next = "ask a member that reaches a majority: tierce status";
        line("unknown", "", format!("no majority is reached: {why}{last}"), next)
    }

    fn line_held(
        &self,
        t: &Ticket,
        held: &Held<'_>,
        handover: Option<(Option<&MemberName>, &str)>,
        taking_back: bool,
    ) -> Line {
        let (site, term, name) = (held.site, held.term, &t.name);
        let ours = Some(held.session) == self.facts.session;
        let run = self.run_of(t).filter(|_| ours);
        let lease = self.lease_words(held.session, ours);
        if let Some(b) = self.local.blocked.get(&t.id)
            && b.term == term
        {
            let what = if b.stop_failed { "did not stop" } else { "did not start" };
            let next = match (b.stop_failed, t.policy.mode) {
                (true, _) => {
                    "repair it here; the node guard steps in when the lease ends".to_owned()
                }
                (false, Mode::Auto) => "the best other site is asked to take it".to_owned(),
                (false, _) => format!("tierce tickets move {name} --to SITE"),
            };
            return line("blocked", lease, format!("its resources {what} here: {}", b.why), next);
        }
        if taking_back {
            let note = handover.map_or("", |h| h.1);
            let bound = self.facts.timing().map_or(Duration::ZERO, |t| t.promise);
            return line(
                "stopping",
                format!("at the most {} after the last voter stopped extending it", about(bound)),
                format!("it is being taken back from {site}: {note}"),
                format!("{site} stops its resources; then it is free"),
            );
        }
        match handover {
            Some((Some(to), note)) => {
                return line(
                    "handover",
                    "",
                    format!("handover from {site} to {to}: {note}"),
                    self.after_handover(t, site, to),
                );
            }
            Some((None, note)) => {
                let next = format!("{site} stops its resources and releases it");
                return line("stopping", "", format!("revoked from {site}: {note}"), next);
            }
            None => {}
        }
        if run.is_some_and(|r| r.phase == "frozen") {
            let because = "the lease ended and its loss policy is freeze: it RUNS WITHOUT A TICKET";
            return line("blocked", lease, because, "reach a majority, or stop it by hand");
        }
        if run.is_some_and(|r| matches!(r.phase.as_str(), "stopping" | "stop-failed")) {
            let next = "resources stop here; with a new lease they start again";
            return line("stopping", lease, format!("this site gives way, term {term}"), next);
        }
        if self.suspected(held.session) {
            let next = match t.policy.mode {
                Mode::Auto => "once a majority's promises have run out, another site is granted it",
                _ => "once a majority's promises have run out, it is free and waits for a person",
            };
            let because = format!("{site} has not renewed its promises here lately");
            return line("suspect", lease, because, next);
        }
        let because = match held.proof {
            Proof::New => format!("granted to {site}, which is its first holder"),
            p => format!("granted to {site} on proof `{p}`"),
        };
        match &t.hold {
            Some(Hold::Operator(note)) => {
                let next = format!("tierce tickets resume {name} lets it move by itself again");
                line("hold", lease, format!("{because}; held in place: {note}"), next)
            }
            Some(Hold::OneMove { .. }) => {
                let window = about(t.policy.one_move_per);
                let next = format!(
                    "no automatic move within {window} of the last one; tierce tickets resume {name} ends it"
                );
                line("held", lease, because, next)
            }
            None => {
                let starting =
                    run.is_some_and(|r| matches!(r.phase.as_str(), "looking" | "starting"));
                let next = if starting { "its resources are starting" } else { "nothing to do" };
                line("held", lease, because, next)
            }
        }
    }

    fn after_handover(&self, t: &Ticket, site: &MemberName, to: &MemberName) -> String {
        let against = self.facts.eligible.get(&t.id).and_then(|s| s.get(to));
        match against {
            Some(Err(why)) => {
                format!("{site} stops its resources and releases it; then it waits for {to}: {why}")
            }
            _ => format!("{site} stops its resources, then {to} is granted it in the same batch"),
        }
    }

    fn line_free(&self, t: &Ticket, because: &FreeBecause, wanted: bool) -> Line {
        let name = &t.name;
        let why = match because {
            FreeBecause::New => "it was never granted".to_owned(),
            FreeBecause::Released { by } => format!("{by} released it"),
            FreeBecause::Lost { site, proof, .. } => format!("{site} was lost, proof `{proof}`"),
        };
        if let Some(missing) = t.proof_missing() {
            let (word, next) = match missing {
                Regrant::Fenced => ("fenced", "a fence device or an operator must confirm"),
                _ => ("operator", "an operator must confirm"),
            };
            let site = match because {
                FreeBecause::Lost { site, .. } => site.to_string(),
                _ => "SITE".to_owned(),
            };
            let next = format!(
                "{next} that {site} is down: tierce fence confirm {site} --note HOW_YOU_KNOW"
            );
            let because = format!("{why}; its policy asks for proof `{word}`");
            return line("waiting-proof", "", because, next);
        }
        match &t.hold {
            Some(Hold::Operator(note)) => {
                let next = format!("tierce tickets grant {name} --to SITE, or resume {name}");
                return line("hold", "", format!("{why}; held in place: {note}"), next);
            }
            Some(Hold::OneMove { .. }) => {
                let until =
                    format!("at the most {} after its last move", about(t.policy.one_move_per));
                let next = format!("tierce tickets resume {name} lets it move by itself again");
                return line("hold", until, format!("{why}; it moved by itself lately"), next);
            }
            None => {}
        }
        let grant = format!("tierce tickets grant {name} --to SITE");
        if !wanted {
            return line("free", "", why, grant);
        }
        match (t.policy.mode, &t.proposed, self.facts.eligible.get(&t.id)) {
            (Mode::Auto, _, Some(sites))
                if !sites.is_empty() && sites.values().all(Result::is_err) =>
            {
                let reasons: Vec<String> = sites
                    .iter()
                    .filter_map(|(s, e)| Some(format!("{s}: {}", e.as_ref().err()?)))
                    .collect();
                let next = "it is granted as soon as a site may hold it";
                line("blocked", "", format!("{why}; {}", reasons.join("; ")), next)
            }
            (Mode::Auto, ..) => line("free", "", why, "the best site is granted it now"),
            (Mode::Confirm, Some((to, _)), _) => {
                let next =
                    format!("tierce tickets grant {name} --to {to} confirms; silence means no");
                line("free", "", format!("{why}; proposed: {to}"), next)
            }
            (Mode::Observe, Some((to, _)), _) => {
                line("free", "", format!("{why}; mode auto would grant it to {to}"), grant)
            }
            _ => line("free", "", why, grant),
        }
    }

    // ----- pieces --------------------------------------------------------------------------

    /// Time left until this member's own deadline D, if any.
    fn lease_left(&self) -> Option<Duration> {
        let left = self.facts.deadline?.since(self.facts.now.holder);
        (!left.is_zero()).then_some(left)
    }

    fn lease_words(&self, session: SessionId, ours: bool) -> String {
        if ours {
            return match self.lease_left() {
                Some(left) => format!("the lease ends in {} unless it is renewed", about(left)),
                None => "the lease has ended".to_owned(),
            };
        }
        match self.facts.promises.get(&session) {
            Some(left) if !left.is_zero() => {
                format!("promised by this voter for {} unless it is renewed", about(*left))
            }
            _ => "no promise of this voter runs".to_owned(),
        }
    }

    fn suspected(&self, session: SessionId) -> bool {
        let run_out = self.facts.promises.get(&session).is_some_and(Duration::is_zero);
        let ours = Some(session) == self.facts.session;
        !ours && (run_out || self.facts.suspects.contains(&FenceTarget::Session(session)))
    }

    fn run_of(&self, t: &Ticket) -> Option<&TicketRun> {
        self.local.runner.tickets.get(t.name.as_str())
    }

    fn protection(&self, t: &Ticket) -> Vec<String> {
        let mut layers = self.local.runner.protection(t.name.as_str());
        if t.policy.loss == LossPolicy::Freeze {
            layers.push("FREEZE: resources keep running without the ticket".to_owned());
        }
        if let Some(why) = &self.local.runner.no_guard {
            layers.push(format!("NO GUARD: {why}"));
        }
        layers
    }

    fn against(&self, t: &Ticket) -> BTreeMap<String, String> {
        let Some(sites) = self.facts.eligible.get(&t.id) else { return BTreeMap::new() };
        let words = |e: &Result<SessionId, String>| e.as_ref().err().cloned().unwrap_or_default();
        sites.iter().map(|(s, e)| (s.to_string(), words(e))).collect()
    }

    fn attributes(&self, t: &Ticket) -> BTreeMap<String, String> {
        let own = t.attributes.iter().map(|((s, n), v)| (format!("{s}/{n}"), v.clone()));
        let docket = self.facts.docket.as_ref();
        let required = t.policy.require.keys().flat_map(|name| {
            let sites = docket.map(Docket::site_names).unwrap_or_default();
            sites.into_iter().filter_map(move |s| {
                let value = docket?.site(&s)?.attributes.get(name)?;
                Some((format!("{s}/{}", name.as_str()), value.clone()))
            })
        });
        required.chain(own).collect()
    }
}

/// What the sites told of their last starts.
fn starts(t: &Ticket) -> BTreeMap<String, StartView> {
    let told = t.attributes.iter().filter(|((_, name), _)| name.as_str() == ATTRIBUTE);
    told.filter_map(|((site, _), value)| {
        let told = Told::read(value)?;
        let took_ms = told.result.ok().map(ms);
        Some((site.to_string(), StartView { term: told.term.0, took_ms }))
    })
    .collect()
}

/// A policy in the words of the file.
pub(crate) fn policy_view(p: &Policy) -> PolicyView {
    let word = |w: &str| Some(w.to_owned());
    let require: BTreeMap<String, String> =
        p.require.iter().map(|(k, v)| (k.as_str().to_owned(), v.clone())).collect();
    PolicyView {
        mode: word(match p.mode {
            Mode::Manual => "manual",
            Mode::Observe => "observe",
            Mode::Confirm => "confirm",
            Mode::Auto => "auto",
        }),
        regrant: word(match p.regrant {
            Regrant::Lapse => "lapse",
            Regrant::Fenced => "fenced",
            Regrant::Operator => "operator",
        }),
        loss: word(match p.loss {
            LossPolicy::Stop => "stop",
            LossPolicy::Fence => "fence",
            LossPolicy::Freeze => "freeze",
        }),
        prefer: Some(p.prefer.iter().map(ToString::to_string).collect()),
        one_move_per: Some(Span(p.one_move_per).to_string()),
        require: Some(require),
        max_lag: p.max_lag.map(|d| Span(d).to_string()),
        stop_budget: Some(Span(p.stop_budget).to_string()),
    }
}
