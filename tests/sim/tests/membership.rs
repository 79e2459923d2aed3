//! Stories of voters that come, go, and come back with less than they had: R5, R11.

use tierce_ticket::command::{AttributeScope, Command, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::durable::Age;
use tierce_ticket::entry::{Mode, Note};
use tierce_ticket::ids::{AttributeName, RenewalSeq, SessionId, StoreId, TicketId};
use tierce_ticket::member::{Alarm, Input, Member, Standing};
use tierce_ticket::message::{Envelope, Message, Renew};

use tierce_sim::{MS, World, name, policy, tail, ticket};

const WEB: TicketId = TicketId(1);

#[test]
fn a_wiped_voter_takes_no_part_until_it_is_admitted_under_a_new_number() {
    let mut w = World::with_ticket(17, 2, 1, Mode::Auto);
    let old = w.nodes[0]
        .member
        .as_ref()
        .and_then(|m| m.ledger())
        .and_then(|l| l.configuration().0.id_of(&name("y")));
    w.crash(2);
    w.wipe(2);
    w.start(2);
    w.run_for(5_000);
    assert!(
        w.nodes[2].alarms.iter().any(|a| matches!(a, Alarm::NotAdmitted { .. })),
        "{}",
        tail(&w.log)
    );
    assert_eq!(w.nodes[2].member.as_ref().map(|m| m.standing().clone()), Some(Standing::Unformed));
    assert_eq!(w.runs_at(WEB), Some("a"));
    let admit = Command::Admit {
        name: name("y"),
        role: Role::Arbitrator,
        store: StoreId::default(),
        addresses: vec!["y:1".to_owned()],
    };
    w.done(0, admit);
    let new = w.nodes[0]
        .member
        .as_ref()
        .and_then(|m| m.ledger())
        .and_then(|l| l.configuration().0.id_of(&name("y")));
    assert!(new > old, "{old:?} -> {new:?}");
    w.run_for(2_000);
    w.power_off(0);
    assert!(
        w.run_until(4_000, |w| w.runs_at(WEB) == Some("b")),
        "it votes again\n{}",
        tail(&w.log)
    );
}

fn removed(w: &World, i: usize) -> bool {
    let standing = w.nodes[i].member.as_ref().map(|m| m.standing().clone());
    standing == Some(Standing::Out(Alarm::Removed))
}

#[test]
fn a_member_that_was_removed_while_it_heard_nothing_learns_it_when_it_is_back() {
    let mut w = World::with_ticket(22, 3, 2, Mode::Auto);
    w.run_for(2_000);
    w.cut_off(4);
    w.done(0, Command::Remove { name: name("z") });
    w.run_for(2_000);
    assert!(!removed(&w, 4), "how could it know?");
    w.heal();
    w.run_for(2_000);
    assert!(removed(&w, 4), "{}", tail(&w.log));
}

/// It has the entry, and whoever leads does not speak to it any more: it hears of no leader, and asks.
#[test]
fn a_member_that_was_removed_over_a_standing_connection_learns_it() {
    for seed in 0..20 {
        let mut w = World::with_ticket(seed, 3, 2, Mode::Auto);
        w.run_for(2_000);
        w.done(0, Command::Remove { name: name("z") });
        w.run_for(2_000);
        assert!(removed(&w, 4), "{}", tail(&w.log));
    }
}

#[test]
fn a_wiped_voter_is_brought_up_with_a_state_of_many_parts() {
    let mut w = World::with_ticket(19, 2, 1, Mode::Auto);
    for t in 0..18 {
        let of = ticket(&format!("t{t}"));
        w.done(0, Command::SetTicket { name: of.clone(), policy: policy(Mode::Manual) });
        for n in 0..64 {
            let scope = AttributeScope::TicketAt(of.clone(), name("a"));
            let attribute = format!("n{n}").parse::<AttributeName>().expect("a name");
            w.done(
                0,
                Command::SetAttribute { scope, name: attribute, value: Some("v".repeat(250)) },
            );
        }
    }
    let docket = |w: &World, i: usize| w.nodes[i].member.as_ref().and_then(|m| m.docket()).cloned();
    let large = docket(&w, 0).map_or(0, |d| d.to_bytes().len());
    assert!(large > tierce_ticket::limits::SNAPSHOT_PART_BYTES, "{large} bytes are one part");
    w.crash(2);
    w.wipe(2);
    w.start(2);
    w.run_for(1_000);
    // Frames get lost on the way (the connection breaks): it begins again.
    w.weather.cut.insert((0, 2));
    w.weather.cut.insert((1, 2));
    let admit = Command::Admit {
        name: name("y"),
        role: Role::Arbitrator,
        store: StoreId::default(),
        addresses: vec!["y:1".to_owned()],
    };
    let request = w.ask(0, admit);
    w.run_for(1_500);
    w.heal();
    assert!(w.run_until(20_000, |w| w.nodes[0].outcomes.contains_key(&request)));
    assert!(
        matches!(w.nodes[0].outcomes[&request], Outcome::Done { .. }),
        "{:?}\n{}",
        w.nodes[0].outcomes[&request],
        tail(&w.log)
    );
    w.run_for(1_000);
    assert_eq!(docket(&w, 2), docket(&w, 0));
    w.power_off(0);
    assert!(w.run_until(4_000, |w| w.runs_at(WEB) == Some("b")), "it votes\n{}", tail(&w.log));
}

/// A voter whose store was put back as it was 2 s ago, copied in the same opening, when the machine
/// was booted since (`rebooted`) or only the process was started.
fn put_back(rebooted: bool) -> World {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(100);
    let copy = w.copy_store(2);
    assert!(w.run_until(1_000, |w| w.leader() == Some(0)));
    let moved =
        w.decide(0, Command::Move { name: ticket("web"), to: name("b"), note: Note::new() });
    assert!(matches!(moved, Outcome::Done { .. }), "{moved:?}");
    w.run_for(2_000);
    if rebooted {
        w.power_off(2);
    } else {
        w.crash(2);
    }
    w.restore_store(2, copy);
    w.start(2);
    w.run_for(3_000);
    w
}

#[test]
fn a_store_restored_from_an_older_copy_refuses_to_take_part() {
    let w = put_back(true);
    let older =
        |a: &Alarm| matches!(a, Alarm::OlderStore { own, seen, .. } if own.written < seen.written);
    assert!(w.nodes[2].alarms.iter().any(older), "{}", tail(&w.log));
    let standing = w.nodes[2].member.as_ref().map(|m| m.standing().clone());
    assert!(matches!(standing, Some(Standing::Out(_))));
}

#[test]
fn a_machine_that_was_not_booted_since_refuses_an_older_store_itself() {
    let w = put_back(false);
    assert!(w.nodes[2].member.is_none(), "{}", tail(&w.log));
}

#[test]
fn a_hello_that_comes_late_is_not_held_against_the_process_that_came_after_it() {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(500);
    w.crash(2);
    w.start(2);
    w.freeze(1); // what the arbitrator said at that start is heard after its next one
    w.run_for(50);
    w.crash(2);
    w.start(2);
    w.run_for(100);
    w.thaw(1);
    w.heal();
    assert!(w.run_until(3_000, World::all_take_part), "{}", tail(&w.log));
}

/// Starts y anew, and keeps back what it says to b for a moment, of this kind.
fn start_and_keep(w: &mut World, late: fn(&Message) -> bool) -> Vec<Envelope> {
    w.crash(2);
    w.start(2);
    let mut kept = Vec::new();
    let until = w.now + 20 * MS;
    while w.next(until) {
        kept.extend(w.take((2, 1), late));
    }
    assert!(!kept.is_empty());
    kept
}

/// What was kept back reaches b.
fn hear(w: &mut World, late: Vec<Envelope>) {
    for envelope in late {
        w.step(1, Input::Received { from: name("y"), envelope });
    }
}

/// Of two starts of y: b hears the first late, then y's records grow, and last b hears the second.
fn hear_out_of_order(first: fn(&Message) -> bool, second: fn(&Message) -> bool) {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(500);
    let old = start_and_keep(&mut w, first);
    let new = start_and_keep(&mut w, second);
    hear(&mut w, old);
    w.done(1, Command::Hold { name: ticket("web"), note: "x".to_owned() });
    w.run_for(300);
    hear(&mut w, new);
    assert!(w.run_until(3_000, World::all_take_part), "{}", tail(&w.log));
    w.run_for(1_000);
    assert!(w.all_take_part(), "{}", tail(&w.log));
}

fn hello(m: &Message) -> bool {
    matches!(m, Message::Hello(_))
}

#[test]
fn a_hello_from_before_a_restart_does_not_replace_the_one_from_after_it() {
    hear_out_of_order(
        |m| matches!(m, Message::Hello(h) if h.reply.is_some()),
        |m| matches!(m, Message::Hello(h) if h.reply.is_none()),
    );
}

#[test]
fn what_is_said_before_the_hello_came_is_not_held_against_the_start_before() {
    hear_out_of_order(hello, hello);
}

/// An older copy could not be told from what said it.
#[test]
fn nothing_rests_on_what_is_said_before_the_hello_of_its_opening() {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(500);
    let (cluster, from) = w.nodes[0].member.as_ref().and_then(Member::identity).expect("a voter");
    let now = w.nodes[0].disk.age;
    let mut answers = |opened: u64| {
        let message = Message::Renew(Renew { session: SessionId(1), seq: RenewalSeq(1_000) });
        let envelope = Envelope { cluster, from, age: Age { opened, ..now }, message };
        w.take((2, 0), |_| true);
        w.step(2, Input::Received { from: name("a"), envelope });
        w.take((2, 0), |m| matches!(m, Message::Answer(_))).len()
    };
    assert_eq!(answers(now.opened + 1), 0, "no hello of that opening has come");
    assert_eq!(answers(now.opened), 1);
    assert_eq!(answers(now.opened - 1), 1, "what comes late was true when it was said");
}

#[test]
fn a_booted_voter_waits_for_all_others_or_until_its_promises_have_ended() {
    let mut w = World::with_ticket(18, 2, 1, Mode::Auto);
    w.run_for(2_000);
    let takes_part = |w: &World| {
        w.nodes[2].member.as_ref().is_some_and(|m| *m.standing() == Standing::TakingPart)
    };
    w.power_off(2);
    w.start(2);
    assert!(w.run_until(100, takes_part), "both others confirm it at once\n{}", tail(&w.log));
    w.crash(1);
    w.power_off(2);
    w.start(2);
    assert!(!w.run_until(900, takes_part), "one of them might know what is missing");
    assert!(w.run_until(300, takes_part), "but keeps nobody for ever\n{}", tail(&w.log));
    w.crash(2);
    w.start(2);
    assert!(w.run_until(100, takes_part), "its machine knows that nothing is missing");
}
