//! The state: members, the log, messages on their way, votes that left, and what may still go wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tierce_ticket::delegation::{Delegated, Remaining};
use tierce_ticket::docket::{Docket, Event, Session};
use tierce_ticket::entry::{FenceTarget, FenceVote, Op, Payload, Proof};
use tierce_ticket::holder::{Holder, Request};
use tierce_ticket::ids::{ConfigIndex, MemberId, RenewalSeq, SessionId, Term, TicketId};
use tierce_ticket::message::{Answer, Renew, Verdict};
use tierce_ticket::time::VoterTime;

use crate::clock::{Rate, holder, in_units, voter};
use crate::digest::digester;
use crate::ledger::state::Cluster;
use crate::log::Log;
use crate::member::Member;
use crate::mutant::Mutant;
use crate::scope::{Fault, Scope};

/// The one ticket of the model.
pub const TICKET: TicketId = TicketId(1);
/// Turns of a holder that one input may cause: the product's bound is far higher.
const TURNS: usize = 4;

/// A message on its way. It may arrive at any later instant, or never.
#[allow(missing_docs)] // `sent` is the sender's clock, for the model's own use
#[derive(Clone, Debug, PartialEq)]
pub enum Msg {
    /// A renewal, with the sender's clock when it left (for the model's own use).
    Renew { site: usize, to: MemberId, renew: Renew, sent: u64 },
    /// Its answer.
    Answer { site: usize, from: MemberId, answer: Answer, sent: u64 },
    /// A holder's command to the leader.
    Command(Op),
    /// A node asks its coordinator for the time left.
    Pull { seq: u64, sent: u64 },
    /// The coordinator's answer.
    Remaining { remaining: Remaining, sent: u64 },
}

/// Another node of the first site, which pulls the time left (R16).
#[derive(Clone, Debug)]
pub struct Node {
    /// Rate of its clock.
    pub rate: Rate,
    /// What it shows.
    pub clock: u64,
    /// The real counting.
    pub delegated: Delegated,
}

/// What happened in the step that led to a state; for the `sometimes` properties, not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs(pub u32);

/// Things that a scope must have seen at least once, or it is vacuous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // `words` says each
pub enum Sign {
    GrantedAfterLapse,
    RanUntilJustBefore,
    QuarantineHeldAVoteBack,
    GuardStoppedWhatWasFrozen,
    RefusedByDocket,
    HandedOver,
    TakenBack,
    ReleasedOnTakeBack,
    SessionRolled,
    FencedByAMinority,
    GrantedOnProof,
    PromiseGrew,
    VotersChangedTwice,
    DeadlineHeldByNewerConfiguration,
    NodeRanByItself,
    OldDiskRefused,
    Readmitted,
    WonBack,
    LedByTwo,
}

impl Sign {
    /// As a property's name.
    pub fn words(self) -> &'static str {
        match self {
            Sign::GrantedAfterLapse => "sometimes: a ticket is granted after a lapse",
            Sign::RanUntilJustBefore => "sometimes: the old holder ran until the tick before",
            Sign::QuarantineHeldAVoteBack => "sometimes: only the quarantine holds a vote back",
            Sign::GuardStoppedWhatWasFrozen => "sometimes: the guard stops what a frozen agent ran",
            Sign::RefusedByDocket => "sometimes: a decision from an old log view is refused",
            Sign::HandedOver => "sometimes: release and grant in one entry",
            Sign::TakenBack => "sometimes: a ticket is taken from a session that lives on",
            Sign::ReleasedOnTakeBack => "sometimes: a ticket being taken back is released",
            Sign::SessionRolled => "sometimes: a session is superseded and keeps its ticket",
            Sign::FencedByAMinority => "sometimes: a minority has fenced a session that lives",
            Sign::GrantedOnProof => "sometimes: a ticket is granted on a device's proof",
            Sign::PromiseGrew => "sometimes: a larger T is promised",
            Sign::VotersChangedTwice => "sometimes: the voters change twice",
            Sign::DeadlineHeldByNewerConfiguration => {
                "sometimes: a configuration that it lacks holds a deadline"
            }
            Sign::NodeRanByItself => "sometimes: a node runs while its coordinator is gone",
            Sign::OldDiskRefused => "sometimes: a restored old disk is refused",
            Sign::Readmitted => "sometimes: a wiped voter votes again under a new number",
            Sign::WonBack => "sometimes: the first site holds the ticket again",
            Sign::LedByTwo => "sometimes: a leader does not know yet that another leads",
        }
    }
}

