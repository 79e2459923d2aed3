//! Promises: what a voter owes to sessions, and when it may vote to fence them (R1 to R4).
//!
//! A promise is a timer on the voter's own clock, set from the *receipt* of a renewal. Nobody reads
//! it but this voter. It is volatile: after a restart the voter has forgotten what it promised, and
//! instead counts every session as promised for the largest T it ever gave (the quarantine, R2, R4).
//! A fence vote is the opposite: durable before anybody hears of it, and never taken back (R3).
//!
//! Invariants: `never_promise_fenced` (R3), `fence_only_after_timer` (R2), both asserted where the
//! decision is made.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::docket::{Docket, SessionState};
use crate::entry::{FenceTarget, FenceVote, Proof};
use crate::ids::{ConfigIndex, MemberId, SessionId, Term, TicketId};
use crate::limits;
use crate::message::{Answer, Refused, Renew, Verdict};
use crate::planted::{Bug, is_planted};
use crate::time::{VoterTime, earlier};

/// A fence request that waits for this voter's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    target: FenceTarget,
    asked_by: MemberId,
    device_proof: bool,
}

/// The voter's half; see the module.
#[derive(Clone, Debug)]
pub struct Promises {
    me: MemberId,
    started: VoterTime,
    max_promise: Duration,
    until: BTreeMap<SessionId, VoterTime>,
    fences: BTreeMap<FenceTarget, FenceVote>,
    named_since: BTreeMap<(TicketId, Term), VoterTime>,
    pending: Vec<Pending>,
}

