//! What each of some rules is there for, as a story of its own: those whose breach shows in one
//! situation that chance brings about rarely, or shows as a service that stands still and not as
//! two that run. Each panics when it does not come out as it must; the planted bugs of
//! `tests/mutants` have to make it.

mod ledger;

use tierce_ticket::command::Command;
use tierce_ticket::configuration::Role;
use tierce_ticket::delegation::{Delegated, Remaining};
use tierce_ticket::docket::Docket;
use tierce_ticket::durable::Age;
use tierce_ticket::entry::{FenceTarget, Mode};
use tierce_ticket::ids::{SessionId, StoreId, Term, TicketId};
use tierce_ticket::limits;
use tierce_ticket::member::{Alarm, Input, Member, Standing};
use tierce_ticket::message::{Envelope, Message};
use tierce_ticket::time::HolderTime;
use tierce_ticket::timing::{Profile, Timing};

use crate::disk::Health;
use crate::node::Stopping;
use crate::weather::Weather;
use crate::{MS, World, name, policy, tail, ticket};

const WEB: TicketId = TicketId(1);

/// One duty.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// Its name.
    pub name: &'static str,
    /// The rule that it belongs to.
    pub rule: &'static str,
    /// The story.
    pub tell: fn(),
}

/// All of them.
pub const ALL: &[Duty] = &[
    Duty { name: "a larger T is durable before it is promised", rule: "R1", tell: larger_t },
    Duty { name: "a vote that was heard outlives its voter", rule: "R2", tell: vote_outlives },
    Duty {
        name: "a restarted voter knows the docket of its vote",
        rule: "R3",
        tell: docket_of_vote,
    },
    Duty { name: "what was taken back is named for good", rule: "R3", tell: taken_unseen },
    Duty { name: "a session from which much was taken ends", rule: "R3", tell: much_taken },
    Duty { name: "an older copy of a store stays out", rule: "R5", tell: older_copy },
    Duty { name: "an older copy of an admitted store stays out", rule: "R5", tell: admitted_copy },
    Duty { name: "a copy that was found out stays out", rule: "R5", tell: found_out },
    Duty { name: "words from before a store was lost come late", rule: "R5", tell: late_words },
    Duty { name: "a failed write ends the member", rule: "R6", tell: failed_write },
    Duty { name: "a leader that hears nobody steps down", rule: "R7", tell: deaf_leader },
    Duty { name: "one that comes back unseats nobody", rule: "R7", tell: comes_back },
    Duty { name: "an older entry is not final by count", rule: "R7", tell: ledger::older_ballot },
    Duty { name: "a second change waits for the first", rule: "R11", tell: ledger::second_change },
    Duty { name: "all founders found", rule: "R7", tell: founding },
    Duty { name: "the death of a site is one batch", rule: "R10", tell: one_batch },
    Duty { name: "voters change one at a time, T apart", rule: "R11", tell: changes_apart },
    Duty { name: "what never became final stops nobody", rule: "R12", tell: never_final },
    Duty { name: "a site that cannot stop things gives up", rule: "R15", tell: hung_runner },
    Duty { name: "a node ends before its coordinator", rule: "R16", tell: node_ends_first },
    Duty { name: "a paused guest distrusts its clock", rule: "clock audit", tell: paused_guest },
    Duty { name: "an accepted configuration lets a site stop", rule: "I2", tell: stop_fits },
    Duty { name: "an accepted configuration bears k losses", rule: "I3", tell: losses_fit },
    Duty { name: "an accepted configuration takes over within T", rule: "I5", tell: election_fits },
];

