//! `tierce cib explain`: why a resource is where it is, and why not elsewhere.
//!
//! What is shown is what the scheduler noted while it decided (`tierce_scheduler::Explanation`).

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};
use tierce_cib::values::show_score;
use tierce_scheduler::simulate::moment;
use tierce_scheduler::{ActionReason, Explanation, Fate, NodeReason, schedule};

use super::Source;
use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::words::plain;

/// What is explained.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A resource; of a group or clone each member, with its number for an instance of a clone.
    #[arg(value_name = "RESOURCE")]
    resource: String,
    #[command(flatten)]
    source: Source,
    /// Only this node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

pub(super) fn explain(ctx: &Ctx, args: &ExplainArgs) -> Result<Exit, Failure> {
    let (mut doc, name) = args.source.load()?;
    crate::simulate::valid(&name, &doc)?;
    let refused = |e: tierce_scheduler::Error| {
        Failure::sentence(codes::CONFIG, &format!("{name}: {e}"), "tierce cib verify FILE")
    };
    let now = moment(&doc, None, crate::simulate::clock()?).map_err(refused)?;
    let plan = schedule(&mut doc, now).map_err(refused)?;
    let mut all: Vec<Explanation> =
        plan.parts(&args.resource).iter().filter_map(|part| plan.explain(part)).collect();
    if all.is_empty() {
        return Err(Failure::new(
            codes::NO_SUCH,
            format!("{name} has no resource {}", args.resource),
            "nothing was explained",
            "tierce cib resources",
            "name a resource, or an instance of a clone: NAME:0",
        ));
    }
    if let Some(node) = &args.node {
        for one in &mut all {
            one.nodes.retain(|n| n.node == *node);
            one.actions.retain(|a| a.node.as_ref().is_none_or(|n| n == node));
        }
        if all.iter().all(|one| one.nodes.is_empty()) {
            return Err(Failure::new(
                codes::NO_SUCH,
                format!("{name} has no node {node}"),
                "nothing was explained",
                "tierce cib show --section nodes",
                "name a node, or leave --node out for all",
            ));
        }
    }
    if ctx.out.is_json() {
        let all: Vec<Value> = all.iter().map(view).collect();
        ctx.out.json(&json!({ "explained": all }))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for (i, one) in all.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        tell(one, &mut text);
    }
    ctx.out.text(&text)?;
    Ok(Exit::Ok)
}

fn headline(one: &Explanation) -> String {
    let now = if one.active_on.is_empty() {
        "does not run".to_owned()
    } else {
        format!("is {} on {}", one.role.to_lowercase(), one.active_on.join(", "))
    };
    let then = match &one.assigned {
        Some(node) if one.active_on == [node.clone()] && one.role == one.next_role => {
            "it stays there".to_owned()
        }
        Some(node) => format!("it is to be {} on {node}", one.next_role.to_lowercase()),
        None if one.active_on.is_empty() => "it stays so".to_owned(),
        None => "it is to be stopped".to_owned(),
    };
    format!("{} {now}; {then}: {}", one.resource, one.verdict)
}

fn tell(one: &Explanation, text: &mut String) {
    // Writing to a String can not fail.
    let _ = writeln!(text, "{}", plain(&headline(one)));
    if let Some((number, why)) = one.promotion {
        let _ = writeln!(text, "  promotion score {}: {why}", show_score(number));
    }
    for node in &one.nodes {
        let _ = writeln!(text, "  {}", plain(&node_line(node)));
        for part in &node.parts {
            let sign = if part.score > 0 { "+" } else { "" };
            let part = format!("{:<10} {}", format!("{sign}{}", show_score(part.score)), part.why);
            let _ = writeln!(text, "      {}", plain(&part));
        }
    }
    for action in &one.actions {
        let _ = writeln!(text, "  {}", plain(&action_line(action)));
    }
}

fn node_line(node: &NodeReason) -> String {
    let number = if node.listed { show_score(node.score) } else { "-".to_owned() };
    format!("{}: {number}, {}", node.node, node.fate)
}

pub(crate) fn action_line(action: &ActionReason) -> String {
    let mut line = action.key.clone();
    if let Some(node) = &action.node {
        let _ = write!(line, " on {node}");
    }
    line += if action.happens { ": happens" } else { ": can not happen" };
    if let Some(why) = &action.why {
        let _ = write!(line, ", because of {why}");
    }
    if let Some(constraint) = &action.constraint {
        let _ = write!(line, " (constraint {constraint})");
    }
    line
}

fn view(one: &Explanation) -> Value {
    let nodes: Vec<Value> = one.nodes.iter().map(node_view).collect();
    let actions: Vec<Value> = one.actions.iter().map(action_view).collect();
    json!({
        "resource": one.resource,
        "active_on": one.active_on,
        "role": one.role,
        "next_role": one.next_role,
        "assigned": one.assigned,
        "verdict": one.verdict,
        "promotion": one.promotion.map(|(score, why)| json!({ "score": score, "why": why })),
        "nodes": nodes,
        "actions": actions,
    })
}

fn node_view(node: &NodeReason) -> Value {
    let fate = match node.fate {
        Fate::Chosen => "chosen",
        Fate::Lost(_) => "not-chosen",
        Fate::Banned => "banned",
        Fate::Unusable(_) => "unusable",
        Fate::NotListed => "not-listed",
        Fate::NotAsked => "not-asked",
    };
    let parts: Vec<Value> = node
        .parts
        .iter()
        .map(|part| {
            json!({
                "score": part.score,
                "after": part.after,
                "kind": part.why.kind(),
                "constraint": part.why.constraint(),
                "why": part.why.to_string(),
            })
        })
        .collect();
    json!({
        "node": node.node,
        "listed": node.listed,
        "score": node.score,
        "fate": fate,
        "why": node.fate.to_string(),
        "parts": parts,
    })
}

/// An action as data.
pub(crate) fn action_view(action: &ActionReason) -> Value {
    json!({
        "key": action.key,
        "node": action.node,
        "happens": action.happens,
        "why": action.why,
        "by": action.by,
        "constraint": action.constraint,
    })
}
