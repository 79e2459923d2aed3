//! What must hold of every plan, whatever the peer thinks of it, tried on random CIBs.

use tierce_cib::time::Moment;
use tierce_cib::values::add_scores;
use tierce_cib::xml::Document;
use tierce_scheduler::simulate::{self, Request};
use tierce_scheduler::{NodeReason, Plan, Prepared, Why, schedule};

use crate::generate::{Tier, cib};

/// The moment at which all is planned.
fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

const SEEDS: u64 = 200;

/// Every random CIB that ours plans, with its plan.
fn plans(look: impl Fn(&str, &Plan<'_>)) {
    let mut count = 0;
    for tier in 1..=3 {
        for seed in 0..SEEDS {
            let mut doc = Document::parse(cib(seed, Tier(tier))).expect("it is XML");
            if let Ok(plan) = schedule(&mut doc, now()) {
                look(&format!("tier {tier}, seed {seed}"), &plan);
                count += 1;
            }
        }
    }
    assert!(count > SEEDS * 2, "only {count} were planned");
}

/// What the parts add up to. A wish of another takes no node away that is wanted: it leaves 1. What is inside of a container has no
/// choice.
fn sum(node: &NodeReason) -> i32 {
    node.parts.iter().fold(0, |sum, part| {
        let left = matches!(part.why, Why::Wanted { .. }) && part.after == 1;
        let set = part.why == Why::Inside;
        assert!(left || set || add_scores(sum, part.score) == part.after, "{node:?}");
        part.after
    })
}

#[test]
fn the_parts_of_every_score_add_up_to_it() {
    plans(|name, plan| {
        for resource in plan.resources() {
            for node in plan.explain(resource).expect("it is a resource of the plan").nodes {
                assert_eq!(sum(&node), node.score, "{name}: {resource}: {node:?}");
            }
        }
    });
}

#[test]
fn every_step_comes_after_those_that_it_waits_for() {
    plans(|name, plan| {
        let steps = plan.steps();
        assert_eq!(steps.len(), plan.actions(), "{name}");
        for step in steps {
            assert!(step.after.iter().all(|before| *before < step.number), "{name}: {step:?}");
        }
    });
}

#[test]
fn planning_again_after_a_change_of_a_ticket_is_a_pass_over_the_changed_cib() {
    for tier in 1..=3 {
        for seed in 0..SEEDS {
            let text = cib(seed, Tier(tier));
            let doc = Document::parse(text.clone()).expect("it is XML");
            let mut kept = doc.clone();
            let Ok(mut prepared) = Prepared::read(&mut kept, now()) else { continue };
            if prepared.plan().is_err() {
                continue;
            }
            for ticket in ["ticketA", "ticketB"] {
                for (option, granted) in [("--ticket-grant", true), ("--ticket-revoke", false)] {
                    let words =
                        ["-x", "-", "-R", "-G", "g", "-t", "2023-11-14 22:13:20Z", option, ticket];
                    let request = Request::parse(words.map(str::to_owned)).expect("known options");
                    let full = simulate::run(text.clone(), &request, now()).expect("it is planned");
                    let state = doc
                        .root()
                        .descendants()
                        .find(|e| e.name() == "ticket_state" && e.id() == Some(ticket));
                    let is = |word| state.and_then(|s| s.attr(word)) == Some("true");
                    prepared.set_ticket(ticket, granted, is("standby"));
                    let again = prepared.plan().expect("it is planned");
                    let name = format!("tier {tier}, seed {seed}: {option} {ticket}");
                    assert_eq!(again.graph_xml(), full.graph, "{name}");
                    for step in again.release(ticket).steps {
                        assert!(step >= 1 && step <= again.actions(), "{name}");
                    }
                    prepared.set_ticket(ticket, is("granted"), is("standby"));
                }
            }
        }
    }
}
