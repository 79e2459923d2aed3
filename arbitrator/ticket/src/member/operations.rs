//! From a command to the operations of one entry, checked against the leader's docket: what stands
//! against it is told before anything is appended.

use super::Member;
use super::commands::refuse;
use crate::command::{Command, Refusal, RefusalCode};
use crate::docket::{Docket, FreeBecause, Holding, Ticket};
use crate::entry::{LossPolicy, Mode, Op, Policy, Proof};
use crate::ids::{MemberName, SessionId, Term, TicketId, TicketName};
use crate::limits;
use crate::time::Now;

impl Member {
    /// The operations that carry a command out, or what stands against it.
    pub(super) fn ops_for(&self, now: Now, command: Command) -> Result<Vec<Op>, Refusal> {
        check_notes(&command)?;
        match command {
            Command::SetTicket { name, policy } => self.set_ticket_ops(name, policy),
            Command::RemoveTicket { name } => {
                let t = self.ticket(&name)?;
                if t.holder().is_some() {
                    let next = format!("tierce tickets revoke {name}, then remove it");
                    return Err(refuse(RefusalCode::NotNow, format!("{name} has a holder"), next));
                }
                Ok(vec![Op::RemoveTicket { ticket: t.id }])
            }
            Command::Grant { name, to } => self.grant_ops(now, &name, &to),
            Command::Move { name, to, note } => self.move_ops(now, &name, &to, note),
            Command::Revoke { name, note } => {
                let (ticket, term) = self.held(&name)?;
                Ok(vec![Op::Handover { ticket, term, to: None, note }])
            }
            Command::TakeBack { name, note } => {
                let (ticket, term) = self.held(&name)?;
                Ok(vec![Op::TakeBack { ticket, term, note }])
            }
            Command::CancelMove { name, note } => {
                let (ticket, term) = self.held(&name)?;
                Ok(vec![Op::CancelHandover { ticket, term, note }])
            }
            Command::Hold { name, note } => {
                Ok(vec![Op::Hold { ticket: self.ticket(&name)?.id, note }])
            }
            Command::Resume { name } => Ok(vec![Op::Resume { ticket: self.ticket(&name)?.id }]),
            Command::SetAttribute { scope, name, value } => {
                let docket = self.docket();
                let id = |t: &TicketName| docket.and_then(|d| d.ticket_named(t)).map(|t| t.id);
                let scope = scope.resolve(id).ok_or_else(|| {
                    refuse(RefusalCode::NoSuch, "there is no such ticket", "tierce tickets list")
                })?;
                Ok(vec![Op::SetAttribute { scope, name, value }])
            }
            Command::DeclareSite { site, state, note } => {
                Ok(vec![Op::DeclareSite { site, state, note }])
            }
            Command::ConfirmDown { site, proof, note } => self.confirm_ops(&site, proof, &note),
            Command::OpenSession { site, incarnation, supersedes } => {
                self.check_site(&site)?; // a learner is not one yet
                Ok(vec![Op::OpenSession { site, incarnation, supersedes }])
            }
            Command::CloseSession { session } => Ok(vec![Op::CloseSession { session }]),
            Command::Released { ticket, session, term } => {
                let mut ops = vec![Op::Release { ticket, session, term }];
                ops.extend(self.successor(now, ticket, term));
                Ok(ops)
            }
            Command::Admit { .. }
            | Command::Remove { .. }
            | Command::SetTiming(_)
            | Command::Read => Ok(vec![]),
        }
    }

    /// R10 for one ticket: the grant to the named successor goes into the same batch as the release;
    /// after a handover that was called off too late, that is the site itself, under a new term.
    fn successor(&self, now: Now, ticket: TicketId, term: Term) -> Option<Op> {
        let t = self.docket()?.ticket(ticket)?;
        let Holding::Held { term: held, handover, site, taking_back, .. } = &t.holding else {
            return None;
        };
        let to = match handover {
            Some(h) => h.to.as_ref()?,
            None => site,
        };
        if *held != term || (*taking_back && handover.is_none()) {
            return None;
        }
        let session = self.eligibility(now, ticket, to).ok()?;
        Some(Op::Grant { ticket, to: session, automatic: false })
    }

    fn ticket(&self, name: &TicketName) -> Result<&Ticket, Refusal> {
        self.docket().and_then(|d| d.ticket_named(name)).ok_or_else(|| {
            refuse(RefusalCode::NoSuch, format!("there is no ticket {name}"), "tierce tickets list")
        })
    }

    fn held(&self, name: &TicketName) -> Result<(TicketId, Term), Refusal> {
        let t = self.ticket(name)?;
        t.holder().map(|(_, _, term)| (t.id, term)).ok_or_else(|| {
            refuse(
                RefusalCode::NotNow,
                format!("{name} is not held by any site"),
                format!("tierce tickets show {name}"),
            )
        })
    }

    fn check_site(&self, site: &MemberName) -> Result<(), Refusal> {
        let sites = self.docket().map(Docket::site_names).unwrap_or_default();
        if sites.contains(site) {
            return Ok(());
        }
        let list = sites.iter().map(MemberName::as_str).collect::<Vec<_>>().join(", ");
        Err(refuse(
            RefusalCode::NoSuch,
            format!("{site} is not a site"),
            format!("the sites are: {list}"),
        ))
    }

