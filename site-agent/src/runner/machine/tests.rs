//! Scenarios, and random schedules that hold the invariants after every step.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tierce_ticket::holder::StopReason;
use tierce_ticket::ids::Term;
use tierce_ticket::time::HolderTime;

use super::*;

const GRACE: u64 = 1_000;

fn at(ms: u64) -> HolderTime {
    HolderTime::from_nanos(ms * 1_000_000)
}

fn plan(names: &[&str]) -> Plan {
    let part = |name: &&str| PartPlan {
        name: (*name).to_owned(),
        start_timeout: Duration::from_secs(5),
        stop_timeout: Duration::from_millis(300),
        monitor_timeout: Duration::from_secs(1),
        monitor_interval: Some(Duration::from_secs(10)),
        restarts: 2,
    };
    Plan {
        parts: names.iter().map(part).collect(),
        doors: true,
        guarded: true,
        freeze: false,
        forbidden: None,
        stop_budget: Duration::from_millis(300),
    }
}

/// The node as the machine sees it: really runs things, and can be told to misbehave.
struct Node {
    m: Machine,
    now: u64,
    runs: Vec<bool>,
    under_way: Vec<Option<(u64, Action)>>,
    log: Vec<String>,
    told: Vec<Telling>,
    /// These actions do not end by themselves.
    slow: Vec<(usize, Action)>,
    /// The next results of these actions.
    script: VecDeque<(usize, Action, Verdict)>,
    guard: bool,
    door_open: bool,
    armed: bool,
}

impl Node {
    fn new(plan: Plan) -> Self {
        let count = plan.parts.len();
        let mut node = Self {
            m: Machine::new(plan, at(0), at(GRACE)),
            now: 0,
            runs: vec![false; count],
            under_way: vec![None; count],
            log: vec![],
            told: vec![],
            slow: vec![],
            script: VecDeque::new(),
            guard: true,
            door_open: false,
            armed: false,
        };
        node.drain();
        node
    }

    /// A node on which nothing runs, looked at and at rest.
    fn rested(plan: Plan) -> Self {
        let mut node = Self::new(plan);
        node.wait(GRACE);
        assert!(node.m.at_rest());
        node.log.clear();
        node
    }

    fn input(&mut self, input: Input) {
        self.m.step(at(self.now), input);
        self.drain();
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(due) = self.m.poll_deadline().map(|t| t.as_nanos().div_ceil(1_000_000))
            && due <= until
        {
            self.now = self.now.max(due);
            self.input(Input::Tick);
            if self.m.poll_deadline().is_some_and(|t| t <= at(self.now)) {
                break; // waits for something else
            }
        }
        self.now = until;
        self.input(Input::Tick);
    }

    fn run(&mut self, term: u64) {
        self.input(Input::Run(Term(term)));
    }

    fn stop(&mut self, term: u64, why: StopReason) {
        let by = at(self.now);
        self.input(Input::Stop { term: Term(term), why, by });
    }

