use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;
const W: Duration = Duration::from_millis(100);

fn at(ms: u64) -> BootTime {
    BootTime(ms * MS)
}

fn lease(stop_ms: u64, deadline_ms: u64) -> Lease {
    Lease { stop_at: at(stop_ms), deadline: at(deadline_ms) }
}

fn guard(watchdog: Option<Duration>) -> Guard {
    let mut guard = Guard::new(64, watchdog);
    assert!(guard.set_margin(W));
    guard
}

fn arm(guard: &mut Guard, now: u64, ticket: u32, term: u64, l: Lease) -> Verdict {
    guard.admit(Ticket(ticket)).expect("room");
    guard.step(at(now), Input::Arm { ticket: Ticket(ticket), term: Term(term), lease: l })
}

fn tick(guard: &mut Guard, now: u64) -> Vec<Effect> {
    guard.step(at(now), Input::Tick);
    std::iter::from_fn(|| guard.poll_effect()).collect()
}

fn run(ticket: u32, term: u64) -> Effect {
    Effect::RunStop { ticket: Ticket(ticket), term: Term(term) }
}

fn reset(ticket: u32, term: u64, reason: Reason) -> Effect {
    Effect::Reset { ticket: Ticket(ticket), term: Term(term), reason }
}

#[test]
fn an_unrenewed_ticket_is_stopped_at_stop_at_and_not_before() {
    let mut g = guard(None);
    assert_eq!(arm(&mut g, 0, 1, 5, lease(800, 1000)), Verdict::Done);
    assert_eq!(g.poll_deadline(), at(800));
    assert_eq!(tick(&mut g, 799), []);
    assert_eq!(tick(&mut g, 800), [run(1, 5)]);
    assert_eq!(tick(&mut g, 850), [], "the command is run once");
}

#[test]
fn a_confirmed_stop_disarms_and_no_reset_follows() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    tick(&mut g, 700);
    g.step(at(750), Input::StopDone { ticket: Ticket(1), term: Term(5), ok: true });
    let stopped = Report::Stopped { ticket: Ticket(1), term: Term(5) };
    assert_eq!(tick(&mut g, 5000), [Effect::Report(stopped)]);
    assert_eq!(g.guarded(), 0);
}

#[test]
fn a_hanging_stop_leads_to_a_reset_w_before_the_deadline() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    tick(&mut g, 700);
    assert_eq!(g.poll_deadline(), at(900));
    assert_eq!(tick(&mut g, 899), []);
    assert_eq!(tick(&mut g, 900), [reset(1, 5, Reason::StopHung)]);
    assert_eq!(tick(&mut g, 5000), [], "asked for once");
}

#[test]
fn a_failing_stop_is_run_again_until_the_reset() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(300, 1000));
    tick(&mut g, 300);
    for round in 0..3 {
        let t = 300 + round * 200;
        g.step(at(t), Input::StopDone { ticket: Ticket(1), term: Term(5), ok: false });
        assert_eq!(tick(&mut g, t + 199).len(), 1, "only the report of the failure");
        let next = tick(&mut g, t + 200);
        assert_eq!(
            next,
            if round < 2 { vec![run(1, 5)] } else { vec![reset(1, 5, Reason::StopFailed)] }
        );
    }
}

#[test]
fn a_guard_that_overslept_resets_instead_of_stopping() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    assert_eq!(tick(&mut g, 2000), [reset(1, 5, Reason::Overslept)]);
}

#[test]
fn renewals_read_after_a_freeze_go_before_the_verdict() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    g.step(at(2000), Input::ArmAll { lease: lease(2500, 2800) });
    assert_eq!(tick(&mut g, 2000), []);
}

#[test]
fn an_arm_may_extend_only() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    arm(&mut g, 1, 1, 5, lease(300, 500));
    g.step(at(2), Input::ArmAll { lease: lease(200, 400) });
    assert_eq!(tick(&mut g, 699), []);
    assert_eq!(tick(&mut g, 700), [run(1, 5)]);
}

#[test]
fn a_lower_term_changes_nothing_even_after_a_disarm() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    assert_eq!(arm(&mut g, 1, 1, 4, lease(7000, 9000)), Verdict::StaleTerm);
    let old = Input::Disarm { ticket: Ticket(1), term: Term(4) };
    assert_eq!(g.step(at(2), old), Verdict::StaleTerm);
    assert_eq!(tick(&mut g, 700), [run(1, 5)]);
    g.step(at(701), Input::Disarm { ticket: Ticket(1), term: Term(5) });
    assert_eq!(arm(&mut g, 702, 1, 4, lease(7000, 9000)), Verdict::StaleTerm);
    assert_eq!(g.guarded(), 0);
}

