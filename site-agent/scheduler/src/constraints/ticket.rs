//! Tickets: what a resource may do while this site has, or has not, a ticket.

use tierce_cib::xml::Element;

use super::constraint_id;
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{Kind, LossPolicy, Role, TicketUse};

impl<'a> Cluster<'a> {
    pub(super) fn unpack_ticket(&mut self, xml: Element<'a>) {
        let Some(ticket) = xml.attr("ticket") else { return };
        let policy = xml.attr("loss-policy");
        if let Some(id) = xml.attr("rsc") {
            let role = xml.attr("rsc-role").and_then(Role::parse);
            for rsc in self.constraint_resources(id) {
                self.use_ticket(xml, ticket, rsc, role, policy);
            }
            return;
        }
        for set in xml.children_named("resource_set") {
            let Some(set) = self.ids.resolve(set) else { continue };
            let role = set.attr("role").and_then(Role::parse);
            for reference in set.children_named("resource_ref") {
                for rsc in
                    reference.id().map(|id| self.constraint_resources(id)).unwrap_or_default()
                {
                    self.use_ticket(xml, ticket, rsc, role, policy);
                }
            }
        }
    }

    fn use_ticket(
        &mut self,
        xml: Element<'a>,
        ticket: &'a str,
        rsc: RscIx,
        role: Option<Role>,
        policy: Option<&str>,
    ) {
        let role = role.filter(|r| *r != Role::Unknown && *r != Role::Started);
        let policy = match policy {
            Some("fence") if self.fencing() => LossPolicy::Fence,
            Some("fence" | "stop") => LossPolicy::Stop,
            Some("freeze") => LossPolicy::Freeze,
            Some("demote") => LossPolicy::Demote,
            _ if role == Some(Role::Promoted) => LossPolicy::Demote,
            _ => LossPolicy::Stop,
        };
        let id = constraint_id(xml);
        self.ticket_uses.push(TicketUse { id, ticket, role, policy });
        let position = self.ticket_uses.len() - 1;
        self.rscs[rsc].tickets.push(position);
        let state = self.tickets.get(ticket).cloned().unwrap_or_default();
        if role == Some(Role::Promoted) || !state.granted || state.standby {
            self.deny_start(rsc, position, state.granted, state.standby);
        }
    }

    /// Applies a ticket that is missing or aside to what must not start or must end.
    fn deny_start(&mut self, rsc: RscIx, position: usize, granted: bool, standby: bool) {
        if self.rscs[rsc].kind != Kind::Primitive {
            for child in self.rscs[rsc].children.clone() {
                self.deny_start(child, position, granted, standby);
            }
            return;
        }
        let (role, policy) = (self.ticket_uses[position].role, self.ticket_uses[position].policy);
        if !granted && self.rscs[rsc].running_on.is_empty() {
            // What does not run must not start. What is only limited in the promoted role may.
            if role == Some(Role::Promoted) && policy != LossPolicy::Stop {
                return;
            }
            self.ban_for_ticket(rsc, position, "__no_ticket__");
            return;
        }
        if !granted {
            match policy {
                LossPolicy::Stop => self.ban_for_ticket(rsc, position, "__loss_of_ticket__"),
                LossPolicy::Demote => {
                    // Only the promotion is taken away where that is what depends on it.
                    if role != Some(Role::Promoted) {
                        self.ban_for_ticket(rsc, position, "__loss_of_ticket__");
                    }
                }
                LossPolicy::Fence => {
                    let current = self.rscs[rsc].role;
                    if role.is_some_and(|wanted| wanted != current) {
                        return;
                    }
                    self.ban_for_ticket(rsc, position, "__loss_of_ticket__");
                    for node in self.rscs[rsc].running_on.clone() {
                        self.doom(node, "deadman ticket was lost");
                    }
                }
                LossPolicy::Freeze => {
                    let current = self.rscs[rsc].role;
                    if role.is_some_and(|wanted| wanted != current) {
                        return;
                    }
                    if !self.rscs[rsc].running_on.is_empty() {
                        self.rscs[rsc].managed = false;
                        self.rscs[rsc].blocked = true;
                    }
                }
            }
            return;
        }
        if standby && (role != Some(Role::Promoted) || policy == LossPolicy::Stop) {
            self.ban_for_ticket(rsc, position, "__ticket_standby__");
        }
    }

    /// Whether a resource needs a ticket that is missing or aside.
    pub(crate) fn ticket_denies(&self, mut rsc: RscIx) -> bool {
        loop {
            let denied = self.rscs[rsc].tickets.iter().any(|t| {
                let state =
                    self.tickets.get(self.ticket_uses[*t].ticket).cloned().unwrap_or_default();
                !state.granted || state.standby
            });
            if denied {
                return true;
            }
            match self.rscs[rsc].parent {
                Some(parent) => rsc = parent,
                None => return false,
            }
        }
    }
}
