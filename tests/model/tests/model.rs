//! What every run of the tests explores: the quickest scopes completely, and each planted bug in the
//! scope that has to find it. The rest is `tests/run model`.

use std::time::Duration;

use tierce_model::check::{Effort, Search};
use tierce_model::ledger;
use tierce_model::mutant::Mutant;
use tierce_model::scope::Scope;
use tierce_model::scopes::AnyScope;

/// Far beyond what any of these takes: a slow machine is no violation.
const LIMIT: Duration = Duration::from_mins(4);
const BREADTH: Effort = Effort { search: Search::Breadth, threads: 2, limit: LIMIT, enough: None };
const DEPTH: Effort = Effort { search: Search::Depth, ..BREADTH };

#[test]
fn the_quick_scopes_hold_in_every_state() {
    for name in ["lapse", "old-views", "restart", "restart-on-ledger"] {
        let scope = AnyScope::named(name).expect("it is in the table");
        let r = scope.run(None, BREADTH);
        println!("{}", r.line());
        assert!(r.failed.is_empty(), "{}\n{:#?}", r.line(), r.failed);
    }
}

#[test]
fn the_quick_scopes_of_the_ledger_hold_in_every_state() {
    for name in ["ledger-elections", "ledger-snapshot"] {
        let r = AnyScope::named(name).expect("it is in the table").run(None, BREADTH);
        println!("{}", r.line());
        assert!(r.failed.is_empty(), "{}\n{:#?}", r.line(), r.failed);
    }
}

#[test]
fn the_same_states_are_found_in_whatever_order_they_are_looked_for() {
    // Two states count as one when they look alike. If they had other futures, it would matter which
    // of them came first.
    for name in ["lapse", "restart", "pause", "restart-on-ledger", "ledger-elections"] {
        let scope = AnyScope::named(name).expect("it is in the table");
        let found = [BREADTH, DEPTH].map(|effort| {
            let r = scope.run(None, effort);
            assert!(r.failed.is_empty(), "{}\n{:#?}", r.line(), r.failed);
            (r.generated, r.unique)
        });
        assert_eq!(found[0], found[1], "{name}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut survived = Vec::new();
    for m in Mutant::ALL {
        let r = m.home().run(Some(*m), BREADTH);
        let broken: Vec<_> = r.failed.iter().filter(|(_, story)| !story.is_empty()).collect();
        println!("{:<24} {:>9} states  {:?}", m.word(), r.generated, broken.first().map(|b| &b.0));
        if broken.is_empty() {
            survived.push(m.word());
        }
    }
    assert!(survived.is_empty(), "not found: {survived:?}; reproduce: tierce-model --mutant NAME");
}

#[test]
fn a_state_is_the_same_whenever_it_happens() {
    // Relative time: the same actions from clocks that show other numbers lead to the same digests.
    let scope = Scope::named("lapse").expect("it is in the table");
    for (w, later) in scope.beginnings(None).into_iter().zip(scope.beginnings_at(5_000, None)) {
        assert_eq!(w.digest(), later.digest());
        let (mut w, mut later) = (w, later);
        for step in 0..200_usize {
            let mut acts = Vec::new();
            tierce_model::action::possible(&scope, &w, None, &mut acts);
            if acts.is_empty() {
                break;
            }
            let act = &acts[(step * 7 + step / 3) % acts.len()];
            let next = tierce_model::action::happen(&scope, &w, act, None);
            let after = tierce_model::action::happen(&scope, &later, act, None);
            let (Some(a), Some(b)) = (next, after) else { continue };
            assert_eq!(a.digest(), b.digest(), "after step {step}, {act:?}");
            (w, later) = (a, b);
        }
    }
}

#[test]
fn a_ledger_that_is_stepped_twice_alike_is_the_same_state() {
    // What is left out of the comparison (clocks, counts since the start) makes no difference.
    for scope in ledger::scope::small() {
        let one = scope.begin();
        let same = ledger::scope::Scope::named(scope.name).expect("it is in the table").begin();
        assert_eq!(one.digest(), same.digest(), "{}", scope.name);
        let (mut c, mut later) = (one, same);
        for i in 0..later.nodes.len() {
            later.node(i).pass(std::time::Duration::from_hours(1));
        }
        for step in 0..200_usize {
            let mut acts = Vec::new();
            ledger::action::possible(&scope, &c, &mut acts);
            if acts.is_empty() {
                break;
            }
            let act = &acts[(step * 7 + step / 3) % acts.len()];
            let next = ledger::action::happen(&scope, &c, act, None);
            let after = ledger::action::happen(&scope, &later, act, None);
            let (Some(a), Some(b)) = (next, after) else { continue };
            assert_eq!(a.digest(), b.digest(), "{}: after step {step}, {act:?}", scope.name);
            (c, later) = (a, b);
        }
    }
}
