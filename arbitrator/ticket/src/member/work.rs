//! The order of work in one step: ledger, committed entries, promises, steward, holder.

use std::collections::BTreeMap;

use super::{Alarm, Effect, Member, Standing};
use crate::audit::Finding;
use crate::command::Command;
use crate::docket::{Docket, Event, Touched};
use crate::durable::Record;
use crate::entry::{Entry, FenceVote};
use crate::holder::Request;
use crate::ids::{MemberId, MemberName, Term, TicketId};
use crate::ledger::{LedgerEffect, Snapshot};
use crate::limits;
use crate::message::{Lane, Message, Renew};
use crate::planted::{Bug, is_planted};
use crate::steward::Wish;
use crate::time::{Now, VoterTime};

/// Rounds of work that one input may cause before the rest waits for the next: a bound, not a
/// tuning value; the longest chain seen in tests is six.
const MAX_ROUNDS: usize = 64;

impl Member {
    pub(super) fn pump(&mut self, now: Now) {
        for _ in 0..MAX_ROUNDS {
            let mut busy = false;
            if self.formed.is_some() {
                busy |= self.run_ledger(now);
                busy |= self.apply_committed(now);
                if matches!(self.standing, Standing::Out(_)) {
                    self.run_holder(now); // it stops what runs
                }
                if self.standing == Standing::TakingPart {
                    self.run_promises(now);
                    self.run_reports(now);
                    busy |= self.run_steward(now);
                    busy |= self.run_holder(now);
                    busy |= self.run_admission(now);
                }
            }
            self.run_commands(now);
            // What a command has put into the ledger leaves now, not with the next input.
            busy |= self.formed.as_ref().is_some_and(|f| f.ledger.has_effects());
            self.flush();
            // Orders go first: what was decided is told to people once services may start.
            self.effects.extend(self.news.drain(..));
            if !busy {
                break;
            }
        }
        #[cfg(debug_assertions)]
        self.invariants(now);
    }

    /// The leader hears this site's readiness again every T: a report may be lost on its way, and a
    /// leader may be new.
    pub(super) fn run_reports(&mut self, now: Now) {
        let Some(f) = &self.formed else { return };
        if self.readiness.is_none() || now.voter < self.next_report {
            return;
        }
        self.next_report = now.voter + f.config_seen.timing.promise;
        let leader = self.leader.clone();
        if let Some(leader) = leader.filter(|l| *l != self.settings.name) {
            self.tell_readiness(Some(&leader));
        }
    }

    pub(super) fn run_ledger(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        if self.standing == Standing::TakingPart
            && f.ledger.deadline().is_some_and(|d| d <= now.voter)
        {
            f.ledger.tick(now.voter);
        }
        let any = self.carry_out_ledger(now);
        self.note_configuration();
        any
    }

    pub(super) fn carry_out_ledger(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(effect) = self.formed.as_mut().and_then(|f| f.ledger.poll_effect()) {
            any = true;
            self.ledger_effect(now, effect);
        }
        any
    }

    pub(super) fn ledger_effect(&mut self, now: Now, effect: LedgerEffect) {
        match effect {
            LedgerEffect::Persist(record) => {
                self.ledger_records += 1;
                self.records.push(Record::Ledger(record));
            }
            LedgerEffect::Send { to, message, needs_persist } => {
                if let Some(name) = self.name_of(to) {
                    self.send(&name, Lane::Stream, Message::Ledger(message), needs_persist);
                }
            }
            LedgerEffect::Commit { .. } => {}
            LedgerEffect::InstallSnapshot(snapshot) => self.install(now, &snapshot),
            LedgerEffect::Led { ballot } => {
                if let Some(f) = &mut self.formed {
                    f.led_from = Some(f.ledger.last_index());
                    f.steward.lead(now.voter, Some(ballot));
                }
                self.set_leader(Some(self.settings.name.clone()));
            }
            LedgerEffect::Followed { leader, .. } => {
                if let Some(f) = &mut self.formed
                    && f.led_from.take().is_some()
                {
                    f.steward.lead(now.voter, None);
                }
                let name = leader.and_then(|id| self.name_of(id));
                self.set_leader(name);
            }
            LedgerEffect::ReadReady { context, index } => self.read_ready(context, index),
            LedgerEffect::ReadFailed { context } => self.read_failed(context),
            LedgerEffect::Alarm(what) => self.alarm(Alarm::Ledger(what)),
        }
    }

