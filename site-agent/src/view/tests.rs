//! Each state's word and its reasons, from dockets made by real decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::configuration::{Configuration, MemberInfo, Role};
use tierce_ticket::docket::Docket;
use tierce_ticket::entry::{
    Entry, FenceTarget, FenceVote, Mode, Op, Payload, Policy, Proof, Regrant, Scope,
};
use tierce_ticket::ids::{
    Ballot, ClusterId, Generation, Incarnation, LogIndex, MemberId, MemberName, SessionId, StoreId,
    Term, TicketId,
};
use tierce_ticket::member::Standing;
use tierce_ticket::time::{HolderTime, Now};
use tierce_wire::control::TicketView;

use super::{Local, Scene};
use crate::config::Config;
use crate::facts::{Facts, PeerFacts};
use crate::shared::Blocked;

const WEB: TicketId = TicketId(1);
const NAMES: [&str; 3] = ["paris", "rome", "zurich"];

fn name(s: &str) -> MemberName {
    s.parse().unwrap()
}

/// Paris's view of a cluster of three, in which everything works and `web` is free.
struct World {
    scene: Scene,
    paris: SessionId,
    rome: SessionId,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut Policy)) -> Self {
        let text = crate::config::SOUND;
        let config = Config::parse(text, Path::new("/x.toml")).unwrap();
        let voters = NAMES.iter().zip(1..).map(|(n, id)| {
            let role = if *n == "zurich" { Role::Arbitrator } else { Role::Site };
            let (store, addresses) = (StoreId([id; 16]), Vec::new());
            (MemberId(id.into()), MemberInfo { name: name(n), role, store, addresses })
        });
        let configuration = Configuration {
            cluster: ClusterId([1; 16]),
            generation: Generation(1),
            voters: voters.collect(),
            learners: BTreeMap::new(),
            next_member: MemberId(4),
            timing: config.timing(),
            digest: config.digest(),
        };
        let mut policy = config.policies().remove(0).1;
        change(&mut policy);
        let peers =
            NAMES[1..].iter().map(|n| (name(n), PeerFacts { digest: config.digest(), wall_ms: 0 }));
        let now = Now { holder: HolderTime::from_nanos(5_000_000_000), ..Now::default() };
        let facts = Facts {
            now,
            me: name("paris"),
            digest: config.digest(),
            standing: Standing::TakingPart,
            identity: Some((ClusterId([1; 16]), MemberId(1))),
            leader: Some(name("zurich")),
            leads: false,
            docket: Some(Docket::new(configuration.clone())),
            configuration: Some(configuration),
            session: Some(SessionId(2)),
            deadline: Some(now.holder + Duration::from_millis(900)),
            distrusted: None,
            voters: Vec::new(),
            peers: peers.collect(),
            suspects: BTreeSet::new(),
            promises: [2, 3].map(|s| (SessionId(s), Duration::from_millis(900))).into(),
            eligible: BTreeMap::new(),
            fence_votes: 0,
        };
        let scene = Scene { facts, local: Local::default(), config: Arc::new(config) };
        let mut world = Self { scene, paris: SessionId(2), rome: SessionId(3) };
        for (site, n) in [("paris", 1), ("rome", 2)] {
            let incarnation = Incarnation([n; 16]);
            world.decide(vec![Op::OpenSession { site: name(site), incarnation, supersedes: None }]);
        }
        world.decide(vec![Op::SetTicket { name: "web".parse().unwrap(), policy }]);
        world
    }

    fn decide(&mut self, ops: Vec<Op>) -> Term {
        let docket = self.scene.facts.docket.as_mut().unwrap();
        let index = docket.applied().next();
        let payload = Payload::Batch(ops);
        let events =
            docket.apply(&Entry { index, ballot: Ballot(1), wall_ms: 1_700_000_000_000, payload });
        let skipped = events.iter().any(|e| format!("{e:?}").starts_with("Skipped"));
        assert!(!skipped, "{events:?}");
        Term::new(Generation(1), index)
    }

    fn grant(&mut self, to: SessionId) -> Term {
        self.decide(vec![Op::Grant { ticket: WEB, to, automatic: false }])
    }

    fn expire(&mut self, session: SessionId) {
        let target = FenceTarget::Session(session);
        let vote = |voter| FenceVote { voter: MemberId(voter), target, basis: Proof::Lapsed };
        self.decide(vec![Op::Expire { session, votes: vec![vote(1), vote(3)] }]);
    }

    fn cut(&mut self) {
        self.scene.facts.peers.clear();
        self.scene.facts.leader = None;
    }

    fn view(&self) -> TicketView {
        self.scene.ticket_view(self.scene.facts.ticket("web").unwrap())
    }
}

