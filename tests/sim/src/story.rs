//! Helpers of stories: asking, waiting, looking.

use std::collections::BTreeMap;
use std::time::Duration;

use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::docket::Holding;
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Regrant};
use tierce_ticket::ids::{MemberName, RequestId, Term, TicketId, TicketName};
use tierce_ticket::member::{Input, Member, Standing};
use tierce_ticket::timing::Profile;

use crate::world::{World, note};

/// A member's name.
pub fn name(s: &str) -> MemberName {
    s.parse().expect("a good name")
}

/// A ticket's name.
pub fn ticket(s: &str) -> TicketName {
    s.parse().expect("a good name")
}

/// A policy that lets a ticket move as often as it has to.
pub fn policy(mode: Mode) -> Policy {
    Policy {
        mode,
        regrant: Regrant::Lapse,
        loss: LossPolicy::Stop,
        prefer: vec![],
        one_move_per: Duration::ZERO,
        require: BTreeMap::new(),
        max_lag: None,
        stop_budget: Profile::MetroFast.timing().stop_budget,
    }
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

impl World {
    /// A client at node `who` asks.
    pub fn ask(&mut self, who: usize, command: Command) -> RequestId {
        let request = self.request();
        note!(self, "{:<6} asked   {} {command:?}", self.nodes[who].name, request.0);
        self.history.asked(self.now, request, &command);
        self.step(who, Input::Command { request, command });
        request
    }

    /// Asks and waits for the outcome.
    ///
    /// # Panics
    /// When none comes.
    pub fn decide(&mut self, who: usize, command: Command) -> Outcome {
        let request = self.ask(who, command);
        // An admission waits out T several times (R11).
        let bound = 15_000 + 6 * self.timing.promise.as_millis() as u64;
        let done = self.run_until(bound, |w| w.nodes[who].outcomes.contains_key(&request));
        assert!(done, "every command ends within its bound\n{}", tail(&self.log));
        self.nodes[who].outcomes[&request].clone()
    }

    /// Asks, waits, and expects that it was done.
    ///
    /// # Panics
    /// When it was not.
    pub fn done(&mut self, who: usize, command: Command) -> Option<Term> {
        match self.decide(who, command) {
            Outcome::Done { term, .. } => term,
            other => panic!("expected done, got {other:?}\n{}", tail(&self.log)),
        }
    }

    /// Where something physically runs under the ticket.
    pub fn runs_at(&self, t: TicketId) -> Option<&str> {
        self.nodes.iter().find(|n| n.running.contains_key(&t)).map(|n| n.name.as_str())
    }

    /// Who has the ticket, as node `i` sees it.
    pub fn holder_of(&self, i: usize, t: TicketId) -> Option<String> {
        let d = self.nodes[i].member.as_ref()?.docket()?;
        match &d.ticket(t)?.holding {
            Holding::Held { site, .. } => Some(site.to_string()),
            Holding::Free { .. } => None,
        }
    }

    /// Whether all members take part and every site has a session.
    pub fn all_take_part(&self) -> bool {
        self.nodes.iter().all(|n| {
            n.member.as_ref().is_some_and(|m| {
                *m.standing() == Standing::TakingPart
                    && (n.role == Role::Arbitrator
                        || m.holder().is_some_and(|h| h.session().is_some()))
            })
        })
    }

    /// A node that leads.
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|n| n.member.as_ref().is_some_and(Member::leads))
    }

    /// A running cluster with ticket `web` (number 1), granted to a.
    pub fn with_ticket(seed: u64, sites: usize, arbitrators: usize, mode: Mode) -> Self {
        let mut w = Self::new(seed, sites, arbitrators);
        assert!(w.run_until(10_000, World::all_take_part), "the cluster forms\n{}", tail(&w.log));
        w.run_for(500);
        w.done(0, Command::SetTicket { name: ticket("web"), policy: policy(mode) });
        let term = w.done(0, Command::Grant { name: ticket("web"), to: name("a") });
        assert!(term.is_some());
        assert!(w.run_until(1_000, |w| w.runs_at(TicketId(1)) == Some("a")), "{}", tail(&w.log));
        w
    }
}