    pub(super) fn set_leader(&mut self, leader: Option<MemberName>) {
        if self.leader != leader {
            self.leader.clone_from(&leader);
            self.next_report = VoterTime::default();
            self.effects.push_back(Effect::Leader(leader));
        }
    }

    /// Follows the newest configuration in the log, committed or not (R8, R11, R12).
    pub(super) fn note_configuration(&mut self) {
        let Some(f) = &mut self.formed else { return };
        let (newest, index) = f.ledger.configuration();
        // By its index: one that says nothing new is named in answers all the same (R12).
        if index == f.config_index && *newest == f.config_seen {
            return;
        }
        f.config_index = index;
        let wait = newest.timing.promise.max(f.config_seen.timing.promise);
        f.config_seen = newest.clone();
        if let Some(h) = &mut f.holder {
            h.configuration(index, newest.voter_ids(), newest.timing);
        }
        let promise = newest.timing.promise;
        f.ledger.set_change_wait(wait); // R11, by the larger T
        self.effects.push_back(Effect::Reconfigured);
        self.require_promise(promise);
    }

    pub(super) fn install(&mut self, now: Now, snapshot: &Snapshot) {
        let Some(f) = &mut self.formed else { return };
        match Docket::from_bytes(&snapshot.state) {
            Ok(docket) => {
                f.docket = docket;
                f.snapshot_at = f.docket.applied();
                let promise = f.config_seen.timing.promise;
                f.promises.docket_replaced(now.voter, &f.docket, promise);
                if let Some(h) = &mut f.holder {
                    h.docket_changed(now.holder, &f.docket, &Touched::everything());
                }
                self.effects.push_back(Effect::DocketReplaced);
            }
            Err(e) => self.out(Alarm::Ledger(format!("the leader's snapshot is unreadable: {e}"))),
        }
    }

    pub(super) fn apply_committed(&mut self, now: Now) -> bool {
        let mut any = false;
        let mut touched = Touched::default();
        loop {
            let Some(f) = &mut self.formed else { return any };
            let next = f.docket.applied().next();
            if next > f.ledger.commit() {
                break;
            }
            let Some(entry) = f.ledger.entry(next).cloned() else { break };
            let events = f.docket.apply(&entry);
            let promise = f.config_seen.timing.promise;
            for event in &events {
                touched.add(event);
                match event {
                    Event::SessionOpened { session, .. } => {
                        f.promises.session_opened(now.voter, *session, promise);
                    }
                    Event::TakeBackBegun { ticket, term } => {
                        f.promises.take_back_begun(now.voter, *ticket, *term);
                    }
                    _ => {}
                }
            }
            any = true;
            self.after_entry(&entry, &events);
            let (index, wall_ms) = (entry.index, entry.wall_ms);
            self.news.push(Effect::Decided { index, wall_ms, events });
        }
        if any {
            if let Some(f) = &mut self.formed {
                if let Some(h) = &mut f.holder {
                    h.docket_changed(now.holder, &f.docket, &touched);
                }
                if f.docket.applied().0 - f.snapshot_at.0 >= limits::SNAPSHOT_EVERY_ENTRIES {
                    f.snapshot_at = f.docket.applied();
                    f.promises.prune(&f.docket);
                    f.ledger.compact(f.docket.applied(), f.docket.to_bytes());
                    self.checkpoint = true;
                }
            }
            self.check_membership();
        }
        any
    }

    pub(super) fn after_entry(&mut self, entry: &Entry, events: &[Event]) {
        let mut moved: BTreeMap<&MemberName, (Term, Vec<TicketId>)> = BTreeMap::new();
        for event in events {
            if let Event::Granted { ticket, site, term, automatic: true, .. } = event {
                moved.entry(site).or_insert((*term, Vec::new())).1.push(*ticket);
            }
        }
        for (to, (term, ids)) in moved {
            let name = |id: &TicketId| {
                let ticket = self.docket().and_then(|d| d.ticket(*id));
                ticket.map_or_else(|| id.to_string(), |t| t.name.to_string())
            };
            let tickets: Vec<String> =
                ids.iter().take(limits::TICKETS_NAMED_IN_ALARMS).map(name).collect();
            let more = ids.len() - tickets.len();
            let alarm = Alarm::Moved { tickets, more, to: to.clone(), term };
            self.news.push(Effect::Alarm(alarm));
        }
        self.entry_applied(entry, events);
    }

    /// A member that the committed configuration does not contain takes no part.
    pub(super) fn check_membership(&mut self) {
        let removed = self.formed.as_ref().is_some_and(|f| {
            f.docket.configuration().member(f.me).is_none() && f.config_seen.member(f.me).is_none()
        });
        if removed && self.standing == Standing::TakingPart {
            self.out(Alarm::Removed);
        }
    }

