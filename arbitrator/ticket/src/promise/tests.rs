//! One voter, its timers, and what it says to renewals and to those who want to fence.

use super::*;
use crate::configuration::{Configuration, MemberInfo, Role};
use crate::entry::{Entry, LossPolicy, Mode, Op, Payload, Policy, Regrant};
use crate::ids::{Ballot, ClusterId, Generation, Incarnation, LogIndex, RenewalSeq, StoreId};
use crate::timing::Profile;

/// The largest T of these tests.
const T: Duration = Duration::from_secs(10);
const ME: MemberId = MemberId(1);
const LEADER: MemberId = MemberId(2);

fn at(seconds: u64) -> VoterTime {
    VoterTime::from_nanos(seconds * 1_000_000_000)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn configuration() -> Configuration {
    let info = |name: &str| MemberInfo {
        name: name.parse().unwrap(),
        role: Role::Site,
        store: StoreId::default(),
        addresses: Vec::new(),
    };
    Configuration {
        cluster: ClusterId::default(),
        generation: Generation(0),
        voters: (1..).map(MemberId).zip(["paris", "rome"].map(info)).collect(),
        learners: BTreeMap::new(),
        next_member: MemberId(3),
        timing: Profile::MetroFast.timing(),
        digest: [0; 16],
    }
}

fn policy() -> Policy {
    Policy {
        mode: Mode::default(),
        regrant: Regrant::default(),
        loss: LossPolicy::default(),
        prefer: vec![],
        one_move_per: Duration::ZERO,
        require: BTreeMap::new(),
        max_lag: None,
        stop_budget: Duration::from_millis(100),
    }
}

/// A voter, and the docket that it knows.
struct Desk {
    voter: Promises,
    docket: Docket,
}

impl Desk {
    /// The voter started at 0: its quarantine ends at 10 s.
    fn new() -> Self {
        Self {
            voter: Promises::new(ME, at(0), T, BTreeMap::new()),
            docket: Docket::new(configuration()),
        }
    }

    fn apply(&mut self, op: Op) -> LogIndex {
        let index = self.docket.applied().next();
        let payload = Payload::Batch(vec![op]);
        let events = self.docket.apply(&Entry { index, ballot: Ballot(1), wall_ms: 0, payload });
        let skipped = |e: &crate::docket::Event| matches!(e, crate::docket::Event::Skipped { .. });
        assert!(!events.iter().any(skipped), "{events:?}");
        self.docket.invariants();
        index
    }

    fn open(&mut self, site: &str) -> SessionId {
        let (site, incarnation) = (site.parse().unwrap(), Incarnation([1; 16]));
        SessionId(self.apply(Op::OpenSession { site, incarnation, supersedes: None }).0)
    }

    /// A ticket of the session.
    fn grant(&mut self, to: SessionId) -> (TicketId, Term) {
        let name = format!("t{}", to.0).parse().unwrap();
        self.apply(Op::SetTicket { name, policy: policy() });
        let ticket = self.docket.tickets().last().unwrap().id;
        let index = self.apply(Op::Grant { ticket, to, automatic: false });
        (ticket, Term::new(Generation(0), index))
    }

    fn take_back(&mut self, (ticket, term): (TicketId, Term)) {
        self.apply(Op::TakeBack { ticket, term, note: "a test".to_owned() });
    }

    /// The session's votes of both voters: it ends in the docket.
    fn expire(&mut self, session: SessionId) {
        let target = FenceTarget::Session(session);
        let vote = |voter| FenceVote { voter, target, basis: Proof::Lapsed };
        self.apply(Op::Expire { session, votes: vec![vote(ME), vote(LEADER)] });
    }

    fn renew(&mut self, now: VoterTime, session: SessionId, promise: Duration) -> Verdict {
        let renew = Renew { session, seq: RenewalSeq(7) };
        let answer = self.voter.renew(now, renew, &self.docket, ConfigIndex(1), promise);
        assert_eq!((answer.session, answer.seq, answer.clock), (session, RenewalSeq(7), now));
        answer.verdict
    }

    fn may_fence(&self, now: VoterTime, target: FenceTarget) -> bool {
        self.voter.may_fence(now, target, false, &self.docket)
    }

    fn fence(&mut self, now: VoterTime, target: FenceTarget) -> FenceVote {
        self.voter.fence(now, target, false, &self.docket)
    }
}

fn promised(verdict: &Verdict) -> Vec<(TicketId, Term)> {
    match verdict {
        Verdict::Promised { revoking, .. } => revoking.clone(),
        Verdict::Refused(why) => panic!("refused: {why:?}"),
    }
}

const LONG_AFTER: u64 = 100;

#[test]
fn a_renewal_sets_the_timer_and_a_vote_waits_until_it_has_run_out() {
    let mut d = Desk::new();
    let session = d.open("paris");
    let target = FenceTarget::Session(session);
    let verdict = d.renew(at(LONG_AFTER), session, seconds(8));
    let expected =
        Verdict::Promised { promise: seconds(8), config_index: ConfigIndex(1), revoking: vec![] };
    assert_eq!(verdict, expected);
    assert_eq!(d.voter.free_at(target), at(LONG_AFTER + 8));
    assert!(d.voter.lives(at(LONG_AFTER + 7), session));
    assert_eq!(d.voter.remaining(at(LONG_AFTER + 7), session), seconds(1));
    assert!(!d.may_fence(at(LONG_AFTER + 7), target));
    assert!(!d.voter.lives(at(LONG_AFTER + 8), session), "it has run out");
    assert!(d.may_fence(at(LONG_AFTER + 8), target));
    // A shorter promise, as after a change of the timing, takes nothing back.
    d.renew(at(LONG_AFTER + 1), session, seconds(1));
    assert_eq!(d.voter.free_at(target), at(LONG_AFTER + 8));
    let unknown = SessionId(99);
    assert!(!d.voter.lives(at(1), unknown));
    assert_eq!(d.voter.remaining(at(1), unknown), Duration::ZERO);
}

#[test]
fn a_larger_promise_is_given_only_once_it_is_durable() {
    let mut d = Desk::new();
    let session = d.open("paris");
    assert_eq!(d.renew(at(1), session, seconds(11)), Verdict::Refused(Refused::NotReady));
    assert_eq!(promised(&d.renew(at(1), session, T)), [], "the largest itself is durable");
    d.voter.max_promise_durable(seconds(12));
    assert_eq!(d.voter.max_promise(), seconds(12));
    assert_eq!(promised(&d.renew(at(1), session, seconds(11))), []);
    d.voter.max_promise_durable(seconds(3));
    assert_eq!(d.voter.max_promise(), seconds(12), "what was ever promised counts");
}

#[test]
fn who_has_no_open_session_is_told_whether_it_ended_or_is_news() {
    let mut d = Desk::new();
    let (ended, open) = (d.open("paris"), d.open("rome"));
    // A ticket lost with it keeps the session in the docket, as ended.
    d.grant(ended);
    d.expire(ended);
    assert_ne!(d.docket.session(ended).unwrap().state, SessionState::Open);
    assert_eq!(d.renew(at(1), ended, T), Verdict::Refused(Refused::Ended));
    let applied = d.docket.applied();
    assert_eq!(d.renew(at(1), SessionId(applied.0), T), Verdict::Refused(Refused::Ended));
    assert_eq!(d.renew(at(1), SessionId(1), T), Verdict::Refused(Refused::Ended));
    let news = SessionId(applied.next().0);
    assert_eq!(d.renew(at(1), news, T), Verdict::Refused(Refused::UnknownSession));
    assert_eq!(promised(&d.renew(at(1), open, T)), []);
}

#[test]
fn after_a_restart_every_session_counts_as_promised_for_the_largest_t() {
    let mut d = Desk::new();
    let session = d.open("paris");
    let target = FenceTarget::Session(session);
    d.voter = Promises::new(ME, at(50), T, BTreeMap::new());
    assert_eq!(d.voter.free_at(target), at(60), "R4");
    assert!(!d.may_fence(at(59), target));
    // A promise that ends within the quarantine does not shorten it.
    d.renew(at(51), session, seconds(2));
    assert_eq!(d.voter.free_at(target), at(60));
    assert!(d.may_fence(at(60), target));
}

#[test]
fn a_vote_is_given_once_and_for_good_and_its_session_is_never_promised_again() {
    let mut d = Desk::new();
    let (session, other) = (d.open("paris"), d.open("rome"));
    let target = FenceTarget::Session(session);
    assert_eq!(d.voter.vote_on(target), None);
    let vote = d.fence(at(10), target);
    assert_eq!(vote, FenceVote { voter: ME, target, basis: Proof::Lapsed });
    assert_eq!(d.voter.vote_on(target), Some(vote));
    assert_eq!(d.voter.votes().collect::<Vec<_>>(), [vote]);
    assert_eq!(d.renew(at(11), session, T), Verdict::Refused(Refused::Fenced), "R3");
    assert_eq!(promised(&d.renew(at(11), other, T)), [], "the other is not meant");
    assert!(d.voter.lives(at(12), other));
    // A promise that was there stays without effect.
    let fences = d.voter.fences.clone();
    d.voter = Promises::new(ME, at(20), T, fences);
    d.voter.session_opened(at(20), session, T);
    assert!(!d.voter.lives(at(21), session), "fenced");
    assert_eq!(d.renew(at(21), session, T), Verdict::Refused(Refused::Fenced), "after a restart");
}

#[test]
#[should_panic(expected = "fence_only_after_timer (R2)")]
fn a_vote_before_its_time_ends_the_member() {
    let mut d = Desk::new();
    let session = d.open("paris");
    d.renew(at(20), session, T);
    d.fence(at(29), FenceTarget::Session(session));
}

#[test]
fn a_devices_proof_makes_waiting_needless_and_is_written_into_the_vote() {
    let mut d = Desk::new();
    let (session, other) = (d.open("paris"), d.open("rome"));
    let target = FenceTarget::Session(session);
    d.renew(at(20), session, T);
    assert!(!d.may_fence(at(21), target));
    assert!(d.voter.may_fence(at(21), target, true, &d.docket));
    let vote = d.voter.fence(at(21), target, true, &d.docket);
    assert_eq!(vote.basis, Proof::Fenced);
    // Where the timer has run out it is a lapse, whatever else is known.
    let target = FenceTarget::Session(other);
    assert_eq!(d.voter.fence(at(21), target, true, &d.docket).basis, Proof::Lapsed);
    // No proof makes a vote on a session that is not open, or unknown.
    d.expire(other);
    for session in [other, SessionId(99)] {
        assert!(!d.voter.may_fence(at(99), FenceTarget::Session(session), true, &d.docket));
    }
}

#[test]
fn a_session_counts_as_promised_from_its_opening() {
    let mut d = Desk::new();
    let session = d.open("paris");
    d.voter.session_opened(at(30), session, seconds(2));
    assert!(d.voter.lives(at(39), session));
    assert_eq!(d.voter.free_at(FenceTarget::Session(session)), at(40), "for the largest T");
    d.voter.session_opened(at(30), session, seconds(12));
    assert_eq!(d.voter.free_at(FenceTarget::Session(session)), at(42), "or a larger one to come");
}

#[test]
fn a_ticket_is_fenced_only_while_it_is_taken_back_and_t_after_it_was_first_named() {
    let mut d = Desk::new();
    let session = d.open("paris");
    let (ticket, term) = d.grant(session);
    let target = FenceTarget::Ticket(ticket, term);
    assert!(!d.may_fence(at(99), target), "nobody takes it back");
    assert_eq!(promised(&d.renew(at(20), session, T)), []);

    d.take_back((ticket, term));
    d.voter.take_back_begun(at(30), ticket, term);
    d.voter.take_back_begun(at(35), ticket, term);
    assert_eq!(promised(&d.renew(at(31), session, T)), [(ticket, term)], "R3: named");
    assert_eq!(d.voter.free_at(target), at(40), "from the first time on");
    assert!(!d.may_fence(at(39), target));
    assert!(d.may_fence(at(40), target), "although the session lives");
    let another = FenceTarget::Ticket(ticket, Term::new(Generation(0), LogIndex(2)));
    assert!(!d.may_fence(at(99), another), "another term is not meant");
    assert!(!d.may_fence(at(99), FenceTarget::Ticket(TicketId(9), term)));

    // The proof of a device is a session's; a ticket's timer is waited for.
    assert!(!d.voter.may_fence(at(39), target, true, &d.docket));
    let vote = d.fence(at(40), target);
    assert_eq!((vote.target, vote.basis), (target, Proof::Lapsed));
    assert_eq!(promised(&d.renew(at(41), session, T)), [(ticket, term)], "the session goes on");
}

#[test]
fn what_was_never_named_here_counts_from_this_voters_start() {
    let mut d = Desk::new();
    let session = d.open("paris");
    let (ticket, term) = d.grant(session);
    d.take_back((ticket, term));
    d.voter = Promises::new(ME, at(50), T, BTreeMap::new());
    assert_eq!(d.voter.free_at(FenceTarget::Ticket(ticket, term)), at(60));
}

#[test]
fn requests_wait_for_the_timer_and_a_renewal_in_between_drops_them() {
    let mut d = Desk::new();
    let (session, other) = (d.open("paris"), d.open("rome"));
    d.renew(at(20), session, T);
    d.renew(at(25), other, T);
    assert_eq!(d.voter.deadline(), None);
    for target in [session, other].map(FenceTarget::Session) {
        d.voter.remember_request(target, LEADER, false);
        d.voter.remember_request(target, LEADER, false);
    }
    assert_eq!(d.voter.deadline(), Some(at(30)));
    assert_eq!(d.voter.due(at(29), &d.docket), []);
    assert_eq!(d.voter.deadline(), Some(at(30)), "it still waits");
    // One renews and lives, the other does not.
    d.renew(at(29), session, T);
    assert_eq!(d.voter.deadline(), Some(at(35)), "one request is left");
    let due = d.voter.due(at(35), &d.docket);
    let target = FenceTarget::Session(other);
    assert_eq!(due, [(LEADER, FenceVote { voter: ME, target, basis: Proof::Lapsed })]);
    assert_eq!(d.voter.deadline(), None, "asked twice and answered once");
    // Asked again, it says again what it has said.
    d.voter.remember_request(target, ME, false);
    let again = d.voter.due(at(36), &d.docket);
    assert_eq!(again, [(ME, due[0].1)]);
}

#[test]
fn a_request_with_nothing_to_wait_for_is_dropped() {
    let mut d = Desk::new();
    let session = d.open("paris");
    d.renew(at(20), session, T);
    d.voter.remember_request(FenceTarget::Session(session), LEADER, false);
    d.expire(session);
    assert_eq!(d.voter.due(at(30), &d.docket), [], "it has ended meanwhile");
    assert_eq!(d.voter.deadline(), None, "and nobody looks for it again");
}

#[test]
fn no_more_requests_are_kept_than_the_bound() {
    let mut d = Desk::new();
    for n in 0..=limits::MAX_PENDING_FENCES as u64 {
        d.voter.remember_request(FenceTarget::Session(SessionId(n)), LEADER, true);
    }
    assert_eq!(d.voter.pending.len(), limits::MAX_PENDING_FENCES);
}

#[test]
fn what_a_snapshot_brings_counts_as_seen_from_now_on() {
    let mut d = Desk::new();
    let (known, news) = (d.open("paris"), d.open("rome"));
    let (ticket, term) = d.grant(known);
    d.take_back((ticket, term));
    d.renew(at(20), known, seconds(3));
    d.voter.docket_replaced(at(30), &d.docket, seconds(2));
    let free = |d: &Desk, s| d.voter.free_at(FenceTarget::Session(s));
    assert_eq!((free(&d, known), free(&d, news)), (at(23), at(40)), "as if opened now");
    assert_eq!(d.voter.free_at(FenceTarget::Ticket(ticket, term)), at(40), "as if named now");
    // A larger T in the snapshot's configuration is what others may have promised.
    let mut d = Desk::new();
    let session = d.open("paris");
    d.voter.docket_replaced(at(30), &d.docket, seconds(15));
    assert_eq!(free(&d, session), at(45));
}

#[test]
fn a_snapshot_leaves_behind_only_what_has_ended_in_it() {
    let mut d = Desk::new();
    let (ended, open) = (d.open("paris"), d.open("rome"));
    let (ticket, term) = d.grant(open);
    let (free, free_term) = d.grant(ended);
    let later = SessionId(d.docket.applied().0 + 10);
    let later_term = Term::new(Generation(0), LogIndex(later.0));
    let old_term = Term::new(Generation(0), LogIndex(2));
    for session in [ended, open, later] {
        d.voter.session_opened(at(1), session, T);
    }
    d.fence(at(20), FenceTarget::Session(ended));
    for (id, t) in [(ticket, term), (free, free_term), (ticket, old_term), (ticket, later_term)] {
        d.voter.take_back_begun(at(1), id, t);
        let target = FenceTarget::Ticket(id, t);
        d.voter.fences.insert(target, FenceVote { voter: ME, target, basis: Proof::Lapsed });
    }
    d.fence(at(20), FenceTarget::Session(open));
    let target = FenceTarget::Session(later);
    d.voter.fences.insert(target, FenceVote { voter: ME, target, basis: Proof::Lapsed });

    d.expire(ended);
    d.voter.prune(&d.docket);
    let votes: Vec<FenceTarget> = d.voter.votes().map(|v| v.target).collect();
    let kept = [
        FenceTarget::Session(open),
        FenceTarget::Session(later),
        FenceTarget::Ticket(ticket, term),
        FenceTarget::Ticket(ticket, later_term),
    ];
    assert_eq!(votes, kept, "R3: what is open, held or still to come");
    assert_eq!(d.voter.until.keys().copied().collect::<Vec<_>>(), [open, later]);
    let named: Vec<(TicketId, Term)> = d.voter.named_since.keys().copied().collect();
    assert_eq!(named, [(ticket, term), (ticket, later_term)]);
}