    fn set_ticket_ops(&self, name: TicketName, policy: Policy) -> Result<Vec<Op>, Refusal> {
        let invalid = |what: String, next: &str| Err(refuse(RefusalCode::Invalid, what, next));
        if policy.loss == LossPolicy::Freeze && policy.mode != Mode::Manual {
            let what = "loss policy freeze keeps resources running without a ticket".to_owned();
            return Err(refuse(RefusalCode::Unsafe, what, "freeze goes with mode manual only"));
        }
        for site in &policy.prefer {
            self.check_site(site)?;
        }
        if policy.prefer.len() > limits::MAX_VOTERS || policy.require.len() > limits::MAX_ATTRIBUTES
        {
            return invalid(
                "the policy names too many sites or attributes".to_owned(),
                "name fewer",
            );
        }
        let budget =
            self.docket().map(|d| d.configuration().timing.stop_budget).unwrap_or_default();
        if policy.stop_budget > budget || policy.stop_budget.is_zero() {
            let what = format!(
                "stop budget {} is not within (0, {}]",
                crate::timing::show(policy.stop_budget),
                crate::timing::show(budget)
            );
            return invalid(what, "lower it, or raise the cluster's stop budget B");
        }
        Ok(vec![Op::SetTicket { name, policy }])
    }

    fn grant_ops(&self, now: Now, name: &TicketName, to: &MemberName) -> Result<Vec<Op>, Refusal> {
        self.check_site(to)?;
        let t = self.ticket(name)?;
        if let Some((_, site, _)) = t.holder() {
            let next = format!("tierce tickets move {name} --to {to}");
            return Err(refuse(RefusalCode::NotNow, format!("{site} holds {name}"), next));
        }
        if let Some(missing) = t.proof_missing() {
            let what = format!("{name} waits for proof ({missing:?}) that its old holder is down")
                .to_lowercase();
            return Err(refuse(
                RefusalCode::Unsafe,
                what,
                "confirm it: tierce fence confirm SITE --note HOW_YOU_KNOW",
            ));
        }
        let session = self.eligible_or_refuse(now, t, to)?;
        Ok(vec![Op::Grant { ticket: t.id, to: session, automatic: false }])
    }

    fn move_ops(
        &self,
        now: Now,
        name: &TicketName,
        to: &MemberName,
        note: String,
    ) -> Result<Vec<Op>, Refusal> {
        self.check_site(to)?;
        let t = self.ticket(name)?;
        match t.holder() {
            None => {
                let next = format!("tierce tickets grant {name} --to {to}");
                Err(refuse(RefusalCode::NotNow, format!("{name} is not held by any site"), next))
            }
            Some((_, site, _)) if site == to => Err(refuse(
                RefusalCode::NotNow,
                format!("{to} holds {name} already"),
                "nothing to do",
            )),
            Some((_, _, term)) => {
                // Its promises outlive a site by T: the holder would stop for nobody.
                if *to != self.settings.name && !self.peers.get(to).is_some_and(|p| p.up) {
                    let what = format!("{to} is not connected to the leader now");
                    let next = "tierce sites list; a revoke needs no successor";
                    return Err(refuse(RefusalCode::NotNow, what, next));
                }
                self.eligible_or_refuse(now, t, to)?;
                Ok(vec![Op::Handover { ticket: t.id, term, to: Some(to.clone()), note }])
            }
        }
    }

    fn eligible_or_refuse(
        &self,
        now: Now,
        t: &Ticket,
        to: &MemberName,
    ) -> Result<SessionId, Refusal> {
        self.eligibility(now, t.id, to).map_err(|why| {
            let next = format!("tierce tickets plan {} --to {to} shows every gate", t.name);
            refuse(RefusalCode::NotNow, format!("{to} may not hold {} now: {why}", t.name), next)
        })
    }

    fn confirm_ops(&self, site: &MemberName, proof: Proof, note: &str) -> Result<Vec<Op>, Refusal> {
        self.check_site(site)?;
        let mut sessions = std::collections::BTreeSet::new();
        for t in self.docket().into_iter().flat_map(Docket::tickets) {
            if let Holding::Free { because: FreeBecause::Lost { session, site: lost, .. }, .. } =
                &t.holding
                && lost == site
            {
                sessions.insert(*session);
            }
        }
        if sessions.is_empty() {
            let what = format!("no ticket waits for proof about {site}");
            return Err(refuse(RefusalCode::NotNow, what, "tierce status shows what waits"));
        }
        let op = |session| Op::ConfirmDown { session, proof, note: note.to_owned() };
        Ok(sessions.into_iter().map(op).collect())
    }
}

fn check_notes(command: &Command) -> Result<(), Refusal> {
    let (Command::Revoke { note, .. }
    | Command::TakeBack { note, .. }
    | Command::Move { note, .. }
    | Command::CancelMove { note, .. }
    | Command::Hold { note, .. }
    | Command::DeclareSite { note, .. }
    | Command::ConfirmDown { note, .. }) = command
    else {
        return Ok(());
    };
    if note.len() > limits::NOTE_BYTES {
        let what = format!("the note has more than {} bytes", limits::NOTE_BYTES);
        return Err(refuse(RefusalCode::Invalid, what, "shorten it"));
    }
    Ok(())
}