#[test]
fn a_free_ticket_says_how_to_grant_it() {
    let v = World::new().view();
    assert_eq!((v.state.as_str(), v.site, v.term), ("free", None, None));
    assert!(v.next.contains("tierce tickets grant web"), "{}", v.next);
    assert_eq!(v.since, "2023-11-14T22:13:20Z");
}

#[test]
fn a_held_ticket_names_holder_term_lease_and_proof() {
    let mut w = World::new();
    let term = w.grant(w.paris);
    let v = w.view();
    assert_eq!((v.state.as_str(), v.site.as_deref()), ("held", Some("paris")));
    assert_eq!((v.term, v.proof.as_deref()), (Some(term.0), Some("new")));
    assert!(v.until.contains("900 ms"), "{}", v.until);
}

#[test]
fn without_a_majority_it_says_unknown_never_free() {
    for give in [false, true] {
        let mut w = World::new();
        if give {
            w.grant(w.rome);
        }
        w.cut();
        let v = w.view();
        assert_eq!((v.state.as_str(), v.site, v.term), ("unknown", None, None));
        assert!(v.because.contains("no majority"), "{}", v.because);
    }
}

#[test]
fn what_is_held_here_is_known_until_the_lease_ends_and_no_longer() {
    let mut w = World::new();
    w.grant(w.paris);
    w.cut();
    assert_eq!(w.view().state, "held");
    w.scene.facts.now.holder = w.scene.facts.deadline.unwrap() + Duration::from_millis(1);
    assert_eq!(w.view().state, "unknown");
}

#[test]
fn a_handover_names_both_sites_and_a_revoke_is_stopping() {
    for (to, state) in [(Some(name("rome")), "handover"), (None, "stopping")] {
        let mut w = World::new();
        let term = w.grant(w.paris);
        let note = "by a test".to_owned();
        w.decide(vec![Op::Handover { ticket: WEB, term, to: to.clone(), note }]);
        let v = w.view();
        assert_eq!(v.state, state);
        assert!(v.because.contains("by a test"), "{}", v.because);
        assert_eq!(v.next.contains("rome"), to.is_some(), "{}", v.next);
    }
}

#[test]
fn a_ticket_being_taken_back_is_stopping() {
    let mut w = World::new();
    let term = w.grant(w.rome);
    w.decide(vec![Op::TakeBack { ticket: WEB, term, note: "stuck".to_owned() }]);
    let v = w.view();
    assert!(v.state == "stopping" && v.because.contains("taken back from rome"), "{v:?}");
}

#[test]
fn a_holder_that_does_not_renew_is_suspect() {
    let mut w = World::new();
    w.grant(w.rome);
    assert_eq!(w.view().state, "held");
    w.scene.facts.promises.insert(w.rome, Duration::ZERO);
    assert_eq!(w.view().state, "suspect");
}

#[test]
fn a_lost_ticket_waits_for_the_proof_that_its_policy_asks_for() {
    for (regrant, state) in [(Regrant::Operator, "waiting-proof"), (Regrant::Lapse, "free")] {
        let mut w = World::with(|p| p.regrant = regrant);
        w.grant(w.rome);
        w.expire(w.rome);
        let v = w.view();
        assert_eq!(v.state, state, "{v:?}");
        assert_eq!(v.next.contains("tierce fence confirm rome"), state == "waiting-proof");
    }
}