#[test]
fn a_newer_grant_waits_until_the_stop_of_the_older_is_confirmed() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    tick(&mut g, 700);
    assert_eq!(arm(&mut g, 701, 1, 6, lease(7000, 9000)), Verdict::Busy);
    assert_eq!(tick(&mut g, 900), [reset(1, 5, Reason::StopHung)]);
}

#[test]
fn one_renewal_extends_all_armed_tickets_but_not_those_pinned() {
    let mut g = guard(None);
    for ticket in 0..10 {
        arm(&mut g, 0, ticket, 5, lease(700, 1000));
    }
    g.step(at(1), Input::Pin { ticket: Ticket(3), term: Term(5) });
    g.step(at(600), Input::ArmAll { lease: lease(1700, 2000) });
    assert_eq!(tick(&mut g, 700), [run(3, 5)]);
    assert_eq!(g.counts(), Counts { armed: 9, stopping: 1, reset: 0 });
    g.step(at(701), Input::ArmAll { lease: lease(1800, 2100) });
    assert_eq!(tick(&mut g, 900), [reset(3, 5, Reason::StopHung)], "pinned while stopping too");
    assert_eq!(tick(&mut g, 1799), []);
    assert_eq!(tick(&mut g, 1800).len(), 9);
}

#[test]
fn a_ticket_armed_after_a_common_renewal_gets_no_more_than_it_asked_for() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    g.step(at(1), Input::ArmAll { lease: lease(5000, 6000) });
    arm(&mut g, 2, 2, 5, lease(700, 1000));
    assert_eq!(tick(&mut g, 700), [run(2, 5)]);
}

#[test]
fn a_shorter_renewal_does_not_hand_an_earlier_longer_one_to_newcomers() {
    let mut g = guard(None);
    arm(&mut g, 0, 1, 5, lease(700, 1000));
    g.step(at(1), Input::ArmAll { lease: lease(5000, 6000) });
    arm(&mut g, 2, 2, 5, lease(700, 1000));
    g.step(at(3), Input::ArmAll { lease: lease(800, 1000) });
    assert_eq!(tick(&mut g, 799), []);
    assert_eq!(tick(&mut g, 800), [run(2, 5)]);
    assert_eq!(tick(&mut g, 900), [reset(2, 5, Reason::StopHung)]);
    assert_eq!(tick(&mut g, 5000), [run(1, 5)]);
}

#[test]
fn a_ticket_without_a_stop_command_is_refused() {
    let mut g = guard(None);
    let input = Input::Arm { ticket: Ticket(1), term: Term(1), lease: lease(1, 500) };
    assert_eq!(g.step(at(0), input), Verdict::NoStopCommand);
}

#[test]
fn impossible_times_are_refused() {
    let mut g = guard(None);
    assert_eq!(arm(&mut g, 0, 1, 5, lease(901, 1000)), Verdict::BadTimes, "stop after D - W");
    let far = Lease { stop_at: at(1), deadline: BootTime::NEVER };
    assert_eq!(arm(&mut g, 0, 1, 5, far), Verdict::BadTimes);
    assert_eq!(g.step(at(0), Input::ArmAll { lease: far }), Verdict::BadTimes);
}

#[test]
fn the_watchdog_is_petted_only_while_it_would_fire_before_the_deadline() {
    let mut g = guard(Some(Duration::from_millis(80)));
    assert_eq!(tick(&mut g, 0), [Effect::PetWatchdog], "idle nodes are petted");
    arm(&mut g, 1, 1, 5, lease(700, 1000));
    assert_eq!(tick(&mut g, 600), [Effect::PetWatchdog]);
    assert_eq!(tick(&mut g, 860), [run(1, 5), Effect::PetWatchdog]);
    assert_eq!(tick(&mut g, 920), [reset(1, 5, Reason::StopHung)]);
    for t in 921..3000 {
        assert_eq!(tick(&mut g, t), [], "no pet after a reset was asked for");
    }
    g.step(at(3000), Input::Killed { ticket: Ticket(1), term: Term(5) });
    assert_eq!(tick(&mut g, 3100), [Effect::PetWatchdog], "the dependents are dead");
}