/// The state.
#[derive(Clone)]
pub struct World {
    /// All members: sites first, then arbitrators, then spare ones.
    pub members: Vec<Arc<Member>>,
    /// The decisions.
    pub log: Arc<Log>,
    /// The members' ledgers, where the scope has them.
    pub ledgers: Option<Arc<Cluster>>,
    /// Messages on their way.
    pub net: Vec<Msg>,
    /// Votes that left their voters: they may be counted at any time.
    pub votes: BTreeSet<(MemberId, FenceTarget, bool)>,
    /// What may still go wrong, by kind.
    pub budget: [u8; Fault::COUNT],
    /// Steps of the plan of voter changes that are done.
    pub changes: u8,
    /// Sessions whose nodes a device has powered off.
    pub proofs: BTreeSet<SessionId>,
    /// A second node of the first site.
    pub node: Option<Node>,
    /// See [`Signs`].
    pub signs: Signs,
    /// The old holder ran before the last tick; not compared.
    pub ran_before: bool,
    /// A rule that was seen broken.
    pub broken: Option<&'static str>,
}

impl World {
    /// A member by number.
    pub fn at(&self, id: MemberId) -> usize {
        id.0 as usize - 1
    }
    /// A member, to change it.
    pub fn member(&mut self, i: usize) -> &mut Member {
        Arc::make_mut(&mut self.members[i])
    }
    /// Marks that something happened.
    pub fn sign(&mut self, sign: Sign) {
        self.signs.0 |= 1 << sign as u32;
    }
    /// Whether it happened in the last step.
    pub fn has(&self, sign: Sign) -> bool {
        self.signs.0 & (1 << sign as u32) != 0
    }