    fn drain(&mut self) {
        while let Some(effect) = self.m.poll_effect() {
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        let name = |part: usize| ["a", "b", "c", "d"][part];
        match effect {
            Effect::Act { part, serial, action, .. } => {
                assert_eq!(self.under_way[part], None, "one-action: {action} of {}", name(part));
                if action == Action::Start {
                    assert!(self.armed, "no-start-without-order: guard");
                }
                self.under_way[part] = Some((serial, action));
                self.log.push(format!("{action} {}", name(part)));
                if !self.slow.contains(&(part, action)) {
                    self.finish(part);
                }
            }
            Effect::Cancel { part } => {
                // Here an action may end before the machine's wish to cancel it is seen.
                let Some((serial, action)) = self.under_way[part].take() else { return };
                self.log.push(format!("cancel {action} {}", name(part)));
                self.answer(part, serial, Verdict::Cancelled);
            }
            Effect::Open { serial, term } => {
                self.log.push(format!("open {term}"));
                self.door_open = true;
                self.m.step(at(self.now), Input::Opened { serial, outcome: Ok(()) });
            }
            Effect::Shut { serial } => {
                self.log.push("shut".to_owned());
                self.door_open = false;
                self.m.step(at(self.now), Input::Shut { serial, outcome: Ok(()) });
            }
            Effect::Withdraw => self.log.push("withdraw".to_owned()),
            Effect::Arm(term) => {
                self.log.push(format!("arm {term}"));
                if self.guard {
                    self.armed = true;
                    self.m.step(at(self.now), Input::Armed(term));
                }
            }
            Effect::Disarm(term) => {
                self.armed = false;
                self.log.push(format!("disarm {term}"));
            }
            Effect::Tell(telling) => {
                if let Telling::Stopped { .. } = telling {
                    assert!(self.runs.iter().all(|r| !r), "stopped-means-stopped (R17)");
                    assert!(self.under_way.iter().all(Option::is_none), "stopped, and busy");
                    assert!(!self.door_open, "stopped-means-stopped: the doors");
                }
                if !matches!(telling, Telling::Note { .. }) {
                    self.told.push(telling);
                }
            }
        }
    }

    /// Lets the action that is under way end.
    fn finish(&mut self, part: usize) {
        let (serial, action) = self.under_way[part].take().expect("an action under way");
        let scripted = self.script.iter().position(|(p, a, _)| (*p, *a) == (part, action));
        let verdict = match scripted.and_then(|i| self.script.remove(i)) {
            Some((_, _, verdict)) => verdict,
            None => match action {
                Action::Start | Action::Stop => Verdict::Ok,
                _ if self.runs[part] => Verdict::Ok,
                _ => Verdict::NotRunning,
            },
        };
        match (action, &verdict) {
            (Action::Start, Verdict::Ok) => {
                self.runs[part] = true;
            }
            (Action::Stop, Verdict::Ok) => self.runs[part] = false,
            _ => {}
        }
        self.answer(part, serial, verdict);
    }

    fn answer(&mut self, part: usize, serial: u64, verdict: Verdict) {
        self.m.step(at(self.now), Input::Acted { part, serial, verdict });
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }

    fn last(&self) -> &Telling {
        self.told.last().expect("something was told")
    }
}

fn fails(why: &str) -> Verdict {
    Verdict::Failed { why: why.to_owned(), fatal: false }
}

#[test]
fn starts_in_order_behind_the_guard_and_stops_in_reverse_behind_the_doors() {
    let mut n = Node::rested(plan(&["a", "b"]));
    n.run(7);
    assert_eq!(n.log(), "arm 7, start a, start b, open 7");
    assert!(matches!(n.last(), Telling::Started { term: Term(7), .. }));
    n.stop(7, StopReason::Handover);
    assert_eq!(n.log(), "shut, stop b, stop a, withdraw, disarm 7");
    assert!(matches!(n.last(), Telling::Stopped { term: Term(7), .. }));
    assert_eq!(n.m.poll_deadline(), None, "a ticket at rest needs no timer");
}

#[test]
fn what_runs_already_is_adopted_and_not_started() {
    let mut n = Node::new(plan(&["a", "b"]));
    n.runs = vec![true, false];
    n.m = Machine::new(plan(&["a", "b"]), at(0), at(GRACE));
    n.log.clear();
    n.drain();
    n.run(3);
    assert_eq!(n.log(), "probe a, probe b, arm 3, start b, open 3");
}

#[test]
fn what_runs_without_an_order_is_stopped_after_the_grace() {
    let mut n = Node::new(plan(&["a"]));
    n.runs = vec![true];
    n.m = Machine::new(plan(&["a"]), at(0), at(GRACE));
    n.log.clear();
    n.drain();
    n.wait(GRACE - 1);
    assert_eq!((n.log().as_str(), n.runs[0]), ("probe a", true));
    n.wait(1);
    assert_eq!(n.log(), "shut, stop a, withdraw, disarm 0");
    assert!(n.m.at_rest() && n.told.is_empty(), "nobody had asked");
}

#[test]
fn a_stop_during_a_start_cancels_it_and_stops_what_it_may_have_begun() {
    let mut n = Node::rested(plan(&["a", "b"]));
    n.slow = vec![(1, Action::Start)];
    n.run(7);
    assert_eq!(n.log(), "arm 7, start a, start b");
    n.stop(7, StopReason::LeaseEnding);
    assert_eq!(n.log(), "cancel start b, stop b, stop a, withdraw, disarm 7");
    assert_eq!(n.told.len(), 1, "never started, then stopped: {:?}", n.told);
}

#[test]
fn a_run_during_a_stop_waits_for_it_and_starts_again() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.slow = vec![(0, Action::Stop)];
    n.stop(7, StopReason::Handover);
    n.log.clear();
    n.run(8);
    assert_eq!(n.log(), "arm 8");
    n.finish(0);
    n.drain();
    assert_eq!(n.log(), "start a, open 8");
    assert!(matches!(n.last(), Telling::Started { term: Term(8), .. }));
    assert!(!n.told.iter().any(|t| matches!(t, Telling::Stopped { .. })));
}