#[test]
fn a_watchdog_longer_than_w_is_refused() {
    let mut g = Guard::new(4, Some(Duration::from_secs(2)));
    assert!(!g.set_margin(Duration::from_secs(1)));
    assert!(g.set_margin(Duration::from_secs(2)));
}

#[test]
fn stops_run_in_parallel_up_to_the_bound_and_the_rest_follows() {
    let mut g = Guard::new(1000, None);
    for ticket in 0..1000 {
        arm(&mut g, 0, ticket, 1, lease(500, 100_000));
    }
    let mut started = 0;
    let mut open = tick(&mut g, 500);
    assert_eq!(open.len(), MAX_PARALLEL_STOPS);
    let mut now = 500;
    while !open.is_empty() {
        now += 1;
        started += open.len();
        for effect in open {
            let Effect::RunStop { ticket, term } = effect else { continue };
            g.step(at(now), Input::StopDone { ticket, term, ok: true });
            while g.poll_effect().is_some() {}
        }
        open = tick(&mut g, now);
    }
    assert_eq!(started, 1000);
    assert_eq!(g.guarded(), 0);
}

#[test]
fn many_resets_due_at_once_all_come_out() {
    let mut g = Guard::new(1000, None);
    for ticket in 0..1000 {
        arm(&mut g, 0, ticket, 1, lease(500, 1000));
    }
    let mut seen = 0;
    while g.poll_deadline() <= at(5000) {
        seen += tick(&mut g, 5000).len();
    }
    assert_eq!((seen, g.counts().reset), (1000, 1000));
}

#[test]
fn a_full_table_gives_up_idle_places_but_never_guarded_ones() {
    let mut g = Guard::new(2, None);
    arm(&mut g, 0, 1, 1, lease(500, 1000));
    g.admit(Ticket(2)).expect("room");
    let (_, fresh) = g.admit(Ticket(3)).expect("the idle place of 2");
    assert!(fresh);
    assert_eq!(g.slot_of(Ticket(2)), None);
    arm(&mut g, 0, 3, 1, lease(500, 1000));
    assert_eq!(g.admit(Ticket(4)), None);
}

// ---- against a dumb twin ----------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
enum Move {
    Wait(u64),
    Arm { ticket: u32, term: u64, stop: u64, slack: u64 },
    ArmAll { stop: u64, slack: u64 },
    Pin(u32),
    Disarm { ticket: u32, term: u64 },
    Done { nth: usize, ok: bool },
    Killed(u32),
    Tick,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (0..400u64).prop_map(Move::Wait),
        3 => (0..6u32, 0..5u64, 0..900u64, 0..500u64)
            .prop_map(|(ticket, term, stop, slack)| Move::Arm { ticket, term, stop, slack }),
        3 => (0..900u64, 0..500u64).prop_map(|(stop, slack)| Move::ArmAll { stop, slack }),
        1 => (0..6u32).prop_map(Move::Pin),
        1 => (0..6u32, 0..5u64).prop_map(|(ticket, term)| Move::Disarm { ticket, term }),
        2 => (0..8usize, any::<bool>()).prop_map(|(nth, ok)| Move::Done { nth, ok }),
        1 => (0..6u32).prop_map(Move::Killed),
        4 => Just(Move::Tick),
    ]
}

/// What a reader of the rules would write down, with loops over everything.
#[derive(Debug, Clone, Copy)]
struct Twin {
    term: u64,
    guarded: bool,
    pinned: bool,
    stop: u64,
    deadline: u64,
}

const WATCHDOG_MS: u64 = 90;

struct World {
    guard: Guard,
    now: u64,
    twins: BTreeMap<u32, Twin>,
    running: Vec<(u32, u64)>,
    dying: BTreeMap<u32, u64>,
}

impl World {
    fn new() -> Self {
        let watchdog = Some(Duration::from_millis(WATCHDOG_MS));
        let guard = guard(watchdog);
        Self { guard, now: 1, twins: BTreeMap::new(), running: vec![], dying: BTreeMap::new() }
    }

