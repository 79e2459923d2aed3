//! The steward: what the ledger's leader does besides keeping the log. It notices sessions whose
//! promises run out, gathers fence votes, and turns them into one batch of expiry and grants (R8 to
//! R10); it takes single tickets back, and it decides who takes over.
//!
//! Asking is not voting: other voters are asked first, and this voter fences only when its own vote
//! completes a majority. So a cut that only this member sees fences nobody.
//!
//! Everything here is volatile. A new leader starts empty and asks again; votes given stay given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::docket::{Docket, FreeBecause, Hold, Holding, Ticket};
use crate::entry::{Entry, FenceTarget, FenceVote, Mode, Op, Payload, SiteState};
use crate::ids::{Ballot, LogIndex, MemberId, MemberName, SessionId, TicketId};
use crate::message::Readiness;
use crate::promise::Promises;
use crate::quorum;
use crate::time::{VoterTime, earlier};
use crate::timing::{Timing, show};

/// What the steward wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Ask a voter for its vote.
    Ask {
        /// Whom.
        voter: MemberId,
        /// About what.
        target: FenceTarget,
        /// With a device's proof of power-off.
        device_proof: bool,
    },
    /// Give this member's own vote: it completes a majority.
    VoteHere {
        /// On what.
        target: FenceTarget,
        /// With a device's proof of power-off.
        device_proof: bool,
    },
    /// Append a batch.
    Decide(Vec<Op>),
}

/// Why a ticket is not granted to a site now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEligible {
    /// Which site.
    pub site: MemberName,
    /// Why not, in words.
    pub why: String,
}

#[derive(Clone, Debug, Default)]
struct Suspicion {
    votes: BTreeMap<MemberId, FenceVote>,
    asked: Option<VoterTime>,
}

/// The steward; see the module.
#[derive(Debug, Default)]
pub struct Steward {
    suspicions: BTreeMap<FenceTarget, Suspicion>,
    device_proofs: BTreeSet<SessionId>,
    readiness: BTreeMap<MemberName, Readiness>,
    undecided: Option<LogIndex>,
    windows: BTreeMap<TicketId, (LogIndex, VoterTime)>,
    lead: Option<(Ballot, VoterTime)>,
    wishes: Vec<Wish>,
}

/// What the steward looks at.
pub struct Scene<'a> {
    /// This voter.
    pub me: MemberId,
    /// Its clock.
    pub now: VoterTime,
    /// Wall clock for entries that are tried out.
    pub wall_ms: u64,
    /// The newest configuration's voters (R8).
    pub voters: &'a BTreeSet<MemberId>,
    /// Lease times.
    pub timing: &'a Timing,
    /// The docket as applied.
    pub docket: &'a Docket,
    /// This voter's promises.
    pub promises: &'a Promises,
    /// Votes of this member that are durable.
    pub own_durable: &'a BTreeSet<FenceTarget>,
}

impl Steward {
    /// Leadership began (with this ballot) or ended.
    pub fn lead(&mut self, now: VoterTime, ballot: Option<Ballot>) {
        self.suspicions.clear();
        self.undecided = None;
        self.windows.clear();
        self.lead = ballot.map(|b| (b, now));
    }

    /// A site's report; kept by every member so that a new leader knows.
    pub fn readiness(&mut self, site: MemberName, report: Readiness) {
        self.readiness.insert(site, report);
    }

    /// The report of a site, if it is of its present session.
    pub fn readiness_of(&self, site: &MemberName) -> Option<&Readiness> {
        self.readiness.get(site)
    }

    /// A fence device has confirmed power-off of every node of the session.
    pub fn device_proof(&mut self, session: SessionId) {
        self.device_proofs.insert(session);
    }

    /// A voter's answer to `Ask`.
    pub fn reply(&mut self, from: MemberId, vote: FenceVote) {
        if vote.voter == from
            && let Some(s) = self.suspicions.get_mut(&vote.target)
        {
            s.votes.insert(from, vote);
        }
    }

    /// A batch was appended at `index`: no other is tried until it is applied.
    pub fn decided(&mut self, index: LogIndex) {
        self.undecided = Some(index);
    }

    /// Next wish.
    pub fn poll(&mut self) -> Option<Wish> {
        if self.wishes.is_empty() { None } else { Some(self.wishes.remove(0)) }
    }