impl Promises {
    /// A voter that starts now, with what it must not have forgotten.
    pub fn new(
        me: MemberId,
        started: VoterTime,
        max_promise: Duration,
        fences: BTreeMap<FenceTarget, FenceVote>,
    ) -> Self {
        Self {
            me,
            started,
            max_promise,
            until: BTreeMap::new(),
            fences,
            named_since: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    /// R1: answers a renewal. The caller has checked that the voter may speak at all.
    pub fn renew(
        &mut self,
        now: VoterTime,
        renew: Renew,
        docket: &Docket,
        config_index: ConfigIndex,
        promise: Duration,
    ) -> Answer {
        let verdict = self.verdict(now, renew.session, docket, config_index, promise);
        Answer { session: renew.session, seq: renew.seq, clock: now, verdict }
    }

    fn verdict(
        &mut self,
        now: VoterTime,
        session: SessionId,
        docket: &Docket,
        config_index: ConfigIndex,
        promise: Duration,
    ) -> Verdict {
        let fenced = self.fences.contains_key(&FenceTarget::Session(session));
        if fenced && !is_planted(Bug::PromiseAfterVote) {
            return Verdict::Refused(Refused::Fenced); // R3
        }
        match docket.session(session).map(|s| s.state) {
            Some(SessionState::Open) => {}
            Some(_) => return Verdict::Refused(Refused::Ended),
            // Session numbers are ledger indexes: one at or below the applied index that is not
            // in the docket has ended, one above it is news.
            None if session.0 <= docket.applied().0 => return Verdict::Refused(Refused::Ended),
            None => return Verdict::Refused(Refused::UnknownSession),
        }
        if promise > self.max_promise && !is_planted(Bug::PromisedBeforeDurable) {
            return Verdict::Refused(Refused::NotReady); // R1: the largest T is durable first
        }
        let until = self.until.entry(session).or_default();
        if !is_planted(Bug::PromiseNotKept) {
            *until = (*until).max(now + promise);
        }
        self.pending.retain(|p| p.target != FenceTarget::Session(session));
        let mut revoking = docket.not_extended(session);
        if is_planted(Bug::TakeBackNotNamed) {
            revoking.clear();
        }
        assert!(
            !self.fences.contains_key(&FenceTarget::Session(session))
                || is_planted(Bug::PromiseAfterVote),
            "never_promise_fenced (R3)"
        );
        Verdict::Promised { promise, config_index, revoking: revoking.into_iter().collect() }
    }

    /// A session was opened: it counts as promised from here on, so that nobody is fenced between
    /// its opening and its first renewal.
    pub fn session_opened(&mut self, now: VoterTime, session: SessionId, promise: Duration) {
        if !is_planted(Bug::OpeningNotPromised) {
            self.until.insert(session, now + promise.max(self.max_promise));
        }
    }

    /// From here on every answer names the ticket.
    pub fn take_back_begun(&mut self, now: VoterTime, ticket: TicketId, term: Term) {
        self.named_since.entry((ticket, term)).or_insert(now);
    }

    /// A larger T has become durable.
    pub fn max_promise_durable(&mut self, promise: Duration) {
        self.max_promise = self.max_promise.max(promise);
    }

    /// The largest T that may be promised now.
    pub fn max_promise(&self) -> Duration {
        self.max_promise
    }

    /// R2, R4: when this voter's timers allow a vote on `target`.
    pub fn free_at(&self, target: FenceTarget) -> VoterTime {
        let mut quarantine = self.started + self.max_promise;
        if is_planted(Bug::NoQuarantine) {
            quarantine = self.started;
        }
        if is_planted(Bug::VotesEarly) {
            return quarantine;
        }
        let timer = match target {
            FenceTarget::Session(s) => self.until.get(&s).copied(),
            FenceTarget::Ticket(id, term) => {
                let named = self.named_since.get(&(id, term)).copied().unwrap_or(self.started);
                let wait = !is_planted(Bug::TakeBackAtOnce);
                wait.then(|| named + self.max_promise)
            }
        };
        timer.map_or(quarantine, |t| t.max(quarantine))
    }

    /// Whether a promise to the session still runs here: it is alive as far as this voter knows.
    pub fn lives(&self, now: VoterTime, session: SessionId) -> bool {
        self.until.get(&session).is_some_and(|t| *t > now)
            && !self.fences.contains_key(&FenceTarget::Session(session))
    }

    /// Time left on the promise to a session.
    pub fn remaining(&self, now: VoterTime, session: SessionId) -> Duration {
        self.until.get(&session).map_or(Duration::ZERO, |t| t.since(now))
    }

    /// The vote on `target`, if it was given.
    pub fn vote_on(&self, target: FenceTarget) -> Option<FenceVote> {
        self.fences.get(&target).copied()
    }

    /// Whether a vote on `target` may be given now. Tickets are taken back only while the docket
    /// says so: a voter that is behind may still be extending them.
    pub fn may_fence(
        &self,
        now: VoterTime,
        target: FenceTarget,
        device_proof: bool,
        docket: &Docket,
    ) -> bool {
        match target {
            FenceTarget::Session(s) => {
                let open = docket.session(s).is_some_and(|s| s.state == SessionState::Open);
                open && (device_proof || self.free_at(target) <= now)
            }
            FenceTarget::Ticket(id, term) => {
                let back = docket.ticket(id).and_then(|t| t.holder()).is_some_and(|(s, _, t)| {
                    t == term && docket.taking_back(s).contains(&(id, term))
                });
                back && self.free_at(target) <= now
            }
        }
    }

    /// R2: votes. The caller makes the vote durable before anybody hears of it.
    ///
    /// # Panics
    /// When the timers do not allow it (`fence_only_after_timer`): callers ask `may_fence` first.
    pub fn fence(
        &mut self,
        now: VoterTime,
        target: FenceTarget,
        device_proof: bool,
        docket: &Docket,
    ) -> FenceVote {
        assert!(self.may_fence(now, target, device_proof, docket), "fence_only_after_timer (R2)");
        let lapsed = self.free_at(target) <= now;
        let basis = if lapsed { Proof::Lapsed } else { Proof::Fenced };
        let vote = FenceVote { voter: self.me, target, basis };
        self.fences.insert(target, vote);
        vote
    }

    /// Keeps a request until the timers allow it; a renewal in between drops it.
    pub fn remember_request(
        &mut self,
        target: FenceTarget,
        asked_by: MemberId,
        device_proof: bool,
    ) {
        let p = Pending { target, asked_by, device_proof };
        if !self.pending.contains(&p) && self.pending.len() < limits::MAX_PENDING_FENCES {
            self.pending.push(p);
        }
    }

    /// Requests whose time has come, with the votes to make durable and send.
    pub fn due(&mut self, now: VoterTime, docket: &Docket) -> Vec<(MemberId, FenceVote)> {
        let pending = std::mem::take(&mut self.pending);
        let mut due = Vec::new();
        for p in pending {
            if let Some(vote) = self.vote_on(p.target) {
                due.push((p.asked_by, vote));
            } else if self.may_fence(now, p.target, p.device_proof, docket) {
                due.push((p.asked_by, self.fence(now, p.target, p.device_proof, docket)));
            } else if self.free_at(p.target) > now {
                self.pending.push(p);
            }
        }
        due
    }

    /// When `due` has something to say next.
    pub fn deadline(&self) -> Option<VoterTime> {
        self.pending.iter().fold(None, |d, p| earlier(d, Some(self.free_at(p.target))))
    }

    /// The docket was replaced by a snapshot: what is new in it counts as seen from now on.
    pub fn docket_replaced(&mut self, now: VoterTime, docket: &Docket, promise: Duration) {
        for (session, _) in docket.open_sessions() {
            let until = now + promise.max(self.max_promise);
            self.until.entry(session).or_insert(until);
            for (ticket, term) in docket.taking_back(session) {
                self.take_back_begun(now, ticket, term);
            }
        }
    }

    /// Drops what a snapshot of this docket leaves behind. Only a snapshot may: after a restart the
    /// docket begins there, so a vote on a session that is still open in it must be remembered
    /// (R3), however long ago the session ended.
    pub fn prune(&mut self, docket: &Docket) {
        let open = |s: SessionId| {
            s.0 > docket.applied().0
                || docket.session(s).is_some_and(|s| s.state == SessionState::Open)
        };
        let held = |id: TicketId, term: Term| {
            term.index() > docket.applied()
                || docket.ticket(id).and_then(|t| t.holder()).is_some_and(|h| h.2 == term)
        };
        self.until.retain(|s, _| open(*s));
        self.named_since.retain(|(id, term), _| held(*id, *term));
        self.fences.retain(|t, _| match t {
            FenceTarget::Session(s) => open(*s),
            FenceTarget::Ticket(id, term) => held(*id, *term),
        });
    }

    /// All votes that must stay durable.
    pub fn votes(&self) -> impl Iterator<Item = FenceVote> + '_ {
        self.fences.values().copied()
    }
}

#[cfg(test)]
mod tests;