    pub(super) fn run_promises(&mut self, now: Now) {
        let Some(f) = &mut self.formed else { return };
        let due = f.promises.due(now.voter, &f.docket);
        let new = due.iter().map(|(_, vote)| *vote).filter(|v| !f.own_durable.contains(&v.target));
        let new: Vec<FenceVote> = new.collect();
        for vote in new {
            self.write_vote(now, vote);
        }
        for (asked_by, vote) in due {
            if let Some(name) = self.name_of(asked_by) {
                let reply =
                    Message::FenceReply { target: vote.target, vote: Some(vote), wait: None };
                self.send(&name, Lane::Stream, reply, !is_planted(Bug::VoteHeardFirst));
            }
        }
    }

    pub(super) fn run_steward(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        if !f.in_charge() {
            return false;
        }
        let voters = f.ledger.configuration().0.voter_ids();
        let mut steward = std::mem::take(&mut f.steward);
        steward.tick(&f.scene(now, &voters));
        let mut wishes = Vec::new();
        while let Some(w) = steward.poll() {
            wishes.push(w);
        }
        f.steward = steward;
        let mut busy = false;
        for wish in wishes {
            match wish {
                Wish::Ask { voter, target, device_proof } => {
                    if let Some(name) = self.name_of(voter) {
                        let ask = Message::FenceRequest { target, device_proof };
                        self.send(&name, Lane::Stream, ask, false);
                    }
                }
                Wish::VoteHere { target, device_proof } => {
                    if let Some(f) = &mut self.formed {
                        let vote = f.promises.fence(now.voter, target, device_proof, &f.docket);
                        self.write_vote(now, vote);
                    }
                }
                Wish::Decide(ops) => {
                    if let Some(f) = &mut self.formed
                        && let Ok(index) = f.ledger.propose(now.voter, now.wall_ms, ops)
                    {
                        f.steward.decided(index);
                        busy = true;
                    }
                }
            }
        }
        busy
    }

    pub(super) fn run_holder(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        let Some(h) = &mut f.holder else { return false };
        h.tick(now.holder, &f.docket);
        let (mut requests, mut findings) = (Vec::new(), Vec::new());
        while let Some(order) = h.poll_order() {
            self.effects.push_back(Effect::Order(order));
        }
        while let Some(r) = h.poll_request() {
            requests.push(r);
        }
        while let Some(finding) = h.poll_finding() {
            findings.push(finding);
        }
        let distrusted = h.distrusted().map(ToOwned::to_owned);
        let busy = !requests.is_empty();
        for r in requests {
            self.holder_request(now, &r);
        }
        for finding in findings {
            self.report_finding(&finding);
        }
        if let Some(why) = distrusted {
            self.alarm_once("own-clock", Alarm::OwnClock(why));
        }
        busy
    }

    pub(super) fn holder_request(&mut self, now: Now, request: &Request) {
        match *request {
            Request::Renew(renew) => self.renew_everywhere(now, renew),
            Request::Open(supersedes) => {
                let (site, incarnation) = (self.settings.name.clone(), self.settings.boot);
                self.internal_command(now, Command::OpenSession { site, incarnation, supersedes });
            }
            Request::Close(session) => {
                self.internal_command(now, Command::CloseSession { session });
            }
            Request::Release(ticket, session, term) => {
                self.internal_command(now, Command::Released { ticket, session, term });
            }
        }
    }

    pub(super) fn renew_everywhere(&mut self, now: Now, renew: Renew) {
        let Some(f) = &self.formed else { return };
        let me = f.me;
        let voters: Vec<(MemberId, MemberName)> =
            f.ledger.configuration().0.voters.iter().map(|(id, m)| (*id, m.name.clone())).collect();
        for (id, name) in voters {
            if id == me {
                let answer = self.answer(now, &name, renew);
                if let Some(h) = self.holder_mut() {
                    h.answered(now.holder, me, &answer);
                }
            } else {
                self.send(&name, Lane::Datagram, Message::Renew(renew), false);
            }
        }
        if let Some(f) = &mut self.formed {
            f.ledger.beat_along(now.voter);
        }
    }

    pub(super) fn report_finding(&mut self, finding: &Finding) {
        let Some(member) = self.name_of(finding.voter) else { return };
        self.alarm(Alarm::ClockBeyondBound {
            member,
            excess_us: finding.excess_us,
            over_ms: finding.over.as_millis() as u64,
        });
    }
}