/// Two voters crash with a larger T promised and not on disk; the holder is cut off and slow.
fn larger_t() {
    for seed in 0..200 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Auto);
        let promise = w.timing.promise * 2;
        w.nodes[0].stopping = Stopping::Beyond;
        for voter in [1, 2] {
            w.nodes[voter].disk.slowest = 2_000 * MS;
        }
        w.ask(0, Command::SetTiming(Timing { promise, ..w.timing }));
        w.run_for(200);
        for voter in [1, 2] {
            w.crash(voter);
        }
        w.cut_off(0);
        for voter in [1, 2] {
            (w.nodes[voter].disk.slowest, w.nodes[voter].disk.busy_until) = (MS, 0);
            w.start(voter);
        }
        w.run_for(6_000);
        assert_eq!(w.runs_at(WEB), Some("b"), "{}", tail(&w.log));
    }
}

/// A voter has said yes; it and the one who asked crash before that is on disk; the session comes
/// back. A sound voter has not said it, or knows that it did.
fn vote_outlives() {
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Manual);
        w.cut_off(0);
        // The others have found a leader, and no promise to a has run out.
        w.run_for(800);
        w.nodes[2].disk.slowest = 2_000 * MS;
        w.run_for(250);
        w.crash(1);
        w.crash(2);
        (w.nodes[2].disk.slowest, w.nodes[2].disk.busy_until) = (MS, 0);
        w.start(2);
        w.heal();
        w.run_for(3_000);
    }
}

/// The holder leads, writes new lease times and is cut off with them: the others, who decide something
/// else, never hear of them. Nobody waits for them any more once it is back.
fn never_final() {
    let mut seen = 0;
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Auto);
        if w.leader() != Some(0) || w.runs_at(WEB) != Some("a") {
            continue;
        }
        seen += 1;
        let promise = w.timing.promise.mul_f64(1.25);
        w.ask(0, Command::SetTiming(Timing { promise, ..w.timing }));
        w.cut_off(0);
        w.run_for(500);
        w.heal();
        w.run_for(5_000);
        assert!(w.runs_at(WEB).is_some(), "seed {seed}: it runs nowhere\n{}", tail(&w.log));
    }
    assert!(seen > 3, "the holder leads in {seen} of 20 stories only");
}

/// A session is superseded, and the new one fenced. A voter of that restarts alone: it must not take
/// the old session for open again, which it never voted on.
fn docket_of_vote() {
    let mut w = World::with_ticket(23, 2, 1, Mode::Manual);
    let session = |w: &World, i: usize| {
        let docket = w.nodes[i].member.as_ref().and_then(Member::docket);
        docket.and_then(|d| d.session_of(&name("a")))
    };
    let applied =
        |w: &World| w.nodes[2].member.as_ref().and_then(Member::docket).map(Docket::applied);
    let old = session(&w, 2).expect("a has a session");
    w.crash(0);
    w.start(0);
    assert!(w.run_until(3_000, |w| session(w, 2).is_some_and(|s| s != old)), "{}", tail(&w.log));
    let new = session(&w, 2).expect("as just seen");
    w.power_off(0);
    let voted = |w: &World| {
        let promises = w.nodes[2].member.as_ref().and_then(Member::promises);
        promises.is_some_and(|p| p.vote_on(FenceTarget::Session(new)).is_some())
    };
    assert!(w.run_until(3_000, voted), "{}", tail(&w.log));
    let under = applied(&w);
    w.run_for(5);
    w.cut_off(2);
    w.crash(2);
    w.start(2);
    assert!(voted(&w), "a vote is remembered\n{}", tail(&w.log));
    assert!(applied(&w) >= under, "it stands before its vote\n{}", tail(&w.log));
    assert_ne!(session(&w, 2), Some(old), "the old session is open again\n{}", tail(&w.log));
}

/// The holder neither hears that its ticket is taken back nor that it is granted to the other site, and
/// comes back. What it still believes must be contradicted by every voter that knows better.
fn taken_unseen() {
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Manual);
        take_back_unseen(&mut w);
        w.done(1, Command::Grant { name: ticket("web"), to: name("b") });
        assert!(w.run_until(1_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
        w.heal();
        w.run_for(3_000);
        assert_eq!(w.runs_at(WEB), Some("b"), "{}", tail(&w.log));
    }
}

