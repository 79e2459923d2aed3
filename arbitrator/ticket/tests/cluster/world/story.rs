//! Helpers of stories: asking, waiting, looking.

use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::docket::Holding;
use tierce_ticket::entry::Mode;
use tierce_ticket::ids::{RequestId, Term, TicketId};
use tierce_ticket::member::{Input, Member, Standing};

use super::{World, name, policy, tail, ticket};

impl World {
    pub fn ask(&mut self, who: usize, command: Command) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.note(&format!("ask {}: {command:?}", self.nodes[who].name));
        self.step(who, Input::Command { request, command });
        request
    }

    /// Asks and waits for the outcome.
    pub fn decide(&mut self, who: usize, command: Command) -> Outcome {
        let request = self.ask(who, command);
        let done = self.run_until(15_000, |w| w.nodes[who].outcomes.contains_key(&request));
        assert!(done, "every command ends within its bound\n{}", tail(&self.log));
        self.nodes[who].outcomes[&request].clone()
    }

    pub fn done(&mut self, who: usize, command: Command) -> Option<Term> {
        match self.decide(who, command) {
            Outcome::Done { term, .. } => term,
            other => panic!("expected done, got {other:?}\n{}", tail(&self.log)),
        }
    }

    pub fn runs_at(&self, t: TicketId) -> Option<&str> {
        self.nodes.iter().find(|n| n.running.contains_key(&t)).map(|n| n.name.as_str())
    }

    pub fn holder_of(&self, i: usize, t: TicketId) -> Option<String> {
        let d = self.nodes[i].member.as_ref()?.docket()?;
        match &d.ticket(t)?.holding {
            Holding::Held { site, .. } => Some(site.to_string()),
            Holding::Free { .. } => None,
        }
    }

    pub fn all_take_part(&self) -> bool {
        self.nodes.iter().all(|n| {
            n.member.as_ref().is_some_and(|m| {
                *m.standing() == Standing::TakingPart
                    && (n.role == Role::Arbitrator
                        || m.holder().is_some_and(|h| h.session().is_some()))
            })
        })
    }

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