    fn apply(&mut self, step: Move) {
        let now = self.now;
        match step {
            Move::Wait(ms) => self.now += ms,
            Move::Tick => self.tick(),
            Move::Arm { ticket, term, stop, slack } => {
                let (stop, deadline) = (now + stop, now + stop + slack + 100);
                let verdict = arm(&mut self.guard, now, ticket, term, lease(stop, deadline));
                if !matches!(verdict, Verdict::Done | Verdict::Stopping) {
                    return;
                }
                let twin = self.twins.entry(ticket).or_insert(Twin {
                    term,
                    guarded: false,
                    pinned: false,
                    stop,
                    deadline,
                });
                assert!(term >= twin.term, "terms-grow");
                if !twin.guarded {
                    *twin = Twin { term, guarded: true, pinned: false, stop, deadline };
                }
                if term > twin.term {
                    twin.pinned = false;
                }
                twin.term = term;
                twin.stop = twin.stop.max(stop);
                twin.deadline = twin.deadline.max(deadline);
            }
            Move::ArmAll { stop, slack } => {
                let (stop, deadline) = (now + stop, now + stop + slack + 100);
                self.guard.step(at(now), Input::ArmAll { lease: lease(stop, deadline) });
                for twin in self.twins.values_mut().filter(|t| t.guarded && !t.pinned) {
                    twin.stop = twin.stop.max(stop);
                    twin.deadline = twin.deadline.max(deadline);
                }
            }
            Move::Pin(ticket) => {
                if let Some(twin) = self.twins.get_mut(&ticket) {
                    let term = Term(twin.term);
                    self.guard.step(at(now), Input::Pin { ticket: Ticket(ticket), term });
                    twin.pinned = true;
                }
            }
            Move::Disarm { ticket, term } => {
                let input = Input::Disarm { ticket: Ticket(ticket), term: Term(term) };
                let verdict = self.guard.step(at(now), input);
                if let (Verdict::Done, Some(twin)) = (verdict, self.twins.get_mut(&ticket)) {
                    assert!(term >= twin.term, "terms-grow");
                    twin.term = term;
                    twin.guarded = false;
                    self.running.retain(|r| r.0 != ticket);
                }
            }
            Move::Done { nth, ok } => self.stop_done(nth, ok),
            Move::Killed(ticket) => {
                if let Some(term) = self.dying.remove(&ticket) {
                    let input = Input::Killed { ticket: Ticket(ticket), term: Term(term) };
                    self.guard.step(at(now), input);
                }
            }
        }
    }

    fn stop_done(&mut self, nth: usize, ok: bool) {
        if self.running.is_empty() {
            return;
        }
        let (ticket, term) = self.running.remove(nth % self.running.len());
        let input = Input::StopDone { ticket: Ticket(ticket), term: Term(term), ok };
        self.guard.step(at(self.now), input);
        while self.guard.poll_effect().is_some() {}
        if ok {
            self.twins.get_mut(&ticket).expect("ran").guarded = false;
        }
    }

    fn tick(&mut self) {
        for effect in tick(&mut self.guard, self.now) {
            match effect {
                Effect::RunStop { ticket, term } => {
                    let twin = self.twins[&ticket.0];
                    assert!(self.now >= twin.stop, "never-early: {twin:?}");
                    assert!(twin.guarded && twin.term == term.0);
                    self.running.push((ticket.0, term.0));
                }
                Effect::Reset { ticket, term, .. } => {
                    let twin = self.twins.get_mut(&ticket.0).expect("armed");
                    assert!(self.now + 100 >= twin.deadline, "never-early: {twin:?}");
                    assert!(twin.guarded);
                    twin.guarded = false;
                    self.running.retain(|r| r.0 != ticket.0);
                    self.dying.insert(ticket.0, term.0);
                }
                Effect::PetWatchdog => {
                    assert!(self.dying.is_empty(), "pet-in-time: after a reset");
                    for twin in self.twins.values().filter(|t| t.guarded) {
                        assert!(self.now + WATCHDOG_MS <= twin.deadline, "pet-in-time {twin:?}");
                    }
                }
                Effect::Report(_) => {}
            }
        }
        for (ticket, twin) in self.twins.iter().filter(|(_, t)| t.guarded) {
            assert!(self.now + 100 < twin.deadline, "never-late: {ticket} {twin:?}");
            let stopping = self.running.iter().any(|r| r.0 == *ticket);
            let wake = self.guard.poll_deadline().0;
            let due = if stopping { twin.deadline - 100 } else { twin.stop };
            assert!(wake <= due.max(self.now + 200) * MS, "wakes in time: {ticket} {twin:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(3000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_schedule_makes_the_guard_late_early_or_forgetful(
        steps in proptest::collection::vec(moves(), 1..80)
    ) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        // Liveness: left alone, everything ends stopped or reset before its deadline.
        for _ in 0..400 {
            world.now += 10;
            world.tick();
        }
        prop_assert!(world.twins.values().all(|t| !t.guarded));
        prop_assert_eq!(world.guard.guarded(), 0);
    }
}