#[test]
fn the_same_order_twice_and_lower_terms_change_nothing() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.log.clear();
    n.run(7);
    n.run(6);
    n.stop(6, StopReason::NotOurs);
    n.input(Input::Forget(Term(6)));
    assert_eq!(n.log(), "");
    assert_eq!(n.told.len(), 1);
    n.stop(7, StopReason::Handover);
    n.log.clear();
    n.stop(7, StopReason::Handover);
    assert_eq!(n.log(), "", "stopped already");
    assert!(matches!(n.last(), Telling::Stopped { .. }), "and said again");
}

#[test]
fn a_newer_term_is_taken_over_without_a_restart() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.log.clear();
    n.run(9);
    assert_eq!(n.log(), "arm 9, open 9");
    assert!(matches!(n.last(), Telling::Started { term: Term(9), .. }));
}

#[test]
fn nothing_starts_without_the_guard_and_what_runs_goes_on() {
    let mut n = Node::rested(plan(&["a", "b"]));
    n.guard = false;
    n.run(7);
    assert_eq!(n.log(), "arm 7");
    n.guard = true;
    n.armed = true;
    n.input(Input::Armed(Term(7)));
    assert_eq!(n.log(), "start a, start b, open 7");
    n.guard = false;
    n.input(Input::GuardLost);
    assert_eq!(n.log(), "arm 7", "asked again; nothing is stopped");
    assert!(n.runs.iter().all(|r| *r));
}

#[test]
fn a_stop_that_fails_is_verified_told_and_repeated_and_the_others_go_on() {
    let mut n = Node::rested(plan(&["a", "b"]));
    n.run(7);
    n.log.clear();
    n.script.push_back((1, Action::Stop, fails("busy")));
    n.stop(7, StopReason::LeaseEnding);
    assert_eq!(n.log(), "shut, stop b, probe b, stop a");
    let Telling::StopFailed { why, .. } = n.last() else { panic!("{:?}", n.told) };
    assert!(why.contains("b does not stop: busy"), "{why}");
    n.wait(200);
    assert_eq!(n.log(), "stop b, withdraw, disarm 7");
    assert!(matches!(n.last(), Telling::Stopped { .. }));
}

#[test]
fn a_stop_that_fails_of_something_that_does_not_run_is_a_stop() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.runs = vec![false];
    n.log.clear();
    n.script.push_back((0, Action::Stop, fails("no such process")));
    n.stop(7, StopReason::Handover);
    assert_eq!(n.log(), "shut, stop a, probe a, withdraw, disarm 7");
    assert!(matches!(n.last(), Telling::Stopped { .. }));
}

