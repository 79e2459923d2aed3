//! Orders of the holder to the runner, and the runner's results back to the member.

use std::time::Instant;

use tierce_ticket::holder::{Able, Holder, Order, StopReason};
use tierce_ticket::ids::{Term, TicketId};
use tierce_ticket::member::Input;

use super::Agent;
use crate::limits::GATHER;
use crate::runner::{RunnerEvent, RunnerOrder};
use crate::shared::{Blocked, names_of};
use crate::told::Told;

impl Agent {
    /// One order. The ticket's name is looked up when this agent has not met it yet.
    pub(super) async fn order(&mut self, order: Order) {
        let order = match order {
            Order::Run { ticket, term } => {
                self.forgive(ticket, term);
                let name = self.name(ticket).await;
                // The moment at which this site is told that it may run, for the recorder.
                tracing::debug!(ticket = name, %term, "told to run");
                RunnerOrder::Run { ticket, name, term }
            }
            Order::Stop { ticket, term, why, by } => {
                let name = self.name(ticket).await;
                self.note_stop(&name, why.clone());
                RunnerOrder::Stop { ticket, name, term, why, by }
            }
            Order::Forget { ticket, term } => {
                let name = self.name(ticket).await;
                RunnerOrder::Forget { ticket, name, term }
            }
            Order::Prepare { ticket } => {
                RunnerOrder::Prepare { ticket, name: self.name(ticket).await }
            }
            Order::Lease { deadline } => {
                self.deadline = deadline;
                RunnerOrder::Lease { deadline }
            }
            Order::TicketLease { ticket, deadline } => {
                let name = self.name(ticket).await;
                RunnerOrder::TicketLease { ticket, name, deadline }
            }
        };
        self.shared.runner.order(order);
    }

    /// Name of a ticket; the member is asked once for one that was never seen.
    pub(super) async fn name(&self, ticket: TicketId) -> String {
        if let Some(name) = self.shared.state().names.get(&ticket) {
            return name.clone();
        }
        let read = self.shared.member.read(move |m, _| {
            m.docket().and_then(|d| d.ticket(ticket)).map(|t| t.name.to_string())
        });
        match read.await.flatten() {
            Some(name) => {
                self.shared.learn_name(ticket, name.clone());
                name
            }
            None => format!("number-{ticket}"),
        }
    }

    /// A new grant to this site: an older failure counts no more.
    fn forgive(&self, ticket: TicketId, term: Term) {
        let mut state = self.shared.state();
        if state.blocked.get(&ticket).is_some_and(|b| b.term < term) {
            state.blocked.remove(&ticket);
        }
    }

    fn note_stop(&mut self, name: &str, why: StopReason) {
        let lost = match why {
            StopReason::LeaseEnding => "the lease ends and was not renewed".to_owned(),
            StopReason::Clock(why) => format!("this node's clock is not to be trusted: {why}"),
            StopReason::NotOurs => "the ledger says that it is not ours any more".to_owned(),
            StopReason::Handover | StopReason::TakenBack | StopReason::Leaving => {
                return tracing::info!(ticket = name, ?why, "resources are to stop");
            }
        };
        self.shared.state().lease_losses += 1;
        self.losses.add(lost, name);
        self.losses_at.get_or_insert_with(|| tokio::time::Instant::now() + GATHER);
    }

    /// One alarm for all tickets that were lost for the same reason.
    pub(super) fn tell_losses(&mut self) {
        self.losses_at = None;
        for (reason, text) in self.losses.take() {
            self.trouble(&reason, text);
        }
    }

    // ----- what the runner says ----------------------------------------------------------------