/// Takes the ticket back from a, which hears nobody and is heard by all: its session stays alive.
fn take_back_unseen(w: &mut World) {
    w.weather.cut.extend([(1, 0), (2, 0)]);
    assert!(w.run_until(5_000, |w| matches!(w.leader(), Some(1 | 2))), "{}", tail(&w.log));
    w.run_for(500);
    w.done(1, Command::TakeBack { name: ticket("web"), note: "x".to_owned() });
    assert!(w.run_until(5_000, |w| w.holder_of(1, WEB).is_none()), "{}", tail(&w.log));
}

/// All that is named in every answer must have an end.
fn much_taken() {
    let mut w = World::with_ticket(31, 2, 1, Mode::Manual);
    let session = |w: &World| {
        let docket = w.nodes[1].member.as_ref().and_then(Member::docket)?;
        let id = docket.session_of(&name("a"))?;
        Some((id, docket.session(id)?.taken.len()))
    };
    let first = session(&w).expect("a has a session").0;
    for n in 1..=limits::MAX_TAKEN {
        take_back_unseen(&mut w);
        assert_eq!(session(&w), Some((first, n)), "{}", tail(&w.log));
        w.heal();
        w.run_for(1_000);
        if n < limits::MAX_TAKEN {
            w.done(1, Command::Grant { name: ticket("web"), to: name("a") });
            assert!(w.run_until(1_000, |w| w.runs_at(WEB) == Some("a")), "{}", tail(&w.log));
        }
    }
    let (now, taken) = session(&w).expect("a has a session");
    assert!(now != first && taken == 0, "{now} names {taken}\n{}", tail(&w.log));
}