#[test]
fn a_stop_that_never_succeeds_is_tried_for_ever_and_never_confirmed() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    for _ in 0..60 {
        n.script.push_back((0, Action::Stop, fails("busy")));
    }
    n.told.clear();
    n.stop(7, StopReason::LeaseEnding);
    n.wait(60_000);
    assert_eq!(n.told.len(), 2, "at once, and when the last resort was due: {:?}", n.told);
    assert!(n.told.iter().all(|t| matches!(t, Telling::StopFailed { .. })));
    assert!((10..60).contains(&n.log().matches("stop a").count()));
}

#[test]
fn a_failed_monitor_restarts_what_depends_on_it_too() {
    let mut n = Node::rested(plan(&["a", "b", "c"]));
    n.run(7);
    n.log.clear();
    n.wait(9_999);
    assert_eq!(n.log(), "");
    n.runs[1] = false;
    n.wait(1);
    let log = n.log();
    assert!(log.ends_with("stop c, stop b, start b, start c"), "{log}");
    assert!(!log.contains("stop a"), "{log}");
    assert_eq!(n.m.phase(), "running");
}

#[test]
fn failures_beyond_the_restarts_give_the_ticket_up_and_a_new_order_tries_again() {
    let mut n = Node::rested(plan(&["a"]));
    for _ in 0..3 {
        n.script.push_back((0, Action::Start, fails("no disk")));
    }
    n.run(7);
    assert_eq!(n.log(), "arm 7, start a, stop a, start a, stop a, start a");
    let Telling::StartFailed { why, .. } = n.last() else { panic!("{:?}", n.told) };
    assert!(why.contains("no disk") && why.contains("failure 3"), "{why}");
    n.wait(100_000);
    assert_eq!(n.log(), "", "left alone until ordered");
    n.stop(7, StopReason::Handover);
    assert!(matches!(n.last(), Telling::Stopped { .. }));
}

#[test]
fn a_failure_that_no_restart_can_mend_is_told_at_once() {
    let mut n = Node::rested(plan(&["a"]));
    let why = "not installed".to_owned();
    n.script.push_back((0, Action::Start, Verdict::Failed { why, fatal: true }));
    n.run(7);
    assert_eq!(n.log(), "arm 7, start a");
    assert!(matches!(n.last(), Telling::StartFailed { .. }));
}

#[test]
fn a_monitor_under_way_is_cancelled_for_a_stop() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.slow = vec![(0, Action::Monitor)];
    n.wait(10_000);
    n.log.clear();
    n.stop(7, StopReason::Handover);
    assert_eq!(n.log(), "cancel monitor a, shut, stop a, withdraw, disarm 7");
}

#[test]
fn frozen_things_run_on_when_the_lease_ends_and_stop_when_the_ticket_moves() {
    let mut n = Node::rested(Plan { freeze: true, guarded: false, ..plan(&["a"]) });
    n.armed = true; // as good as: there is none to ask
    n.run(7);
    n.log.clear();
    n.stop(7, StopReason::LeaseEnding);
    assert_eq!(n.log(), "");
    assert_eq!(n.last(), &Telling::Frozen { term: Term(7) });
    n.stop(7, StopReason::Handover);
    assert_eq!(n.log(), "shut, stop a, withdraw");
    assert!(matches!(n.last(), Telling::Stopped { .. }));
}

#[test]
fn what_the_guard_stopped_is_looked_at_anew_and_started_while_the_order_stands() {
    let mut n = Node::rested(plan(&["a"]));
    n.run(7);
    n.log.clear();
    n.runs = vec![false];
    n.input(Input::GuardActed);
    assert_eq!(n.log(), "arm 7, probe a, start a, open 7");
}

#[test]
fn a_successor_probes_ahead_so_that_its_start_need_not() {
    let mut n = Node::rested(plan(&["a"]));
    n.now += 60_000;
    n.input(Input::Prepare);
    assert_eq!(n.log(), "probe a");
    n.now += 1_000;
    n.run(8);
    assert_eq!(n.log(), "arm 8, start a, open 8");
    n.stop(8, StopReason::Handover);
    n.log.clear();
    n.now += 60_000;
    n.run(9);
    assert_eq!(n.log(), "arm 9, probe a, start a, open 9", "a stop of long ago proves nothing");
}

