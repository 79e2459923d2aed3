//! Stories with one cause and one end each.

use std::time::Duration;

use tierce_ticket::command::{Command, Outcome, RefusalCode};
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Proof, Regrant};
use tierce_ticket::holder::Holder;
use tierce_ticket::ids::TicketId;
use tierce_ticket::member::{Alarm, Input};

use tierce_sim::disk::Health;
use tierce_sim::node::Stopping;
use tierce_sim::{MS, World, name, policy, tail, ticket};

const WEB: TicketId = TicketId(1);

#[test]
fn a_grant_to_a_site_that_has_just_come_waits_for_its_first_report() {
    let mut w = World::new(3, 2, 1);
    w.nodes[1].silent = true;
    assert!(w.run_until(10_000, World::all_take_part), "{}", tail(&w.log));
    w.run_for(500);
    w.done(0, Command::SetTicket { name: ticket("web"), policy: policy(Mode::Manual) });
    let grant = Command::Grant { name: ticket("web"), to: name("b") };
    // It never comes: refused for that reason, and within T.
    let asked = w.now;
    match w.decide(0, grant.clone()) {
        Outcome::Refused(r) => {
            assert_eq!(r.code, RefusalCode::NotNow);
            assert!(r.what.contains("not reported its readiness"), "{}", r.what);
        }
        other => panic!("granted without a report: {other:?}"),
    }
    assert!(w.now - asked <= 1_200 * MS, "{} ms", (w.now - asked) / MS);
    // It comes while the operator waits.
    let request = w.ask(0, grant);
    w.run_for(200);
    assert!(!w.nodes[0].outcomes.contains_key(&request));
    w.nodes[1].silent = false;
    assert!(w.run_until(500, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
    assert!(matches!(w.nodes[0].outcomes[&request], Outcome::Done { .. }));
}

#[test]
fn a_file_that_was_read_again_is_compared_without_a_restart() {
    let mut w = World::with_ticket(4, 2, 1, Mode::Auto);
    let differs = |a: &Alarm| matches!(a, Alarm::DigestDiffers { .. });
    assert!(!w.nodes.iter().any(|n| n.alarms.iter().any(differs)));
    w.step(0, Input::Digest([8; 16]));
    w.run_for(100);
    let digest_at_b = |w: &World| {
        let hello = w.nodes[1].member.as_ref().and_then(|m| m.peer_hello(&name("a")));
        hello.map(|h| h.digest)
    };
    assert_eq!(digest_at_b(&w), Some([8; 16]));
    assert!(w.nodes[1].alarms.iter().any(differs), "the other site says so");
    let before = w.nodes[1].alarms.len();
    w.step(1, Input::Digest([8; 16]));
    w.run_for(100);
    assert_eq!(w.nodes[1].alarms.len(), before, "equal again: no new alarm");
}

#[test]
fn a_move_to_a_site_that_has_just_died_is_refused_and_nothing_stops() {
    let mut w = World::with_ticket(5, 2, 1, Mode::Manual);
    w.power_off(1);
    w.run_for(20);
    let command = Command::Move { name: ticket("web"), to: name("b"), note: String::new() };
    match w.decide(0, command) {
        Outcome::Refused(r) => assert!(r.what.contains("not connected"), "{}", r.what),
        other => panic!("{other:?}"),
    }
    w.run_for(3_000);
    assert_eq!(w.runs_at(WEB), Some("a"), "{}", tail(&w.log));
}

#[test]
fn proof_is_taken_for_a_ticket_whose_session_was_superseded_after_the_take_back() {
    let mut w = World::with_ticket(6, 2, 1, Mode::Manual);
    let fenced = Policy { regrant: Regrant::Fenced, ..policy(Mode::Manual) };
    w.done(0, Command::SetTicket { name: ticket("web"), policy: fenced });
    w.nodes[0].stopping = Stopping::Beyond;
    w.done(1, Command::TakeBack { name: ticket("web"), note: String::new() });
    let lost = |w: &World| w.holder_of(1, WEB).is_none();
    assert!(w.run_until(5_000, lost), "{}", tail(&w.log));
    w.power_off(0);
    w.start(0);
    assert!(w.run_until(10_000, World::all_take_part), "{}", tail(&w.log));
    w.run_for(1_000);
    let note = "its power was cut".to_owned();
    w.done(1, Command::ConfirmDown { site: name("a"), proof: Proof::Fenced, note });
    w.done(1, Command::Grant { name: ticket("web"), to: name("b") });
}

#[test]
fn a_handover_called_off_while_the_release_is_on_its_way_never_runs_the_old_term_again() {
    let mut called_off = 0;
    for seed in 0..40 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Manual);
        w.weather.delay_ms = (5, 60);
        let note = String::new;
        w.ask(0, Command::Move { name: ticket("web"), to: name("b"), note: note() });
        w.run_for(seed * 10);
        let request = w.ask(1, Command::CancelMove { name: ticket("web"), note: note() });
        w.run_for(5_000);
        called_off +=
            u32::from(matches!(w.nodes[1].outcomes.get(&request), Some(Outcome::Done { .. })));
        let home = w.runs_at(WEB).map(ToOwned::to_owned);
        assert!(home.is_some(), "seed {seed}: it runs nowhere\n{}", tail(&w.log));
        assert_eq!(home, w.holder_of(0, WEB), "seed {seed}\n{}", tail(&w.log));
    }
    assert!(called_off > 3, "called off in time: {called_off} of 40");
}

