//! The shared regression cases: how many of each tier are won, compared with what was won before.
//!
//! A case is won when the real actions, their order and the final status are as expected. The cases are data that is not part
//! of this repository: the folder is named by `TIERCE_SCHEDULER_CASES`, by default it lies beside the repository. Where it
//! is not there, there is nothing to compare. The table of what is won may only grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tierce_cib::time::Moment;
use tierce_cib::xml::{Document, Element};
use tierce_scheduler::simulate::{self, Request};

/// Tier, and how many of it are won.
const WON: [(u32, usize); 4] = [(1, 111), (2, 123), (3, 224), (4, 136)];

/// What an action does, whatever its number: key, node, and what else tells it from others.
type Act = (String, String, String);

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("TIERCE_SCHEDULER_CASES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-cases");
    named.or(Some(beside)).filter(|p| p.join("cases.tsv").is_file())
}

/// Drops instance numbers (`:0` before `_` or the end).
fn without_instance(key: &str) -> String {
    let mut out = String::new();
    let mut rest = key;
    while let Some(at) = rest.find(':') {
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let after = &rest[at + 1 + digits..];
        out.push_str(&rest[..at]);
        if digits == 0 || !(after.is_empty() || after.starts_with('_')) {
            out.push_str(&rest[at..=at + digits]);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn act(action: Element<'_>) -> Act {
    let attributes = action.child("attributes");
    let get = |name: &str| attributes.and_then(|a| a.attr(name)).unwrap_or("");
    let mut key = action.attr("operation_key").unwrap_or("").to_owned();
    let anonymous = matches!(get("CRM_meta_globally_unique"), "" | "false");
    if anonymous && attributes.is_some_and(|a| a.attr("CRM_meta_clone").is_some()) {
        key = without_instance(&key);
    }
    let extra = match action.attr("operation").unwrap_or("") {
        "notify" | "notified" => {
            format!("{} {}", get("CRM_meta_notify_type"), get("CRM_meta_notify_operation"))
        }
        "migrate_to" | "migrate_from" => {
            format!("{} {}", get("CRM_meta_migrate_source"), get("CRM_meta_migrate_target"))
        }
        "monitor" => get("CRM_meta_op_target_rc").to_owned(),
        "cancel" => get("CRM_meta_interval").to_owned(),
        _ => String::new(),
    };
    (key, action.attr("on_node").unwrap_or("").to_owned(), extra)
}

/// Real actions with their number, and ordered pairs of real actions through any others.
fn graph(text: &str) -> (BTreeMap<Act, usize>, BTreeSet<(Act, Act)>) {
    let doc = Document::parse(text).expect("a graph is XML");
    let mut actions = BTreeMap::new();
    let mut inputs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for synapse in doc.root().children_named("synapse") {
        let action =
            synapse.child("action_set").and_then(|s| s.children().next()).expect("one action");
        let id = action.id().expect("an action has an id");
        let before = synapse.child("inputs").into_iter().flat_map(|i| i.children_named("trigger"));
        inputs.insert(id, before.filter_map(|t| t.children().next()?.id()).collect());
        actions.insert(id, action);
    }
    let real =
        |a: &Element<'_>| a.name() != "pseudo_event" || a.attr("operation") == Some("stonith");
    let mut counts = BTreeMap::new();
    let mut order = BTreeSet::new();
    for (id, action) in actions.iter().filter(|(_, a)| real(a)) {
        *counts.entry(act(*action)).or_insert(0) += 1;
        let mut stack: Vec<&str> = inputs[id].clone();
        let mut seen = BTreeSet::new();
        while let Some(at) = stack.pop() {
            if !seen.insert(at) {
                continue;
            }
            let Some(before) = actions.get(at) else { continue };
            if real(before) {
                order.insert((act(*before), act(*action)));
            }
            stack.extend(&inputs[at]);
        }
    }
    (counts, order)
}

/// The lines of the final status, each with the line that it stands under.
fn final_status(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut stack: Vec<(usize, String)> = Vec::new();
    let after = text.split("Revised Cluster Status:").nth(1).unwrap_or("");
    for line in after.lines().filter(|l| !l.trim().is_empty()) {
        let depth = line.len() - line.trim_start().len();
        stack.retain(|(d, _)| *d < depth);
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push((stack.last().map(|s| s.1.clone()).unwrap_or_default(), words.clone()));
        stack.push((depth, words));
    }
    out.sort();
    out
}

fn won(folder: &Path, name: &str, args: &str) -> bool {
    let read = |kind: &str, end: &str| {
        std::fs::read_to_string(folder.join(kind).join(format!("{name}.{end}")))
            .expect("a case is complete")
    };
    let mut words: Vec<String> = ["-x", "-", "-S", "-G", "graph"].map(str::to_owned).to_vec();
    words.extend(args.split_whitespace().map(str::to_owned));
    let request = Request::parse(words).expect("the options of a case are known");
    let clock = Moment::from_epoch(1_800_000_000, 0).expect("a moment");
    let Ok(outcome) = simulate::run(read("xml", "xml"), &request, clock) else { return false };
    let (acts, order) = graph(&outcome.graph);
    let (wanted_acts, wanted_order) = graph(&read("exp", "exp"));
    acts == wanted_acts
        && order == wanted_order
        && final_status(&outcome.text) == final_status(&read("summary", "summary"))
}

#[test]
fn what_was_won_of_the_shared_cases_stays_won() {
    let Some(folder) = folder() else {
        eprintln!("no cases: set TIERCE_SCHEDULER_CASES to compare");
        return;
    };
    let table = std::fs::read_to_string(folder.join("cases.tsv")).expect("the table is readable");
    let mut lines = table.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let head = lines.next().expect("the table has a head");
    let column =
        |name: &str| head.iter().position(|c| *c == name).expect("the table has this column");
    let (name, tier, args) = (column("name"), column("tier"), column("args"));
    let mut lost: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for line in lines {
        let tier: u32 = line[tier].parse().expect("a tier is a number");
        if won(&folder, line[name], line.get(args).copied().unwrap_or("")) {
            *counts.entry(tier).or_insert(0) += 1;
        } else {
            lost.entry(tier).or_default().push(line[name].to_owned());
        }
    }
    for (tier, least) in WON {
        let count = counts.get(&tier).copied().unwrap_or(0);
        assert!(
            count >= least,
            "tier {tier}: {count} won, {least} were; lost: {:?}",
            lost.get(&tier)
        );
    }
}
