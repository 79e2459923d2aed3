//! Leases: renewals sent, answers counted, and the deadlines that follow from them (R12, R15).

use std::time::Duration;

use super::{HeldTicket, Holder, Request};
use crate::docket::Docket;
use crate::ids::{ConfigIndex, MemberId, RenewalSeq};
use crate::limits;
use crate::message::{Answer, Refused, Renew, Verdict};
use crate::planted::{Bug, is_planted};
use crate::quorum;
use crate::time::HolderTime;

impl Holder {
    /// A voter's answer. Answers to renewals that are not open, or of another session, are ignored.
    pub fn answered(&mut self, now: HolderTime, voter: MemberId, answer: &Answer) {
        if Some(answer.session) != self.session || !self.voters.contains(&voter) {
            return;
        }
        let Some(lease) = self.leases.get_mut(&voter) else { return };
        let Some(at) = lease.sent.iter().position(|(seq, _)| *seq == answer.seq) else { return };
        let (_, sent) = lease.sent[at];
        lease.sent.drain(..=at);
        lease.rtt = Some(now.since(sent));
        if let Some(finding) = self.audit.sample(voter, sent, now, answer.clock) {
            self.findings.push_back(finding);
        }
        let mut named = Vec::new();
        match &answer.verdict {
            Verdict::Promised { promise, revoking, .. } => {
                let from = if is_planted(Bug::CountedFromReceipt) { now } else { sent };
                let end = from + self.timing.holder_time_of(*promise);
                for (ticket, term) in revoking.iter().take(limits::MAX_REVOKING) {
                    if let Some(h) = self.tickets.get_mut(ticket)
                        && h.term == *term
                    {
                        h.frozen.entry(voter).or_insert(lease.until);
                        named.push(*ticket);
                    }
                }
                lease.until = lease.until.max(Some(end));
                lease.last_refusal = None;
                lease.answered += 1;
            }
            Verdict::Refused(why) => lease.last_refusal = Some(*why),
        }
        if let Verdict::Promised { config_index, .. } = &answer.verdict {
            self.name_configuration(*config_index);
        }
        for ticket in named {
            self.wake(ticket);
        }
        self.reckon();
    }

    /// A configuration is in somebody's log. One whose place holds something else in what is final
    /// here can never become final, and no quorum of it can decide anything: it does not count.
    pub(super) fn name_configuration(&mut self, index: ConfigIndex) {
        if index.0 > self.settled.0 || is_planted(Bug::OvertakenAwaited) {
            self.newest_named = self.newest_named.max(index);
        }
    }

    /// What is final here has grown.
    pub(super) fn note_final(&mut self, docket: &Docket) {
        self.settled = docket.applied();
        self.settled_config = docket.config_index();
        let overtaken =
            self.newest_named.0 <= self.settled.0 && self.newest_named > self.settled_config;
        if overtaken && !is_planted(Bug::OvertakenAwaited) {
            self.newest_named = self.settled_config;
            self.reckon();
        }
    }

    /// R12: D from the leases, by the newest configuration that any answer named. While that is one
    /// this member does not have, D stays where it is.
    pub(super) fn reckon(&mut self) {
        let newest = self.newest_named.max(self.settled_config);
        if newest > self.config_index && !is_planted(Bug::NewerVotersIgnored) {
            return;
        }
        let own = quorum::reached_by_majority(&self.voters, |v| {
            self.leases.get(&v).and_then(|l| l.until)
        });
        let mut own = own;
        if is_planted(Bug::OneAnswerIsEnough) {
            own = self.leases.values().filter_map(|l| l.until).max();
        }
        self.deadline = own.max(self.inherited);
    }

    pub(super) fn ticket_deadline(&self, h: &HeldTicket) -> Option<HolderTime> {
        if h.frozen.is_empty() {
            return self.deadline;
        }
        if h.capped.is_some() {
            return h.capped;
        }
        let own = quorum::reached_by_majority(&self.voters, |v| match h.frozen.get(&v) {
            Some(frozen) => *frozen,
            None => self.leases.get(&v).and_then(|l| l.until),
        });
        own.max(self.inherited).min(self.deadline)
    }

    /// D − W − B of a ticket with this stop budget (R14).
    pub(super) fn stop_at(&self, budget: Duration, deadline: Option<HolderTime>) -> HolderTime {
        let budget = budget.min(self.timing.stop_budget);
        deadline.map_or(HolderTime::default(), |d| {
            d.minus(self.timing.watchdog_stretched()).minus(budget)
        })
    }

    pub(super) fn renew(&mut self, now: HolderTime, docket: &Docket) {
        let Some(session) = self.session else {
            if now >= self.next_open {
                self.next_open = now + self.timing.renew_every;
                if !self.leaving && self.is_able(now) && self.distrusted.is_none() {
                    // An earlier session of this site belongs to a process that is gone: the site
                    // vouches for it (one node: by the lock on its data directory).
                    self.requests.push_back(Request::Open(docket.session_of(&self.site)));
                }
            }
            return;
        };
        if now < self.next_renewal {
            return;
        }
        self.next_renewal = now + self.timing.renew_every;
        let able = self.is_able(now) || is_planted(Bug::RenewsUnable);
        if !able || self.distrusted.is_some() {
            return; // R15
        }
        let fenced = self.leases.values().any(|l| l.last_refusal == Some(Refused::Fenced));
        let taken = docket.session(session).map_or(0, |s| s.taken.len());
        let crowded = taken >= limits::MAX_TAKEN;
        if (fenced || crowded) && now >= self.next_open && !self.leaving {
            // A minority fenced this session: without a new one it would be lost for good there. Or
            // much was taken back from it, which every answer names until a new one begins.
            self.next_open = now + self.timing.renew_every * 2;
            self.supersede = Some(session);
            self.requests.push_back(Request::Open(Some(session)));
        }
        let renew = Renew { session, seq: self.next_seq };
        self.next_seq = RenewalSeq(self.next_seq.0 + 1);
        for v in &self.voters {
            let lease = self.leases.entry(*v).or_default();
            if lease.sent.len() >= limits::MAX_OPEN_RENEWALS {
                lease.sent.pop_front();
            }
            lease.sent.push_back((renew.seq, now));
        }
        self.requests.push_back(Request::Renew(renew));
    }
}