    pub(super) fn runner_event(&mut self, event: RunnerEvent) {
        match event {
            RunnerEvent::Alive => {
                // Lost in a full queue is not alive (R15).
                let _ = self.shared.member.input(Input::Able(Able::Runner));
                return;
            }
            RunnerEvent::Started { ticket, term, took } => {
                let mut state = self.shared.state();
                state.started += 1;
                state.measured.entry(ticket).or_default().start = Some(took);
                let unblocked = state.blocked.remove(&ticket).is_some();
                drop(state);
                if unblocked {
                    self.report_readiness();
                }
                self.tell_result(ticket, &Told { term, result: Ok(took) });
            }
            RunnerEvent::StartFailed { ticket, term, why } => self.start_failed(ticket, term, &why),
            RunnerEvent::Stopped { ticket, term, took } => {
                let mut state = self.shared.state();
                state.measured.entry(ticket).or_default().stop = Some(took);
                let freed = state.blocked.get(&ticket).is_some_and(|b| b.stop_failed);
                if freed {
                    state.blocked.remove(&ticket);
                }
                drop(state);
                self.give(Input::Stopped { ticket, term });
                if freed {
                    self.report_readiness();
                }
            }
            RunnerEvent::StopFailed { ticket, term, why } => self.stop_failed(ticket, term, &why),
            RunnerEvent::Frozen { ticket, term } => {
                let name = self.shared.ticket_name(ticket);
                let text = format!(
                    "{name} (term {term}) RUNS WITHOUT A TICKET: its lease ended and its loss policy is freeze"
                );
                self.trouble(&format!("frozen-{name}"), text);
            }
            RunnerEvent::Readiness(report) => {
                self.shared.state().readiness = Some(report);
                self.report_readiness();
            }
            RunnerEvent::GuardLost(why) => {
                let text = format!("the node guard is lost: {why}; nothing new is started here");
                self.trouble("guard-lost", text);
            }
            RunnerEvent::GuardBack => self.shared.alarm("the node guard is back"),
            RunnerEvent::Resource { name, resource, what } => {
                tracing::info!(ticket = name, resource, "{what}");
            }
        }
        self.shared.tell_changed();
    }

    /// Readiness as the runner saw it, with what failed here.
    pub(super) fn report_readiness(&mut self) {
        if let Some(merged) = self.shared.merged_readiness() {
            self.give(Input::Readiness(merged));
        }
    }

    fn start_failed(&mut self, ticket: TicketId, term: Term, why: &str) {
        let name = self.shared.ticket_name(ticket);
        let mut state = self.shared.state();
        state.start_failures += 1;
        state.blocked.insert(
            ticket,
            Blocked {
                term,
                why: why.to_owned(),
                stop_failed: false,
                at: Instant::now(),
                offered: None,
            },
        );
        drop(state);
        self.report_readiness();
        self.tell_result(ticket, &Told { term, result: Err(why.to_owned()) });
        let text = format!("resources of {name} did not start here (term {term}): {why}");
        self.trouble(&format!("start-failed-{name}"), text);
        self.offer_failed();
    }

    fn stop_failed(&mut self, ticket: TicketId, term: Term, why: &str) {
        let name = self.shared.ticket_name(ticket);
        let mut state = self.shared.state();
        state.stop_failures += 1;
        let again = state.blocked.get(&ticket).is_some_and(|b| b.stop_failed && b.term == term);
        state.blocked.insert(
            ticket,
            Blocked {
                term,
                why: why.to_owned(),
                stop_failed: true,
                at: Instant::now(),
                offered: None,
            },
        );
        drop(state);
        if !again {
            self.report_readiness();
            let text = format!(
                "resources of {name} did not stop here (term {term}): {why}; it is tried further, and \
                 the node guard steps in when the lease ends"
            );
            self.trouble(&format!("stop-failed-{name}"), text);
        }
    }

    // ----- what the runner is told beside orders -----------------------------------------------

    /// Tells the runner the tickets of the ledger and the session, where they have changed.
    pub(super) async fn refresh(&mut self) {
        self.refresh_at = None;
        let begun = Instant::now();
        let read = self
            .shared
            .member
            .read(|m, _| (m.docket().map(names_of), m.holder().and_then(Holder::session)));
        let Some((names, session)) = read.await else { return };
        if let Some(names) = names {
            let known = names.iter().map(|(id, n)| (*id, n.clone())).collect();
            if self.shared.learn_names(names) {
                self.shared.runner.order(RunnerOrder::KnownTickets(known));
            }
        }
        let mut state = self.shared.state();
        let new = session.filter(|s| state.session != Some(*s));
        state.session = session;
        drop(state);
        if let Some(session) = new {
            tracing::info!(%session, "session open");
            self.shared.runner.order(RunnerOrder::Session(session));
        }
        self.refresh_cost = begun.elapsed();
    }
}