#[test]
fn a_forbidden_ticket_is_refused_with_its_reason() {
    let mut n = Node::rested(Plan { forbidden: Some("no gate".into()), ..plan(&["a"]) });
    n.run(7);
    assert_eq!(n.log(), "");
    assert_eq!(n.last(), &Telling::StartFailed { term: Term(7), why: "no gate".into() });
    n.stop(7, StopReason::Handover);
    assert!(matches!(n.last(), Telling::Stopped { .. }));
}

#[derive(Clone, Debug)]
enum Step {
    Run(u64),
    Stop(u64, bool),
    Forget(u64),
    Finish(usize),
    Fail(usize),
    Crash(usize),
    Wait(u64),
    GuardLost,
    GuardActed,
    Prepare,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..6u64).prop_map(Step::Run),
        4 => (1..6u64, any::<bool>()).prop_map(|(t, l)| Step::Stop(t, l)),
        1 => (1..6u64).prop_map(Step::Forget),
        9 => (0..3usize).prop_map(Step::Finish),
        3 => (0..3usize).prop_map(Step::Fail),
        1 => (0..3usize).prop_map(Step::Crash),
        4 => (1..12_000u64).prop_map(Step::Wait),
        1 => Just(Step::GuardLost),
        1 => Just(Step::GuardActed),
        1 => Just(Step::Prepare),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// The invariants are asserted by `Node` and the machine at every effect; at the end, a stop
    /// that nothing hinders is confirmed, and a run that nothing hinders arrives.
    #[test]
    fn any_schedule_keeps_the_invariants_and_ends_where_the_last_order_says(steps in steps()) {
        let mut n = Node::new(plan(&["a", "b", "c"]));
        let every = [Action::Probe, Action::Start, Action::Stop, Action::Monitor];
        n.slow = (0..3).flat_map(|p| every.map(|a| (p, a))).collect();
        for step in steps {
            match step {
                Step::Run(t) => n.run(t),
                Step::Stop(t, true) => n.stop(t, StopReason::LeaseEnding),
                Step::Stop(t, false) => n.stop(t, StopReason::Handover),
                Step::Forget(t) => n.input(Input::Forget(Term(t))),
                Step::Finish(p) if n.under_way[p].is_some() => { n.finish(p); n.drain(); }
                Step::Fail(p) if n.under_way[p].is_some() => {
                    let action = n.under_way[p].map(|u| u.1).expect("looked");
                    n.script.push_back((p, action, fails("planted")));
                    n.finish(p);
                    n.drain();
                }
                Step::Crash(p) => n.runs[p] = false,
                Step::Wait(ms) => n.wait(ms),
                Step::GuardLost => { n.armed = false; n.input(Input::GuardLost); }
                Step::GuardActed => n.input(Input::GuardActed),
                Step::Prepare => n.input(Input::Prepare),
                Step::Finish(_) | Step::Fail(_) => {}
            }
        }
        n.slow.clear();
        n.script.clear();
        let finish = |n: &mut Node| for p in 0..3 {
            if n.under_way[p].is_some() {
                n.finish(p);
                n.drain();
            }
        };
        n.told.clear();
        n.stop(9, StopReason::Handover);
        for _ in 0..20 {
            finish(&mut n);
            n.wait(5_000);
        }
        let stopped = matches!(n.told.last(), Some(Telling::Stopped { term: Term(9), .. }));
        prop_assert!(stopped, "{:?}", n.told);
        n.run(10);
        finish(&mut n);
        n.wait(100);
        let started = matches!(n.told.last(), Some(Telling::Started { term: Term(10), .. }));
        prop_assert!(started, "{:?}", n.told);
        prop_assert!(n.runs.iter().all(|r| *r) && n.door_open);
    }
}