    /// Whether a site physically runs the ticket at this instant.
    pub fn runs(&self, i: usize) -> bool {
        let m = &self.members[i];
        let own = m.site.as_ref().is_some_and(|s| s.guard.runs(m.clock, TICKET));
        own || (i == 0 && self.node_runs())
    }
    /// Whether the second node of the first site runs it.
    pub fn node_runs(&self) -> bool {
        self.node.as_ref().is_some_and(|n| n.delegated.deadline(holder(n.clock)).is_some())
    }
    /// Sites that run it.
    pub fn running(&self) -> usize {
        (0..self.members.len()).filter(|i| self.runs(*i)).count()
    }
    /// Votes as the real code wants them.
    pub fn votes_on(&self, target: FenceTarget) -> impl Iterator<Item = FenceVote> + '_ {
        self.votes.iter().filter(move |(_, t, _)| *t == target).map(|(v, t, device)| FenceVote {
            voter: *v,
            target: *t,
            basis: if *device { Proof::Fenced } else { Proof::Lapsed },
        })
    }

    // ----- glue ----------------------------------------------------------------------------

    /// The holder's turns after an input, until it asks for nothing more.
    pub fn turn(&mut self, scope: &Scope, i: usize, mutant: Option<Mutant>) {
        for _ in 0..TURNS {
            let log = Arc::clone(&self.log);
            let requests = self.member(i).run_holder(&log, mutant);
            if requests.is_empty() {
                return;
            }
            for r in requests {
                self.request(scope, i, &r, mutant);
            }
        }
    }

    fn request(&mut self, scope: &Scope, i: usize, request: &Request, mutant: Option<Mutant>) {
        let Some(s) = self.members[i].site.as_ref() else { return };
        let op = match *request {
            Request::Renew(renew) => return self.renew(scope, i, renew, mutant),
            Request::Open(supersedes) => {
                let incarnation = tierce_ticket::ids::Incarnation([s.incarnation; 16]);
                Op::OpenSession { site: s.name.clone(), incarnation, supersedes }
            }
            Request::Close(session) => Op::CloseSession { session },
            Request::Release(ticket, session, term) => Op::Release { ticket, session, term },
        };
        let msg = Msg::Command(op);
        if !self.net.contains(&msg) {
            self.net.push(msg);
        }
    }

    fn renew(&mut self, scope: &Scope, i: usize, renew: Renew, mutant: Option<Mutant>) {
        let m = &self.members[i];
        let (sent, me) = (m.clock, m.id);
        let voters = self.log.docket(m.applied).configuration().voter_ids();
        for to in voters {
            let msg = Msg::Renew { site: i, to, renew, sent };
            // A voter answers its own site in place. The successor's network is perfect where the
            // scope says so: the earliest and longest run of the successor is the adversarial one.
            if to == me || !scope.is_lossy(i) {
                self.deliver(scope, msg, mutant);
            } else {
                self.net.push(msg);
            }
        }
    }

    /// A message arrives.
    pub fn deliver(&mut self, scope: &Scope, msg: Msg, mutant: Option<Mutant>) {
        match msg {
            Msg::Renew { site, to, renew, sent } => {
                let v = self.at(to);
                if !self.members[v].acts() {
                    return;
                }
                let answer = self.answer(v, site, renew, mutant);
                // Collapsed where the scope allows: an answer that comes at once gives the longest
                // lease for the longest time, and naming a ticket later freezes the same lease.
                let msg = Msg::Answer { site, from: to, answer, sent };
                if scope.answers_travel && v != site || !self.members[site].acts() {
                    if !self.net.contains(&msg) {
                        self.net.push(msg);
                    }
                } else {
                    self.deliver(scope, msg, mutant);
                }
            }
            Msg::Answer { site, from, mut answer, .. } => {
                if !self.members[site].acts() {
                    return;
                }
                if mutant == Some(Mutant::CountedFromReceipt) {
                    answer.seq = self.newest_renewal(site, from).unwrap_or(answer.seq);
                }
                let m = self.member(site);
                let now = holder(m.clock);
                let Some(s) = &mut m.site else { return };
                Arc::make_mut(&mut s.holder).answered(now, from, &answer);
                let seq = answer.seq;
                self.net.retain(|n| !is_older(n, site, from, seq));
                if self.members[site].id != from {
                    self.turn(scope, site, mutant);
                }
            }
            Msg::Command(_) | Msg::Pull { .. } | Msg::Remaining { .. } => {}
        }
    }

    fn newest_renewal(&self, site: usize, to: MemberId) -> Option<RenewalSeq> {
        let seq = |m: &Msg| match m {
            Msg::Renew { site: s, to: t, renew, .. } if (*s, *t) == (site, to) => Some(renew.seq),
            _ => None,
        };
        self.net.iter().filter_map(seq).max()
    }

    /// R1, with the checks that are the member's, not the promises'.
    fn answer(&mut self, v: usize, site: usize, renew: Renew, mutant: Option<Mutant>) -> Answer {
        let log = Arc::clone(&self.log);
        let (id, target) = (self.members[v].id, FenceTarget::Session(renew.session));
        let fenced = [false, true].iter().any(|device| self.votes.contains(&(id, target, *device)));
        let m = self.member(v);
        let docket = log.docket(m.applied);
        let mut index = docket.config_index();
        if mutant == Some(Mutant::ConfigurationNotNamed) {
            index = ConfigIndex(1);
        }
        let promise = docket.configuration().timing.promise;
        let promises = Arc::make_mut(&mut m.promises);
        let mut answer = promises.renew(voter(m.clock), renew, docket, index, promise);
        answer.clock = VoterTime::UNKNOWN; // the audit has no part in this model
        if let Verdict::Promised { revoking, promise, .. } = &mut answer.verdict {
            if mutant == Some(Mutant::NotNamed) {
                revoking.clear();
            }
            if *promise > log.docket(1).configuration().timing.promise {
                self.sign(Sign::PromiseGrew);
            }
            if fenced {
                self.broken = Some("a voter promises a session that it has fenced (R3)");
            }
        }
        if fenced && self.members[site].session() == Some(renew.session) {
            self.sign(Sign::FencedByAMinority);
        }
        answer
    }

    /// A decision is final; members that do not lag have it at once.
    pub fn append(&mut self, scope: &Scope, payload: Payload, mutant: Option<Mutant>) {
        let events = Arc::make_mut(&mut self.log).append(payload);
        for e in &*events {
            match e {
                Event::Granted { proof: Proof::Lapsed, .. } => {
                    self.sign(Sign::GrantedAfterLapse);
                    if self.ran_before {
                        self.sign(Sign::RanUntilJustBefore);
                    }
                }
                Event::Granted { proof: Proof::Released, .. } if events.len() == 2 => {
                    self.sign(Sign::HandedOver);
                }
                Event::Granted { proof: Proof::Fenced, .. } => self.sign(Sign::GrantedOnProof),
                Event::TicketLost { .. } => self.sign(Sign::TakenBack),
                Event::Released { .. } if !self.log.taken_back.is_empty() => {
                    self.sign(Sign::ReleasedOnTakeBack);
                }
                Event::SessionOpened { supersedes: Some(_), .. } => self.sign(Sign::SessionRolled),
                _ => {}
            }
            if let Event::Granted { site, .. } = e
                && self.log.sessions.len() >= 2
                && site.as_str() == "a"
            {
                self.sign(Sign::WonBack);
            }
        }
        for i in 0..self.members.len() {
            if !scope.may_lag(i) {
                self.catch_up(scope, i, mutant);
            }
        }
    }

    /// A member applies all that is decided.
    pub fn catch_up(&mut self, scope: &Scope, i: usize, mutant: Option<Mutant>) {
        while self.members[i].acts() && self.members[i].applied < self.final_at(i) {
            self.apply(scope, i, mutant);
        }
    }

    /// A member applies the next entry.
    pub fn apply(&mut self, scope: &Scope, i: usize, mutant: Option<Mutant>) {
        let log = Arc::clone(&self.log);
        self.member(i).apply_next(&log, mutant);
        self.turn(scope, i, mutant);
    }

    /// Drops messages that can have no effect any more.
    pub fn purge(&mut self, scope: &Scope) {
        let (members, log) = (&self.members, &self.log);
        let useful = in_units(scope.longest().holder_time());
        let node = self.node.as_ref().map_or(0, |n| n.clock);
        self.net.retain(|m| match m {
            // Its lease would have ended. That the voter would promise longer only delays it.
            Msg::Renew { site, renew, sent, .. } => {
                let age = members[*site].clock - sent;
                members[*site].session() == Some(renew.session)
                    && members[*site].up
                    && age < if scope.late { useful } else { 1 }
            }
            Msg::Answer { site, answer, sent, .. } => {
                members[*site].session() == Some(answer.session)
                    && members[*site].up
                    && members[*site].clock - sent < useful
            }
            Msg::Command(op) => would_do_something(log.newest(), op),
            Msg::Pull { sent, .. } | Msg::Remaining { sent, .. } => node - sent < useful,
        });
    }

    /// What makes two states the same: all that the future depends on, instants relative to each
    /// member's own clock, arbitrators that stand alike in any order.
    pub fn digest(&self) -> u64 {
        let mut h = digester();
        self.ledgers.as_ref().map(|c| c.digest()).hash(&mut h);
        (self.log.digest(), self.budget, self.changes, &self.proofs, self.broken).hash(&mut h);
        let sites: Vec<(u64, &Holder)> = self
            .members
            .iter()
            .filter_map(|m| m.site.as_ref().map(|s| (m.clock, &*s.holder)))
            .collect();
        let mut alike = Vec::new();
        for m in &self.members {
            let mut own = digester();
            m.digest(&self.log, &sites, &mut own);
            for (_, target, device) in self.votes.iter().filter(|(v, ..)| *v == m.id) {
                (target, device).hash(&mut own);
            }
            let mail = self.net.iter().map(|n| self.mail_of(n, m.id));
            mail.fold(0_u64, u64::wrapping_add).hash(&mut own);
            if m.site.is_none() && m.applied > 0 && self.changes == 0 && m.admitted {
                alike.push(own.finish());
            } else {
                (m.id, own.finish()).hash(&mut h);
            }
        }
        alike.sort_unstable();
        alike.hash(&mut h);
        let rest = self.net.iter().map(|n| self.other_mail(n));
        rest.fold(0_u64, u64::wrapping_add).hash(&mut h);
        if let Some(n) = &self.node {
            let left = n.delegated.deadline(holder(n.clock));
            left.map(|(term, d)| (term, d.since(holder(n.clock)))).hash(&mut h);
            n.rate.hash(&mut h);
        }
        h.finish()
    }

    /// A renewal or answer of one voter, as a number that does not depend on the order.
    fn mail_of(&self, msg: &Msg, voter: MemberId) -> u64 {
        let mut h = digester();
        match msg {
            Msg::Renew { site, to, renew, sent } if *to == voter => {
                (0, site, renew.session, self.members[*site].clock - sent).hash(&mut h);
            }
            Msg::Answer { site, from, answer, sent } if *from == voter => {
                (1, site, answer.session, self.members[*site].clock - sent).hash(&mut h);
                match &answer.verdict {
                    Verdict::Promised { promise, config_index, revoking } => {
                        (promise, config_index, revoking).hash(&mut h);
                    }
                    Verdict::Refused(why) => (*why as u8).hash(&mut h),
                }
            }
            _ => return 0,
        }
        h.finish()
    }

    fn other_mail(&self, msg: &Msg) -> u64 {
        let mut h = digester();
        let clock = self.node.as_ref().map_or(0, |n| n.clock);
        match msg {
            Msg::Command(op) => format!("{op:?}").hash(&mut h),
            Msg::Pull { sent, .. } => (2, clock - sent).hash(&mut h),
            Msg::Remaining { remaining, sent } => {
                (3, clock - sent, remaining.left, remaining.term).hash(&mut h);
            }
            _ => return 0,
        }
        h.finish()
    }

    /// The ticket's holder by the newest decision.
    pub fn held(&self) -> Option<(SessionId, Term)> {
        self.log.newest().ticket(TICKET)?.holder().map(|(s, _, t)| (s, t))
    }
}

fn is_older(msg: &Msg, of: usize, voter: MemberId, upto: RenewalSeq) -> bool {
    match msg {
        Msg::Renew { site, to, renew, .. } => (*site, *to) == (of, voter) && renew.seq <= upto,
        Msg::Answer { site, from, answer, .. } => {
            (*site, *from) == (of, voter) && answer.seq <= upto
        }
        _ => false,
    }
}

/// Whether a holder's command would still do anything, now that these decisions are made.
fn would_do_something(docket: &Docket, op: &Op) -> bool {
    match op {
        Op::Release { ticket, session, term } => docket
            .ticket(*ticket)
            .and_then(|t| t.holder())
            .is_some_and(|(s, _, t)| (s, t) == (*session, *term)),
        Op::OpenSession { incarnation, site, supersedes } => {
            let its = |s: &Session| s.site == *site && s.incarnation == *incarnation;
            docket
                .open_sessions()
                .find(|(_, s)| its(s))
                .is_none_or(|(id, _)| Some(id) == *supersedes)
        }
        _ => true,
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::story::picture(self))
    }
}