/// A backup of a voter's store is put back into a machine that was off, and started again and again.
fn older_copy() {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(100);
    let copy = w.copy_store(2);
    w.done(0, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.run_for(2_000);
    w.power_off(2);
    w.restore_store(2, copy);
    for n in 0..6 {
        w.start(2);
        w.run_for(1_500);
        let standing = w.nodes[2].member.as_ref().map(Member::standing);
        assert!(matches!(standing, Some(Standing::Out(_))), "start {n}\n{}", tail(&w.log));
        w.crash(2);
        // Peers that start again are news that it would write down.
        w.crash(n % 2);
        w.start(n % 2);
    }
}

/// One peer knows that the store is a copy, tells it, and is gone when it starts again.
fn found_out() {
    let mut w = World::with_ticket(19, 2, 1, Mode::Auto);
    w.run_for(100);
    let copy = w.copy_store(2);
    // Only b sees how far it comes.
    w.power_off(0);
    w.run_for(3_000);
    w.done(1, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.power_off(2);
    w.restore_store(2, copy);
    w.start(2);
    let out = |w: &World| {
        let standing = w.nodes[2].member.as_ref().map(Member::standing);
        matches!(standing, Some(Standing::Out(Alarm::OlderStore { .. })))
    };
    assert!(w.run_until(3_000, out), "{}", tail(&w.log));
    w.run_for(100);
    // The next time b is not there.
    w.power_off(2);
    w.power_off(1);
    w.start(0);
    w.start(2);
    w.run_for(3 * w.timing.promise.as_millis() as u64);
    assert!(out(&w), "it takes part again\n{}", tail(&w.log));
}

/// A voter's store is lost, and it comes back with an empty one under a new number; `meanwhile` is
/// called after each event of the admission.
fn lost_and_admitted(w: &mut World, mut meanwhile: impl FnMut(&mut World)) {
    let identity = |w: &World| w.nodes[2].member.as_ref().and_then(Member::identity);
    let old = identity(w).expect("it is a voter");
    w.crash(2);
    w.wipe(2);
    w.start(2);
    w.run_for(1_000);
    let admit = Command::Admit {
        name: name("y"),
        role: Role::Arbitrator,
        store: StoreId::default(),
        addresses: vec!["y:1".to_owned()],
    };
    let asked = w.ask(0, admit);
    while !w.nodes[0].outcomes.contains_key(&asked) {
        assert!(w.next(w.now + 20_000_000_000), "{}", tail(&w.log));
        meanwhile(w);
    }
    w.run_for(2_000);
    assert!(identity(w).is_some_and(|new| new.1 > old.1), "{}", tail(&w.log));
}

/// The hello with which an admitted member tells that it is one gets lost: those who admitted it must
/// know its store all the same.
fn admitted_copy() {
    let mut w = World::with_ticket(33, 2, 1, Mode::Auto);
    lost_and_admitted(&mut w, |w| {
        for site in [0, 1] {
            w.take((2, site), |m| matches!(m, Message::Hello(_)));
        }
    });
    let copy = w.copy_store(2);
    w.done(0, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.run_for(100);
    w.power_off(2);
    w.restore_store(2, copy);
    w.start(2);
    w.run_for(3_000);
    let standing = w.nodes[2].member.as_ref().map(Member::standing);
    assert!(matches!(standing, Some(Standing::Out(_))), "{standing:?}\n{}", tail(&w.log));
}

/// After a voter came back with an empty store something arrives that it had said before: that it
/// once had more is nothing against what it has now.
fn late_words() {
    let mut w = World::with_ticket(20, 2, 1, Mode::Auto);
    let identity = w.nodes[2].member.as_ref().and_then(Member::identity);
    let (cluster, old) = identity.expect("it is a voter");
    lost_and_admitted(&mut w, |_| {});
    let target = FenceTarget::Session(SessionId(1));
    let message = Message::FenceReply { target, vote: None, wait: None };
    for i in [0, 1] {
        let message = message.clone();
        let envelope =
            Envelope { cluster, from: old, age: Age { opened: 1, written: 1_000_000 }, message };
        w.step(i, Input::Received { from: name("y"), envelope });
    }
    w.crash(2);
    w.start(2);
    assert!(w.run_until(5_000, World::all_take_part), "{}", tail(&w.log));
}

/// A voter whose disk fails says nothing more; what it said before is there when it comes back.
fn failed_write() {
    let mut w = World::with_ticket(19, 2, 1, Mode::Auto);
    w.nodes[2].disk.health = Health::Fails;
    w.crash(1);
    let asked = w.ask(0, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.run_for(500);
    assert!(!w.nodes[0].outcomes.contains_key(&asked), "nobody but the leader has it on disk");
    assert!(w.nodes[2].member.is_none(), "the member is gone");
    w.nodes[2].disk.health = Health::Works;
    w.start(1);
    w.start(2);
    assert!(w.run_until(8_000, World::all_take_part), "{}", tail(&w.log));
}

/// The leader is heard by all and hears nobody: it cannot decide anything, so another must.
fn deaf_leader() {
    let mut w = World::with_ticket(7, 3, 2, Mode::Auto);
    w.run_for(1_000);
    let leader = w.leader().expect("somebody leads");
    for i in (0..w.nodes.len()).filter(|i| *i != leader) {
        w.weather.cut.insert((i, leader));
    }
    let others = |w: &World| w.leader().is_some_and(|l| l != leader);
    assert!(w.run_until(3_000, others), "nobody else leads\n{}", tail(&w.log));
}

/// A member that was alone for long comes back to a leader at work.
fn comes_back() {
    let mut w = World::with_ticket(8, 3, 2, Mode::Auto);
    w.run_for(1_000);
    let leader = w.leader().expect("somebody leads");
    let ballot = |w: &World| {
        let ledger = w.nodes[leader].member.as_ref().and_then(Member::ledger);
        ledger.map(tierce_ticket::ledger::Ledger::ballot)
    };
    let before = ballot(&w);
    let alone = (0..w.nodes.len()).rev().find(|i| *i != leader).expect("others are there");
    w.cut_off(alone);
    w.run_for(5_000);
    w.heal();
    w.run_for(2_000);
    assert_eq!((w.leader(), ballot(&w)), (Some(leader), before), "{}", tail(&w.log));
}

fn founding() {
    let mut w = World::new(1, 2, 1);
    w.crash(2);
    w.run_for(3_000);
    assert!(w.nodes.iter().all(|n| n.member.as_ref().is_none_or(|m| m.docket().is_none())));
    w.start(2);
    // All have said hello, the founding configuration is on its way: one of them is gone again.
    let found = |w: &World| w.nodes[0].member.as_ref().is_some_and(|m| m.docket().is_some());
    assert!(w.run_until(5_000, found), "{}", tail(&w.log));
    w.crash(2);
    w.run_for(3_000);
    assert_eq!(w.leader(), None, "who leads without it?\n{}", tail(&w.log));
    w.start(2);
    assert!(w.run_until(5_000, World::all_take_part), "{}", tail(&w.log));
    let false_alarm = |a: &Alarm| matches!(a, Alarm::NotAdmitted { .. });
    assert!(!w.nodes.iter().any(|n| n.alarms.iter().any(false_alarm)), "{}", tail(&w.log));
}

fn one_batch() {
    let mut w = World::with_ticket(21, 2, 1, Mode::Auto);
    for i in 0..300 {
        let n = ticket(&format!("t{i}"));
        let asked = w.ask(0, Command::SetTicket { name: n.clone(), policy: policy(Mode::Auto) });
        assert!(w.run_until(2_000, |w| w.nodes[0].outcomes.contains_key(&asked)));
        w.ask(0, Command::Grant { name: n, to: name("a") });
    }
    let last = TicketId(301);
    assert!(w.run_until(3_000, |w| w.runs_at(last) == Some("a")), "{}", tail(&w.log));
    w.run_for(500);
    let docket = |w: &World| w.nodes[1].member.as_ref().and_then(Member::docket).cloned();
    let before = docket(&w).expect("it takes part");
    let session = before.session_of(&name("a")).expect("a has a session");
    w.power_off(0);
    let expired = |w: &World| {
        let d = docket(w).expect("it takes part");
        let ended = d.open_sessions().all(|(id, _)| id != session);
        ended.then_some(d)
    };
    assert!(w.run_until(4_000, |w| expired(w).is_some()), "{}", tail(&w.log));
    let after = expired(&w).expect("as just seen");
    let entries = after.applied().0 - before.applied().0;
    assert!(entries <= 4, "a no-op of the new leader and the batch: {entries}");
    let moved = after.tickets().all(|t| t.holder().is_some_and(|h| h.1.as_str() == "b"));
    assert!(moved, "the entry with the expiry has the grants too");
    assert!(w.run_until(500, |w| w.nodes[1].running.len() == 301), "{}", tail(&w.log));
}

/// Two voters leave: while leases counted over the first voters may run, the second one stays.
fn changes_apart() {
    let mut w = World::with_ticket(22, 3, 2, Mode::Auto);
    w.run_for(2_000);
    w.done(0, Command::Remove { name: name("y") });
    let first = w.now;
    w.done(0, Command::Remove { name: name("z") });
    let apart = (w.now - first) / MS;
    // T on a clock that is fast by the bound.
    assert!(apart >= w.timing.promise.as_millis() as u64 * 98 / 100, "{apart} ms apart");
}

/// The runner of resources hangs: it stops nothing and answers nothing. The guard ends what runs,
/// and the ticket goes where somebody can use it.
fn hung_runner() {
    let mut w = World::with_ticket(9, 2, 1, Mode::Auto);
    w.nodes[0].hung = true;
    let t = w.timing.promise.as_millis() as u64;
    assert!(w.run_until(4 * t, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
}

/// The whole guest stands still for longer than T, and no clock in it has seen that.
fn paused_guest() {
    let mut w = World::with_ticket(10, 2, 1, Mode::Auto);
    w.run_for(2_000);
    w.pause_guest(0);
    w.run_for(5_000);
    // What ran there is dealt with by fencing, where guests may be paused; here it just ends.
    w.nodes[0].running.clear();
    w.resume_guest(0);
    let alarmed = |w: &World| w.nodes[0].alarms.iter().any(|a| matches!(a, Alarm::OwnClock(_)));
    assert!(w.run_until(3_000, alarmed), "{}", tail(&w.log));
}

/// A world with these lease times, and the ticket at a; `None` when they are refused.
fn with(timing: Timing, seed: u64) -> Option<World> {
    timing.check().ok()?;
    let mut w = World::build(seed, 2, 1, timing, Weather::fair((1, 3)));
    w.logging = true;
    w.start_all();
    assert!(w.run_until(20_000, World::all_take_part), "{}", tail(&w.log));
    w.run_for(1_000);
    let stop_budget = timing.stop_budget;
    let policy = tierce_ticket::entry::Policy { stop_budget, ..policy(Mode::Auto) };
    w.done(0, Command::SetTicket { name: ticket("web"), policy });
    w.done(0, Command::Grant { name: ticket("web"), to: name("a") });
    let runs = w.run_until(2_000, |w| w.runs_at(WEB) == Some("a"));
    assert!(runs, "what may be configured runs\n{}", tail(&w.log));
    Some(w)
}

fn ms(n: u64) -> std::time::Duration {
    std::time::Duration::from_millis(n)
}

/// Timers wake as late as the configuration says they may: a site that is cut off still stops what
/// it runs by itself, in its budget, before its guard has to.
fn stop_fits() {
    let base = Profile::MetroFast.timing();
    let (renew_every, rtt_max) = (ms(10), ms(5));
    let timing = Timing { stop_budget: ms(700), wake_up: ms(150), renew_every, rtt_max, ..base };
    for seed in 0..100 {
        let Some(mut w) = with(timing, seed) else { return };
        w.nodes[0].stopping = Stopping::AtBudget;
        w.lateness = timing.wake_up.as_nanos() as u64;
        w.cut_off(0);
        w.run_for(3_000);
        assert!(!w.log.contains("guard kills"), "the guard had to\n{}", tail(&w.log));
    }
}

/// The clock of a node may be slow and its coordinator's fast, each by the bound.
fn node_ends_first() {
    let timing = Profile::MetroFast.timing();
    let rho = f64::from(timing.rho_ppm) / 1e6;
    let left = ms(800);
    let mut node = Delegated::default();
    let asked = HolderTime::from_nanos(5_000 * MS);
    let seq = node.ask(asked, WEB).seq;
    node.answer(&timing, Remaining { seq, term: Term(7), left });
    let (_, until) = node.deadline(asked).expect("time is left");
    let node_ends = until.since(asked).as_secs_f64() / (1.0 - rho);
    let coordinator_ends = left.as_secs_f64() / (1.0 + rho);
    assert!(node_ends <= coordinator_ends, "{node_ends} s, D is after {coordinator_ends} s");
}

fn losses_fit() {
    let timing = Timing { renew_every: ms(300), ..Profile::MetroFast.timing() };
    let Some(mut w) = with(timing, 12) else { return };
    let term = w.granted[&WEB];
    // The renewals of k periods are lost, whatever their phase.
    for phase in 0..10 {
        w.run_for(2_000 + phase * 30);
        w.cut_off(0);
        w.run_for(u64::from(timing.losses) * 300 - 10);
        w.heal();
        w.run_for(2_000);
    }
    assert_eq!((w.runs_at(WEB), w.granted[&WEB]), (Some("a"), term), "{}", tail(&w.log));
}

fn election_fits() {
    let timing = Timing { election: ms(3_000), ..Profile::MetroFast.timing() };
    for seed in 13..18 {
        let Some(mut w) = with(timing, seed) else { return };
        let at = w.now;
        w.power_off(0);
        if let Some(l) = w.leader() {
            w.crash(l);
            w.start(l);
        }
        assert!(w.run_until(10_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
        // T at the slowest clock, and what messages, writes and timers take.
        let took = (w.now - at) / MS;
        assert!(took <= 1_010 + 150, "takeover took {took} ms\n{}", tail(&w.log));
    }
}