    /// Sessions and tickets under suspicion, for status.
    pub fn suspects(&self) -> impl Iterator<Item = FenceTarget> + '_ {
        self.suspicions.keys().copied()
    }

    /// Looks around and wishes. Does nothing unless leading.
    pub fn tick(&mut self, scene: &Scene<'_>) {
        if self.lead.is_none() {
            return;
        }
        if self.undecided.is_some_and(|i| scene.docket.applied() >= i) {
            self.undecided = None;
        }
        self.suspect(scene);
        let ready = self.gather(scene);
        if self.undecided.is_some() {
            return;
        }
        let ops = self.decide(scene, ready);
        if !ops.is_empty() {
            self.wishes.push(Wish::Decide(ops));
        }
    }

    /// Which sessions and tickets are to be fenced.
    fn suspect(&mut self, scene: &Scene<'_>) {
        let mut targets = BTreeSet::new();
        for (session, _) in scene.docket.open_sessions() {
            // Asked a little early: a voter keeps the question until its own timer has run out.
            let left = scene.promises.free_at(FenceTarget::Session(session)).since(scene.now);
            if left <= scene.timing.promise / 4 || self.device_proofs.contains(&session) {
                targets.insert(FenceTarget::Session(session));
            }
            for (ticket, term) in scene.docket.taking_back(session) {
                targets.insert(FenceTarget::Ticket(ticket, term));
            }
        }
        self.suspicions.retain(|t, _| targets.contains(t));
        self.device_proofs.retain(|s| scene.docket.session(*s).is_some());
        for t in targets {
            self.suspicions.entry(t).or_default();
        }
    }

    /// Asks for votes; returns the targets whose votes are complete and durable.
    fn gather(&mut self, scene: &Scene<'_>) -> Vec<(FenceTarget, Vec<FenceVote>)> {
        let mut ready = Vec::new();
        let again = scene.timing.promise / 4;
        for (target, s) in &mut self.suspicions {
            let device_proof =
                matches!(target, FenceTarget::Session(s) if self.device_proofs.contains(s));
            if let Some(own) = scene.promises.vote_on(*target)
                && scene.own_durable.contains(target)
            {
                s.votes.insert(scene.me, own);
            }
            if quorum::has_majority(scene.voters, s.votes.keys()) {
                ready.push((*target, s.votes.values().copied().collect()));
                continue;
            }
            if s.asked.is_none_or(|t| scene.now.since(t) >= again) {
                s.asked = Some(scene.now);
                let others =
                    scene.voters.iter().filter(|v| **v != scene.me && !s.votes.contains_key(v));
                let ask = |v: &MemberId| Wish::Ask { voter: *v, target: *target, device_proof };
                self.wishes.extend(others.map(ask));
            }
            let with_me = s.votes.keys().chain([&scene.me]);
            if scene.promises.vote_on(*target).is_none()
                && quorum::has_majority(scene.voters, with_me)
                && scene.promises.may_fence(scene.now, *target, device_proof, scene.docket)
            {
                self.wishes.push(Wish::VoteHere { target: *target, device_proof });
            }
        }
        ready
    }

    /// R10: all that can be decided now, as one batch.
    fn decide(&mut self, scene: &Scene<'_>, ready: Vec<(FenceTarget, Vec<FenceVote>)>) -> Vec<Op> {
        let mut ops: Vec<Op> = ready
            .into_iter()
            .map(|(target, votes)| match target {
                FenceTarget::Session(session) => Op::Expire { session, votes },
                FenceTarget::Ticket(ticket, term) => Op::ExpireTicket { ticket, term, votes },
            })
            .collect();
        ops.extend(self.windows_over(scene));
        let after = try_out(scene, &ops);
        let docket = after.as_ref().unwrap_or(scene.docket);
        ops.extend(self.takeovers(scene, docket));
        ops
    }

    /// One-move windows that have passed, counted on this leader's clock from when it first saw
    /// them: a new leader counts anew, so a window is never cut short.
    fn windows_over(&mut self, scene: &Scene<'_>) -> Vec<Op> {
        let mut over = Vec::new();
        let mut seen = BTreeSet::new();
        for t in scene.docket.watched() {
            if let Some(Hold::OneMove { since }) = t.hold {
                seen.insert(t.id);
                let (index, begun) = *self.windows.entry(t.id).or_insert((since, scene.now));
                if index != since {
                    self.windows.insert(t.id, (since, scene.now));
                } else if scene.now.since(begun) >= t.policy.one_move_per {
                    over.push(Op::Resume { ticket: t.id });
                }
            }
        }
        self.windows.retain(|t, _| seen.contains(t));
        over
    }

    fn takeovers(&self, scene: &Scene<'_>, docket: &Docket) -> Vec<Op> {
        let sites = docket.site_names();
        let mut ops = Vec::new();
        for t in docket.watched() {
            let Holding::Free { wanted: true, because, successor } = &t.holding else { continue };
            if t.proof_missing().is_some() {
                continue;
            }
            // An operator's word goes before mode, preference and hold.
            let named = successor.as_ref().and_then(|s| self.eligible(scene, docket, t, s).ok());
            if let Some(session) = named {
                ops.push(Op::Grant { ticket: t.id, to: session, automatic: false });
                continue;
            }
            if t.policy.mode == Mode::Manual {
                continue;
            }
            // A ticket held in place may still return to where it was: that is no move.
            let home = match (&t.hold, because) {
                (None, _) => None,
                (Some(_), FreeBecause::Lost { site, .. } | FreeBecause::Released { by: site }) => {
                    Some(site)
                }
                (Some(_), FreeBecause::New) => continue,
            };
            let best = t
                .ranked_sites(&sites)
                .into_iter()
                .filter(|s| home.is_none_or(|h| h == *s))
                .find_map(|s| self.eligible(scene, docket, t, s).ok().map(|id| (s, id)));
            let Some((site, session)) = best else { continue };
            if t.policy.mode == Mode::Auto {
                ops.push(Op::Grant { ticket: t.id, to: session, automatic: true });
            } else if t.proposed.as_ref().is_none_or(|(to, _)| to != site) {
                let note = format!("mode {:?}", t.policy.mode).to_lowercase();
                ops.push(Op::Propose { ticket: t.id, to: site.clone(), note });
            }
        }
        ops
    }

    /// The session to which the ticket may be granted at `site`, or why it may not.
    pub fn eligible(
        &self,
        scene: &Scene<'_>,
        docket: &Docket,
        ticket: &Ticket,
        site: &MemberName,
    ) -> Result<SessionId, NotEligible> {
        let no = |why: String| NotEligible { site: site.clone(), why };
        if !ticket.policy.prefer.is_empty() && !ticket.policy.prefer.contains(site) {
            return Err(no("the ticket's policy does not name it".to_owned()));
        }
        if let Some(s) = docket.site(site)
            && s.state != SiteState::Normal
        {
            return Err(no(format!("it is declared {:?}: {}", s.state, s.note).to_lowercase()));
        }
        let session = docket.session_of(site).ok_or_else(|| no("it has no session".to_owned()))?;
        if !scene.promises.lives(scene.now, session) {
            return Err(no("it has not renewed its promises lately".to_owned()));
        }
        for (name, want) in &ticket.policy.require {
            let at_ticket = ticket.attributes.get(&(site.clone(), name.clone()));
            let at_site = docket.site(site).and_then(|s| s.attributes.get(name));
            let have = at_ticket.or(at_site);
            if have != Some(want) {
                let have = have.map_or("not set".to_owned(), |h| format!("{h:?}"));
                return Err(no(format!("attribute {name} is {have}, required is {want:?}")));
            }
        }
        self.ready(ticket, site, session).map_err(no)?;
        Ok(session)
    }

    /// Gates as the site reported them.
    fn ready(&self, ticket: &Ticket, site: &MemberName, session: SessionId) -> Result<(), String> {
        let report = self.readiness.get(site).filter(|r| r.session == session);
        let report = report.ok_or_else(|| "it has not reported its readiness".to_owned())?;
        if let Some(why) = &report.not_ready {
            return Err(why.clone());
        }
        let own = report.tickets.iter().find(|(id, _)| *id == ticket.id).map(|(_, r)| r);
        if let Some(why) = own.and_then(|r| r.blocked.as_ref()) {
            return Err(why.clone());
        }
        if let Some(max) = ticket.policy.max_lag {
            match own.and_then(|r| r.lag) {
                None => return Err("its replication lag is unknown".to_owned()),
                Some(lag) if lag > max => {
                    return Err(format!("replication lag {} is over {}", show(lag), show(max)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// When `tick` should look again.
    pub fn deadline(&self, scene: &Scene<'_>) -> Option<VoterTime> {
        self.lead?;
        let again = scene.timing.promise / 4;
        let mut next: Option<VoterTime> = None;
        for (session, _) in scene.docket.open_sessions() {
            let free = scene.promises.free_at(FenceTarget::Session(session));
            let early = free.minus(again);
            next = earlier(next, Some(if early > scene.now { early } else { free }));
        }
        for (target, s) in &self.suspicions {
            next = earlier(next, s.asked.map(|t| t + again));
            let free = scene.promises.free_at(*target);
            if free > scene.now {
                next = earlier(next, Some(free));
            }
        }
        for t in scene.docket.watched() {
            if let (Some(Hold::OneMove { .. }), Some((_, begun))) =
                (&t.hold, self.windows.get(&t.id))
            {
                next = earlier(next, Some(*begun + t.policy.one_move_per));
            }
        }
        // Never a deadline in the past that nothing would clear: look again a little later.
        next.map(|t| t.max(scene.now + Duration::from_millis(1)))
    }
}

/// The docket as it would be after `ops`; `None` when there are none.
fn try_out(scene: &Scene<'_>, ops: &[Op]) -> Option<Docket> {
    if ops.is_empty() {
        return None;
    }
    let mut docket = scene.docket.clone();
    let entry = Entry {
        index: docket.applied().next(),
        ballot: Ballot(0),
        wall_ms: scene.wall_ms,
        payload: Payload::Batch(ops.to_vec()),
    };
    docket.apply(&entry);
    Some(docket)
}
