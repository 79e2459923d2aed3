//! How a plan looks: one sentence, what changes, the steps, what can not be done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tierce_cib::time::Moment;
use tierce_scheduler::Step;
use tierce_scheduler::simulate::{Change, Outcome, Situation};

use crate::cib::explain::{action_line, action_view};
use crate::words::plain;

/// The verdict: what an operator reads first.
fn sentence(outcome: &Outcome) -> String {
    let real = outcome.steps.iter().filter(|s| !s.pseudo).count();
    if real == 0 && outcome.blocked.is_empty() {
        return "Nothing is to be done.".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for change in &outcome.changes {
        let verb = change.verb.split(' ').next().unwrap_or_default();
        *counts.entry(verb).or_default() += 1;
    }
    let mut parts: Vec<String> =
        counts.iter().map(|(verb, n)| format!("{} {n}", verb.to_lowercase())).collect();
    if !outcome.blocked.is_empty() {
        parts.push(format!("{} blocked", outcome.blocked.len()));
    }
    let what = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{real} actions{what}.")
}

fn line(text: &mut String, words: &str) {
    text.push_str(&plain(words));
    text.push('\n');
}

fn change_line(change: &Change) -> String {
    let place = format!("{}{}", change.from, change.to);
    let mut words = format!("{:<14} {:<20} {place}", change.verb, change.what);
    if !change.why.is_empty() {
        words = format!("{words}  ({})", change.why);
    }
    words.trim_end().to_owned()
}

/// The steps that are shown, numbered anew, each with those before it that are shown.
fn shown(steps: &[Step], all: bool) -> Vec<(usize, &Step, Vec<usize>)> {
    let mut number = vec![0; steps.len() + 1];
    // What a hidden step waits for, its followers wait for.
    let mut waits: Vec<Vec<usize>> = vec![Vec::new(); steps.len() + 1];
    let mut found = Vec::new();
    for step in steps {
        let mut before: Vec<usize> = Vec::new();
        for first in &step.after {
            if number[*first] > 0 {
                before.push(number[*first]);
            } else {
                before.extend(&waits[*first]);
            }
        }
        before.sort_unstable();
        before.dedup();
        if all || !step.pseudo || step.task == "stonith" {
            number[step.number] = found.len() + 1;
            found.push((found.len() + 1, step, before));
        } else {
            waits[step.number] = before;
        }
    }
    found
}

pub(super) fn plan_text(outcome: &Outcome, all: bool) -> String {
    let mut text = String::new();
    line(&mut text, &sentence(outcome));
    if !outcome.changes.is_empty() {
        text.push_str("\nChanges:\n");
        for change in &outcome.changes {
            line(&mut text, &format!("  {}", change_line(change)));
        }
    }
    let steps = shown(&outcome.steps, all);
    if !steps.is_empty() {
        text.push_str("\nSteps:\n");
    }
    for (number, step, after) in steps {
        let mut words = format!("  {number:>3}  {}", step.what);
        if !after.is_empty() {
            let after: Vec<String> = after.iter().map(ToString::to_string).collect();
            let _ = write!(words, "  [after {}]", after.join(", "));
        }
        if let Some(why) = &step.reason.why {
            let _ = write!(words, "  because of {why}");
        }
        if let Some(constraint) = &step.reason.constraint {
            let _ = write!(words, " (constraint {constraint})");
        }
        line(&mut text, &words);
    }
    if !outcome.blocked.is_empty() {
        text.push_str("\nCan not be done:\n");
        for action in &outcome.blocked {
            line(&mut text, &format!("  {}", action_line(action)));
        }
    }
    if let Some(at) = outcome.look_again.and_then(|at| Moment::from_epoch(at, 0)) {
        text.push('\n');
        line(&mut text, &format!("To be planned again at {at} at the latest."));
    }
    text
}

pub(super) fn simulation_text(outcome: &Outcome, all: bool) -> String {
    let mut text = String::new();
    for event in &outcome.events {
        line(&mut text, event);
    }
    text.push_str(&plan_text(outcome, all));
    let verdict = if outcome.failed { "A step failed; then:" } else { "All done; then:" };
    text.push('\n');
    line(&mut text, verdict);
    for (name, state) in &outcome.after.nodes {
        line(&mut text, &format!("  node {name}: {state}"));
    }
    for one in &outcome.after.resources {
        let places = if one.nodes.is_empty() {
            String::new()
        } else {
            format!(" on {}", one.nodes.join(", "))
        };
        line(&mut text, &format!("  {}: {}{places}", one.id, one.role.to_lowercase()));
    }
    text
}

pub(super) fn plan_view(outcome: &Outcome) -> Value {
    let changes: Vec<Value> = outcome
        .changes
        .iter()
        .map(|c| json!({"verb": c.verb, "what": c.what, "from": c.from, "to": c.to, "why": c.why}))
        .collect();
    let steps: Vec<Value> = outcome
        .steps
        .iter()
        .map(|step| {
            json!({
                "number": step.number,
                "what": step.what,
                "task": step.task,
                "resource": step.resource,
                "node": step.node,
                "pseudo": step.pseudo,
                "after": step.after,
                "reason": action_view(&step.reason),
            })
        })
        .collect();
    let blocked: Vec<Value> = outcome.blocked.iter().map(action_view).collect();
    json!({
        "verdict": sentence(outcome),
        "changes": changes,
        "steps": steps,
        "blocked": blocked,
        "look_again": outcome.look_again,
        "before": situation(&outcome.before),
    })
}

pub(super) fn simulation_view(outcome: &Outcome) -> Value {
    let mut view = plan_view(outcome);
    view["events"] = json!(outcome.events);
    view["failed"] = json!(outcome.failed);
    view["after"] = situation(&outcome.after);
    view
}

fn situation(s: &Situation) -> Value {
    let nodes: Vec<Value> =
        s.nodes.iter().map(|(name, state)| json!({"node": name, "state": state})).collect();
    let resources: Vec<Value> = s
        .resources
        .iter()
        .map(|r| json!({"resource": r.id, "role": r.role, "nodes": r.nodes}))
        .collect();
    json!({ "nodes": nodes, "resources": resources })
}