#[test]
fn a_crashed_holder_is_followed_within_t_and_never_overlapped() {
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Auto);
        w.run_for(w.timing.renew_every.as_millis() as u64 * seed / 20);
        let at = w.now;
        w.power_off(0);
        let came = w.run_until(3_000, |w| w.holder_of(1, WEB).as_deref() == Some("b"));
        assert!(came, "seed {seed}\n{}", tail(&w.log));
        let took = (w.now - at) / MS;
        // T at the slowest clock, two round trips of 6 ms, two writes of 1.2 ms, late timers.
        assert!(took <= 1_010 + 12 + 3 + 20, "seed {seed}: {took} ms\n{}", tail(&w.log));
        assert!(took >= 700, "seed {seed}: {took} ms is too soon");
    }
}

#[test]
fn a_cut_off_holder_stops_before_the_other_starts_and_the_gap_is_real() {
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Auto);
        w.cut_off(0);
        assert!(w.run_until(3_000, |w| w.runs_at(WEB).is_none()));
        let stopped = w.now;
        assert!(w.run_until(3_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
        assert!(w.now > stopped);
        w.heal();
        w.run_for(3_000);
        assert_eq!(w.runs_at(WEB), Some("b"), "no fail-back\n{}", tail(&w.log));
        assert_eq!(w.holder_of(0, WEB).as_deref(), Some("b"));
    }
}

#[test]
fn a_short_cut_moves_nothing() {
    let mut w = World::with_ticket(3, 2, 1, Mode::Auto);
    let budget = w.timing.blip_budget(w.timing.stop_budget).as_millis() as u64;
    let term = w.granted[&WEB];
    for _ in 0..5 {
        w.cut_off(0);
        w.run_for(budget);
        assert_eq!(w.runs_at(WEB), Some("a"), "a cut within the blip budget stops nothing");
        w.heal();
        w.run_for(2_000);
    }
    assert_eq!((w.runs_at(WEB), w.granted[&WEB]), (Some("a"), term));
}

#[test]
fn the_holder_goes_on_without_the_arbitrator_and_without_the_other_site() {
    let mut w = World::with_ticket(4, 2, 1, Mode::Auto);
    w.crash(2);
    w.run_for(5_000);
    assert_eq!(w.runs_at(WEB), Some("a"), "the arbitrator lost: the sites go on");
    w.start(2);
    w.run_for(2_000);
    w.power_off(1);
    w.run_for(5_000);
    assert_eq!(w.runs_at(WEB), Some("a"), "{}", tail(&w.log));
}

#[test]
fn a_holder_alone_stops_and_says_unknown() {
    let mut w = World::with_ticket(5, 2, 1, Mode::Auto);
    w.power_off(1);
    w.crash(2);
    w.run_for(3_000);
    assert_eq!(w.runs_at(WEB), None);
    match w.decide(0, Command::Read) {
        Outcome::Refused(r) => assert_eq!(r.code, RefusalCode::NoQuorum),
        Outcome::Unknown { .. } => {}
        Outcome::Done { .. } => panic!("a member without a majority reads nothing"),
    }
}

