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
use crate::planted::{Bug, is_planted};
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

/// All that a grant depends on: the docket, the sites' reports, and who is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Looked {
    applied: LogIndex,
    reports: u64,
    alive: Vec<SessionId>,
}

/// One-move windows, counted on this leader's clock from when it first saw them: a new leader counts
/// anew, so a window is never cut short. Kept by their ends, because after the loss of a site every
/// ticket has one, for an hour, and a leader looks at them hundreds of times a second.
#[derive(Debug, Default)]
struct Windows {
    as_of: Option<LogIndex>,
    begun: BTreeMap<TicketId, (LogIndex, VoterTime)>,
    ends: BTreeSet<(VoterTime, TicketId)>,
}

impl Windows {
    fn refresh(&mut self, now: VoterTime, docket: &Docket) {
        if self.as_of.replace(docket.applied()) == Some(docket.applied()) {
            return;
        }
        let known = std::mem::take(&mut self.begun);
        self.ends.clear();
        for t in docket.watched() {
            let Some(Hold::OneMove { since }) = t.hold else { continue };
            let begun = known.get(&t.id).filter(|(index, _)| *index == since);
            let begun = begun.map_or(now, |(_, begun)| *begun);
            self.begun.insert(t.id, (since, begun));
            self.ends.insert((begun + t.policy.one_move_per, t.id));
        }
    }

    fn over(&self, now: VoterTime) -> Vec<TicketId> {
        self.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| *id).collect()
    }

    fn next(&self) -> Option<VoterTime> {
        self.ends.first().map(|(end, _)| *end)
    }
}

