//! What the ledger's entries mean for this site.

use tierce_ticket::docket::Event;
use tierce_ticket::ids::{LogIndex, TicketId};

use super::Agent;
use crate::history;
use crate::limits::LOGGED_EVENTS;

impl Agent {
    /// One entry was applied. After a restart old entries come again; only new ones are reported.
    pub(super) async fn decided(&mut self, index: LogIndex, wall_ms: u64, events: Vec<Event>) {
        let new = self.shared.history.is_new(index);
        for (n, event) in events.iter().enumerate() {
            self.consequences(event, new, n < LOGGED_EVENTS).await;
        }
        if let Some(more @ 1..) = events.len().checked_sub(LOGGED_EVENTS) {
            tracing::info!(%index, more, "further events of this decision are in the history");
        }
        let shared = self.shared.clone();
        let rows = history::rows(index, wall_ms, &events, |id| shared.ticket_name(id));
        if new {
            self.shared.history.decided(index, rows);
        }
        for event in &events {
            if let Event::TicketRemoved { ticket, .. } = event {
                self.forget(*ticket);
            }
        }
    }

    async fn consequences(&mut self, event: &Event, new: bool, logged: bool) {
        let here = self.shared.name.clone();
        match event {
            Event::Granted { ticket, site, term, automatic, .. } => {
                let name = self.name(*ticket).await;
                if logged {
                    tracing::info!(ticket = name, %site, %term, automatic, "granted");
                }
                if *site == here && !automatic && new {
                    self.owed.insert(*ticket, *term);
                    // Orders come before news: it may run already.
                    let told = self.shared.state().told.get(ticket).cloned();
                    if let Some(told) = told.filter(|t| t.term == *term) {
                        self.tell_result(*ticket, &told);
                    }
                }
            }
            Event::SessionExpired { session, site, proof, tickets } => {
                tracing::info!(%session, %site, %proof, tickets, "session expired");
                if *site == here {
                    self.refresh_soon();
                    if new && *tickets > 0 {
                        self.trouble(
                            "session-expired",
                            format!(
                                "this site's session {session} expired: {tickets} tickets are lost"
                            ),
                        );
                    }
                }
            }
            Event::TicketLost { ticket, site, term, .. } => {
                let name = self.name(*ticket).await;
                if *site == here && new {
                    let text = format!("ticket {name} (term {term}) was taken back from this site");
                    self.trouble(&format!("taken-back-{name}"), text);
                }
            }
            Event::SessionOpened { site, .. } | Event::SessionClosed { site, .. }
                if *site == here =>
            {
                self.refresh_soon();
            }
            Event::TicketSet { ticket } => {
                self.name(*ticket).await;
                self.refresh_soon();
                self.sync_due = true;
            }
            Event::TicketRemoved { .. } => self.refresh_soon(),
            Event::Released { ticket, .. }
            | Event::HandoverBegun { ticket, .. }
            | Event::HandoverCancelled { ticket, .. }
            | Event::TakeBackBegun { ticket, .. }
            | Event::HoldChanged { ticket }
            | Event::Proposed { ticket, .. } => {
                let name = self.name(*ticket).await;
                tracing::info!(ticket = name, "{event:?}");
                if let Event::Proposed { to, mode, .. } = event
                    && new
                {
                    let text = format!("{name} has no holder; proposed: {to} (mode {mode:?})");
                    self.shared.alarm(text.to_lowercase());
                }
            }
            Event::Skipped { why, .. } => tracing::debug!("an operation did not hold: {why}"),
            _ => {}
        }
    }

    fn forget(&mut self, ticket: TicketId) {
        self.owed.remove(&ticket);
        let mut state = self.shared.state();
        state.blocked.remove(&ticket);
        state.measured.remove(&ticket);
        state.told.remove(&ticket);
    }

    /// A snapshot replaced everything: names, session and history are looked up again.
    pub(super) async fn docket_replaced(&mut self) {
        if let Some(Some(docket)) = self.shared.member.read(|m, _| m.docket().cloned()).await {
            self.shared.history.docket_replaced(&docket);
        }
        self.sync_due = true;
        self.refresh_soon();
        self.shared.tell_changed();
    }
}