#[test]
fn a_ticket_that_no_site_may_hold_is_blocked_with_all_reasons() {
    let mut w = World::new();
    w.grant(w.rome);
    w.expire(w.rome);
    let no = |why: &str| Err(why.to_owned());
    let sites = [(name("paris"), no("lag")), (name("rome"), no("no session"))];
    w.scene.facts.eligible.insert(WEB, sites.into());
    let v = w.view();
    assert!(v.state == "blocked" && v.because.contains("paris: lag; rome: no session"), "{v:?}");
    assert_eq!(v.sites["paris"], "lag");
}

#[test]
fn a_ticket_held_in_place_says_how_it_moves_again() {
    let mut w = World::new();
    w.grant(w.paris);
    w.decide(vec![Op::Hold { ticket: WEB, note: "backup".to_owned() }]);
    let v = w.view();
    assert!(v.state == "hold" && v.because.contains("backup"), "{v:?}");
    assert_eq!(v.site.as_deref(), Some("paris"), "held in place is held");
    assert!(v.next.contains("resume web"), "{}", v.next);
    assert_eq!(v.hold.as_deref(), Some("operator"));
}

#[test]
fn the_start_that_a_site_told_of_is_in_the_view_and_what_is_none_is_not() {
    let mut w = World::new();
    w.grant(w.rome);
    let mut told = |site: &str, value: &str| {
        let scope = Scope::TicketAt(WEB, name(site));
        let name = crate::told::ATTRIBUTE.parse().unwrap();
        w.decide(vec![Op::SetAttribute { scope, name, value: Some(value.to_owned()) }]);
        w.view().starts.get(site).map(|s| (s.term, s.took_ms))
    };
    assert_eq!(told("rome", "7 running 21ms"), Some((7, Some(21))));
    assert_eq!(told("paris", "5 failed exit 1"), Some((5, None)));
    assert_eq!(told("paris", "soon"), None);
}

#[test]
fn resources_that_do_not_start_or_stop_here_block_the_ticket_with_the_reason() {
    for (stop_failed, word) in [(false, "did not start"), (true, "did not stop")] {
        let mut w = World::new();
        let term = w.grant(w.paris);
        let (why, at) = ("exit 1".to_owned(), std::time::Instant::now());
        w.scene.local.blocked.insert(WEB, Blocked { term, why, stop_failed, at, offered: None });
        let v = w.view();
        assert!(v.state == "blocked" && v.because.contains(word), "{v:?}");
    }
}

#[test]
fn the_status_begins_with_a_verdict_a_reason_and_the_next_command() {
    let mut w = World::new();
    w.grant(w.paris);
    let s = w.scene.status_view();
    assert!(s.verdict == "ok" && s.summary.contains("1 of 1 tickets are held"), "{}", s.summary);
    w.scene.facts.peers.remove("zurich");
    let s = w.scene.status_view();
    assert!(s.verdict == "degraded" && s.summary.contains("zurich"), "{}", s.summary);
    w.cut();
    let s = w.scene.status_view();
    assert!(s.verdict == "unknown" && !s.quorate && !s.next.is_empty(), "{}", s.summary);
}

#[test]
fn a_plan_shows_steps_outage_and_the_way_back() {
    let mut w = World::with(|p| p.mode = Mode::Manual);
    w.grant(w.paris);
    let t = w.scene.facts.ticket("web").unwrap().clone();
    w.scene.facts.eligible.insert(WEB, [(name("rome"), Ok(SessionId(3)))].into());
    let p = w.scene.plan_view(&t, Some(&name("rome")), None);
    assert_eq!((p.refused.as_deref(), p.steps.len()), (None, 4));
    assert!(p.outage_ms >= 300, "the stop budget stands in: {p:?}");
    assert_eq!(p.undo, "tierce tickets move web --to paris");
    let same = w.scene.plan_view(&t, Some(&name("paris")), None);
    assert!(same.refused.is_some_and(|r| r.contains("holds it already")));
    assert!(t.last_term.index() > LogIndex(0));
}