#[test]
fn a_frozen_agent_is_stopped_by_its_guard_before_the_other_site_starts() {
    let mut w = World::with_ticket(6, 2, 1, Mode::Auto);
    w.freeze(0);
    assert!(w.run_until(4_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
    w.run_for(1_000);
    w.thaw(0);
    w.run_for(3_000);
    assert_eq!(w.runs_at(WEB), Some("b"));
}

#[test]
fn a_planned_move_takes_round_trips_and_no_waiting() {
    let mut w = World::with_ticket(7, 2, 1, Mode::Auto);
    let before = w.granted[&WEB];
    w.done(1, Command::Move { name: ticket("web"), to: name("b"), note: "test".to_owned() });
    let begun = w.now;
    assert!(w.run_until(2_000, |w| w.runs_at(WEB).is_none()), "{}", tail(&w.log));
    let stopped = w.now;
    assert!(w.run_until(2_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
    assert!(
        (w.now - stopped) / MS <= 25,
        "release and grant are one batch: {} ms",
        (w.now - stopped) / MS
    );
    assert!((stopped - begun) / MS <= 350 + 10, "the stop begins at once");
    assert!(w.granted[&WEB] > before);
}

#[test]
fn a_revoked_ticket_stays_free_until_somebody_grants_it() {
    let mut w = World::with_ticket(8, 2, 1, Mode::Auto);
    w.done(0, Command::Revoke { name: ticket("web"), note: String::new() });
    assert!(w.run_until(2_000, |w| w.holder_of(2, WEB).is_none()), "{}", tail(&w.log));
    w.run_for(5_000);
    assert_eq!((w.runs_at(WEB), w.holder_of(1, WEB)), (None, None));
    w.done(0, Command::Grant { name: ticket("web"), to: name("b") });
    assert!(w.run_until(1_000, |w| w.runs_at(WEB) == Some("b")));
}

#[test]
fn a_ticket_is_taken_back_from_a_holder_that_does_not_stop_and_the_others_stay() {
    let mut w = World::with_ticket(9, 2, 1, Mode::Auto);
    w.done(0, Command::SetTicket { name: ticket("db"), policy: policy(Mode::Auto) });
    w.done(0, Command::Grant { name: ticket("db"), to: name("a") });
    assert!(w.run_until(1_000, |w| w.runs_at(TicketId(2)) == Some("a")));
    w.nodes[0].stopping = Stopping::Beyond;
    w.done(1, Command::Move { name: ticket("web"), to: name("b"), note: String::new() });
    w.run_for(1_000);
    assert_eq!(w.holder_of(1, WEB).as_deref(), Some("a"), "it does not stop by itself");
    w.done(1, Command::TakeBack { name: ticket("web"), note: String::new() });
    assert!(
        w.run_until(5_000, |w| w.holder_of(1, WEB).as_deref() == Some("b")),
        "{}",
        tail(&w.log)
    );
    w.run_for(2_000);
    assert_eq!(
        w.runs_at(TicketId(2)),
        Some("a"),
        "the session's other ticket never stopped\n{}",
        tail(&w.log)
    );
}

#[test]
fn an_agent_that_restarts_in_time_keeps_its_tickets_and_terms() {
    let mut w = World::with_ticket(10, 2, 1, Mode::Auto);
    let term = w.granted[&WEB];
    w.crash(0);
    w.run_for(100);
    w.start(0);
    w.run_for(5_000);
    assert_eq!((w.runs_at(WEB), w.granted[&WEB]), (Some("a"), term), "{}", tail(&w.log));
}

#[test]
fn an_agent_that_comes_back_to_a_handover_stops_what_runs_before_it_releases() {
    for seed in 30..50 {
        let mut w = World::with_ticket(seed, 2, 1, Mode::Auto);
        w.crash(0);
        assert!(w.run_until(700, |w| w.leader().is_some_and(|l| l != 0)), "{}", tail(&w.log));
        w.ask(1, Command::Move { name: ticket("web"), to: name("b"), note: String::new() });
        w.run_for(seed % 60);
        w.start(0);
        assert!(
            w.run_until(6_000, |w| w.runs_at(WEB) == Some("b")),
            "seed {seed}\n{}",
            tail(&w.log)
        );
    }
}

#[test]
fn a_session_that_a_minority_fenced_is_rolled_without_a_stop() {
    // a and b stay in touch; y hears nothing of a for a while and is asked to fence it.
    let mut w = World::with_ticket(11, 2, 3, Mode::Auto);
    let y = w.index("y");
    let b = w.index("b");
    for other in [y, b] {
        w.weather.cut.insert((0, other));
        w.weather.cut.insert((other, 0));
    }
    w.run_for(4_000);
    w.heal();
    let before = w.granted[&WEB];
    w.run_for(6_000);
    assert_eq!(w.runs_at(WEB), Some("a"), "{}", tail(&w.log));
    assert_eq!(w.granted[&WEB], before);
}

#[test]
fn policy_fenced_waits_for_proof_and_takes_a_devices_word() {
    let mut w = World::with_ticket(12, 2, 1, Mode::Auto);
    let fenced = Policy { regrant: Regrant::Fenced, ..policy(Mode::Auto) };
    w.done(0, Command::SetTicket { name: ticket("web"), policy: fenced });
    w.power_off(0);
    w.run_for(4_000);
    assert_eq!(w.holder_of(1, WEB), None, "a lapse alone is not enough");
    let confirm =
        Command::ConfirmDown { site: name("a"), proof: Proof::Fenced, note: "pdu 3".to_owned() };
    w.done(1, confirm);
    assert!(w.run_until(1_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
}

#[test]
fn a_devices_proof_shortens_the_takeover() {
    let mut w = World::with_ticket(13, 2, 1, Mode::Auto);
    let session =
        w.nodes[1].member.as_ref().and_then(|m| m.docket()).and_then(|d| d.session_of(&name("a")));
    w.power_off(0);
    let at = w.now;
    assert!(
        w.run_until(700, |w| w.leader().is_some_and(|l| l != 0)),
        "a new leader\n{}",
        tail(&w.log)
    );
    for i in 1..3 {
        w.step(i, Input::DeviceProof(session.expect("a has a session")));
    }
    assert!(
        w.run_until(2_000, |w| w.holder_of(1, WEB).as_deref() == Some("b")),
        "{}",
        tail(&w.log)
    );
    assert!((w.now - at) / MS < 800, "{} ms", (w.now - at) / MS);
}

#[test]
fn one_move_per_window_holds_the_ticket_where_it_went() {
    let mut w = World::with_ticket(14, 2, 1, Mode::Auto);
    let once = Policy { one_move_per: Duration::from_secs(30), ..policy(Mode::Auto) };
    w.done(0, Command::SetTicket { name: ticket("web"), policy: once });
    w.cut_off(0);
    assert!(w.run_until(3_000, |w| w.runs_at(WEB) == Some("b")));
    w.heal();
    w.run_for(3_000);
    w.cut_off(1);
    w.run_for(5_000);
    assert_eq!(w.runs_at(WEB), None, "no second automatic move within the window");
    w.heal();
    assert!(
        w.run_until(3_000, |w| w.runs_at(WEB) == Some("b")),
        "it may return to where it was\n{}",
        tail(&w.log)
    );
    w.run_for(35_000);
    w.cut_off(1);
    assert!(
        w.run_until(5_000, |w| w.runs_at(WEB) == Some("a")),
        "after the window it moves\n{}",
        tail(&w.log)
    );
}

#[test]
fn observe_and_confirm_move_nothing_by_themselves() {
    for mode in [Mode::Observe, Mode::Confirm, Mode::Manual] {
        let mut w = World::with_ticket(15, 2, 1, mode);
        w.power_off(0);
        w.run_for(6_000);
        assert_eq!(w.holder_of(1, WEB), None);
        let docket = w.nodes[1].member.as_ref().and_then(|m| m.docket()).expect("a docket");
        let proposed =
            docket.ticket(WEB).and_then(|t| t.proposed.clone()).map(|(to, _)| to.to_string());
        let expected = (mode != Mode::Manual).then(|| "b".to_owned());
        assert_eq!(proposed, expected, "{mode:?}");
        w.done(1, Command::Grant { name: ticket("web"), to: name("b") });
        assert!(w.run_until(1_000, |w| w.runs_at(WEB) == Some("b")));
    }
}

#[test]
fn a_site_that_is_not_ready_is_not_chosen_and_a_grant_says_why() {
    let mut w = World::with_ticket(16, 3, 2, Mode::Auto);
    w.nodes[1].ready = false;
    w.crash(1);
    w.start(1);
    w.run_for(3_000);
    match w.decide(0, Command::Move { name: ticket("web"), to: name("b"), note: String::new() }) {
        Outcome::Refused(r) => assert!(r.what.contains("the test says so"), "{r}"),
        other => panic!("{other:?}"),
    }
    w.power_off(0);
    assert!(w.run_until(4_000, |w| w.runs_at(WEB) == Some("c")), "{}", tail(&w.log));
}

#[test]
fn a_command_given_to_the_leader_does_not_wait_for_something_else_to_happen() {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(100);
    let leader = w.leader().expect("one leads");
    for n in 0..10 {
        w.run_for(37 + n);
        let asked = w.now;
        let request =
            w.ask(leader, Command::SetTicket { name: ticket("db"), policy: policy(Mode::Manual) });
        assert!(w.run_until(1_000, |w| w.nodes[leader].outcomes.contains_key(&request)));
        // A round trip of 2 to 10 ms and two writes of up to 1 ms.
        let took = (w.now - asked) / MS;
        assert!(took <= 14, "it took {took} ms\n{}", tail(&w.log));
    }
}

#[test]
fn a_failed_disk_stops_the_voter_and_nothing_is_lost() {
    let mut w = World::with_ticket(19, 2, 1, Mode::Auto);
    w.nodes[2].disk.health = Health::Fails;
    w.done(0, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.run_for(1_000);
    assert!(w.nodes[2].member.is_none(), "R6: the member is gone");
    w.nodes[2].disk.health = Health::Works;
    w.start(2);
    w.run_for(2_000);
    assert!(w.all_take_part(), "{}", tail(&w.log));
}

#[test]
fn leaving_gives_up_the_tickets_in_order_and_another_site_takes_over_at_once() {
    let mut w = World::with_ticket(20, 2, 1, Mode::Auto);
    let at = w.now;
    w.step(0, Input::Leave);
    assert!(w.run_until(2_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
    assert!((w.now - at) / MS < 500, "released, not lapsed: {} ms", (w.now - at) / MS);
    assert!(
        w.run_until(2_000, |w| w.nodes[0]
            .member
            .as_ref()
            .and_then(|m| m.holder())
            .is_some_and(Holder::has_left)),
        "{}",
        tail(&w.log)
    );
}

#[test]
fn lease_times_change_while_the_cluster_runs() {
    let mut w = World::with_ticket(22, 2, 1, Mode::Auto);
    let longer =
        tierce_ticket::timing::Timing { promise: Duration::from_millis(1_400), ..w.timing };
    w.done(0, Command::SetTiming(longer));
    w.run_for(2_000);
    let at = w.now;
    w.power_off(0);
    assert!(w.run_until(4_000, |w| w.runs_at(WEB) == Some("b")), "{}", tail(&w.log));
    assert!((w.now - at) / MS > 1_150, "the new T counts: {} ms", (w.now - at) / MS);
    let unsafe_timing =
        tierce_ticket::timing::Timing { stop_budget: Duration::from_secs(2), ..w.timing };
    match w.decide(1, Command::SetTiming(unsafe_timing)) {
        Outcome::Refused(r) => assert_eq!(r.code, RefusalCode::Unsafe),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_configuration_that_says_nothing_new_stops_nothing() {
    let mut w = World::with_ticket(27, 2, 1, Mode::Auto);
    let term = w.granted[&WEB];
    for _ in 0..3 {
        w.done(1, Command::SetTiming(w.timing));
    }
    for _ in 0..50 {
        w.run_for(100);
        assert_eq!((w.runs_at(WEB), w.granted[&WEB]), (Some("a"), term), "{}", tail(&w.log));
    }
}

#[test]
fn loss_policy_freeze_is_never_ordered_to_stop_by_the_lease() {
    let mut w = World::with_ticket(23, 2, 1, Mode::Manual);
    let freeze = Policy { loss: LossPolicy::Freeze, ..policy(Mode::Manual) };
    w.done(0, Command::SetTicket { name: ticket("web"), policy: freeze.clone() });
    w.cut_off(0);
    w.run_for(3_000);
    assert!(!w.log.contains("LeaseEnding"), "{}", tail(&w.log));
    w.heal();
    w.run_for(3_000);
    let auto = Policy { mode: Mode::Auto, ..freeze };
    match w.decide(1, Command::SetTicket { name: ticket("web"), policy: auto }) {
        Outcome::Refused(r) => assert_eq!(r.code, RefusalCode::Unsafe),
        other => panic!("{other:?}"),
    }
}