/// The steward; see the module.
#[derive(Debug, Default)]
pub struct Steward {
    suspicions: BTreeMap<FenceTarget, Suspicion>,
    device_proofs: BTreeSet<SessionId>,
    readiness: BTreeMap<MemberName, Readiness>,
    /// Grows with each report.
    reports: u64,
    undecided: Option<LogIndex>,
    windows: Windows,
    /// What was looked at when no ticket could be granted: until it differs, none can.
    in_vain: Option<Looked>,
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
        self.windows = Windows::default();
        self.in_vain = None;
        self.lead = ballot.map(|b| (b, now));
    }

    /// A site's report; kept by every member so that a new leader knows.
    pub fn readiness(&mut self, site: MemberName, mut report: Readiness) {
        report.tickets.sort_by_key(|(id, _)| *id);
        if self.readiness.get(&site) == Some(&report) {
            return;
        }
        self.reports += 1;
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
            let one = !s.votes.is_empty() && is_planted(Bug::OneVoteExpires);
            if one || quorum::has_majority(scene.voters, s.votes.keys()) {
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
        self.windows.refresh(scene.now, scene.docket);
        ops.extend(self.windows.over(scene.now).into_iter().map(|ticket| Op::Resume { ticket }));
        match try_out(scene, &ops) {
            Some(_) if is_planted(Bug::ExpiryAlone) => {}
            Some(after) => ops.extend(self.takeovers(scene, &after)),
            None => ops = self.takeovers_if_news(scene),
        }
        ops
    }

    /// Tickets that nobody may have are looked at again only when something has changed for them.
    fn takeovers_if_news(&mut self, scene: &Scene<'_>) -> Vec<Op> {
        let sessions = scene.docket.open_sessions().map(|(id, _)| id);
        let looked = Some(Looked {
            applied: scene.docket.applied(),
            reports: self.reports,
            alive: sessions.filter(|id| scene.promises.lives(scene.now, *id)).collect(),
        });
        if self.in_vain == looked {
            return Vec::new();
        }
        let ops = self.takeovers(scene, scene.docket);
        self.in_vain = looked.filter(|_| ops.is_empty());
        ops
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
        let own = report.tickets.binary_search_by_key(&ticket.id, |(id, _)| *id);
        let own = own.ok().map(|at| &report.tickets[at].1);
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
        next = earlier(next, self.windows.next());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{Configuration, MemberInfo, Role};
    use crate::entry::{LossPolicy, Policy, Regrant};
    use crate::ids::{ClusterId, Generation, Incarnation, StoreId, Term};
    use crate::timing::Profile;

    fn at(ms: u64) -> VoterTime {
        VoterTime::from_nanos(ms * 1_000_000)
    }

    fn configuration() -> Configuration {
        let info = |name: &str| MemberInfo {
            name: name.parse().unwrap(),
            role: Role::Site,
            store: StoreId::default(),
            addresses: Vec::new(),
        };
        let names = ["paris", "rome"];
        Configuration {
            cluster: ClusterId::default(),
            generation: Generation(0),
            voters: (1..).map(MemberId).zip(names.map(info)).collect(),
            learners: BTreeMap::new(),
            next_member: MemberId(3),
            timing: Profile::MetroFast.timing(),
            digest: [0; 16],
        }
    }

    /// One docket, one voter, and a leader's steward.
    struct Desk {
        docket: Docket,
        promises: Promises,
        steward: Steward,
    }

    impl Desk {
        fn new() -> Self {
            let t = Profile::MetroFast.timing().promise;
            let mut steward = Steward::default();
            steward.lead(at(0), Some(Ballot(1)));
            let promises = Promises::new(MemberId(1), at(0), t, BTreeMap::new());
            Self { docket: Docket::new(configuration()), promises, steward }
        }

        fn apply(&mut self, ops: Vec<Op>) -> LogIndex {
            let index = self.docket.applied().next();
            let payload = Payload::Batch(ops);
            self.docket.apply(&Entry { index, ballot: Ballot(1), wall_ms: 0, payload });
            self.docket.invariants();
            index
        }

        fn decided(&mut self, now: VoterTime) -> Vec<Op> {
            let voters = self.docket.configuration().voter_ids();
            let scene = Scene {
                me: MemberId(1),
                now,
                wall_ms: 0,
                voters: &voters,
                timing: &Profile::MetroFast.timing(),
                docket: &self.docket,
                promises: &self.promises,
                own_durable: &BTreeSet::new(),
            };
            self.steward.tick(&scene);
            let wishes = std::iter::from_fn(|| self.steward.poll());
            let ops = wishes.filter_map(|w| match w {
                Wish::Decide(ops) => Some(ops),
                Wish::Ask { .. } | Wish::VoteHere { .. } => None,
            });
            ops.flatten().collect()
        }

        /// A site's session; nothing is known of its readiness yet.
        fn open(&mut self, now: VoterTime, site: &str, boot: u8) -> SessionId {
            let (site, incarnation) = (site.parse().unwrap(), Incarnation([boot; 16]));
            let op = Op::OpenSession { site, incarnation, supersedes: None };
            let session = SessionId(self.apply(vec![op]).0);
            self.promises.session_opened(now, session, Duration::from_hours(9));
            session
        }

        /// Tickets that paris gave up for any other site: each wants a holder.
        fn wanted(&mut self, count: u32, paris: SessionId, one_move_per: Duration) {
            let policy = Policy {
                mode: Mode::Auto,
                regrant: Regrant::Lapse,
                loss: LossPolicy::Stop,
                prefer: vec!["rome".parse().unwrap()],
                one_move_per,
                require: BTreeMap::new(),
                max_lag: None,
                stop_budget: Duration::from_millis(100),
            };
            let name = |n| format!("t{n}").parse().unwrap();
            let set = |n| Op::SetTicket { name: name(n), policy: policy.clone() };
            self.apply((1..=count).map(set).collect());
            let grant = |n| Op::Grant { ticket: TicketId(n), to: paris, automatic: false };
            let term = Term::new(Generation(0), self.apply((1..=count).map(grant).collect()));
            let release = |n| Op::Release { ticket: TicketId(n), session: paris, term };
            self.apply((1..=count).map(release).collect());
        }
    }

    #[test]
    fn tickets_that_nobody_may_have_are_looked_at_again_only_when_something_changed() {
        let mut desk = Desk::new();
        let paris = desk.open(at(0), "paris", 1);
        let rome = desk.open(at(0), "rome", 2);
        desk.wanted(3, paris, Duration::ZERO);
        assert_eq!(desk.decided(at(1)), [], "rome has not reported");
        let looked = desk.steward.in_vain.clone();
        assert!(looked.is_some(), "what was looked at is remembered");
        assert_eq!(desk.decided(at(2)), []);
        assert_eq!(desk.steward.in_vain, looked, "and nothing has changed");

        let report = Readiness { session: rome, not_ready: None, tickets: Vec::new() };
        desk.steward.readiness("rome".parse().unwrap(), report);
        let grant = |n| Op::Grant { ticket: TicketId(n), to: rome, automatic: true };
        assert_eq!(desk.decided(at(3)), [grant(1), grant(2), grant(3)], "a report is news");
        assert_eq!(desk.decided(at(4)).len(), 3, "a decision that was not taken is wished again");
    }

    #[test]
    fn a_declaration_in_the_docket_is_news_too() {
        let mut desk = Desk::new();
        let paris = desk.open(at(0), "paris", 1);
        let rome = desk.open(at(0), "rome", 2);
        let report = Readiness { session: rome, not_ready: None, tickets: Vec::new() };
        desk.steward.readiness("rome".parse().unwrap(), report);
        let declare = |state| {
            vec![Op::DeclareSite { site: "rome".parse().unwrap(), state, note: String::new() }]
        };
        desk.apply(declare(SiteState::Outage));
        desk.wanted(1, paris, Duration::ZERO);
        assert_eq!(desk.decided(at(1)), []);
        desk.apply(declare(SiteState::Normal));
        assert_eq!(desk.decided(at(2)).len(), 1);
    }

    #[test]
    fn windows_end_in_their_order_however_many_there_are() {
        let mut desk = Desk::new();
        let paris = desk.open(at(0), "paris", 1);
        let rome = desk.open(at(0), "rome", 2);
        desk.wanted(2, paris, Duration::from_mins(1));
        for n in 1..=2 {
            desk.apply(vec![Op::Grant { ticket: TicketId(n), to: rome, automatic: true }]);
            // Each window begins when this leader first sees it.
            assert_eq!(desk.decided(at(1_000 * u64::from(n))), []);
        }
        assert_eq!(desk.steward.windows.next(), Some(at(61_000)));
        assert_eq!(desk.decided(at(60_999)), []);
        assert_eq!(desk.decided(at(61_000)), [Op::Resume { ticket: TicketId(1) }]);
        desk.apply(vec![Op::Resume { ticket: TicketId(1) }]);
        assert_eq!(desk.decided(at(61_999)), []);
        assert_eq!(desk.decided(at(62_000)), [Op::Resume { ticket: TicketId(2) }]);
        desk.apply(vec![Op::Resume { ticket: TicketId(2) }]);
        assert_eq!(desk.decided(at(62_001)), []);
        assert_eq!(desk.steward.windows.next(), None);
    }
}
