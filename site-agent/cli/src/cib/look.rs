//! `tierce cib verify` and `resources`.

use clap::Args;
use serde_json::{Value, json};
use tierce_cib::ids::Ids;
use tierce_cib::schema::{self, Schema, Severity};
use tierce_cib::verify;
use tierce_cib::views::resources::{Kind, Resource, resources as all_resources};
use tierce_cib::xml::{Document, Element};

use super::Source;
use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::words::plain;

/// What is checked.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
}

pub(super) fn verify(ctx: &Ctx, args: &VerifyArgs) -> Result<Exit, Failure> {
    let (doc, name) = args.source.load()?;
    let report = verify::verify(&doc).map_err(|e| {
        Failure::new(
            codes::CONFIG,
            format!("{name}: {e}"),
            "nothing was checked",
            format!("tierce cib show {name} --xpath /cib"),
            "a CIB with validate-with=\"pacemaker-3.0\" or newer",
        )
    })?;
    let errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let errors = errors.count();
    let warnings = report.problems.len() - errors;
    let sound = errors == 0 && !(args.strict && warnings > 0);
    if ctx.out.is_json() {
        let problems: Vec<Value> = report
            .problems
            .iter()
            .map(|problem| {
                let severity = match problem.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                json!({
                    "severity": severity,
                    "line": problem.line,
                    "element": problem.element,
                    "what": problem.what,
                    "allowed": problem.allowed,
                })
            })
            .collect();
        ctx.out.json(&json!({
            "valid": sound,
            "schema": report.schema.to_string(),
            "problems": problems,
        }))?;
    } else {
        let mut text = String::new();
        for problem in &report.problems {
            text.push_str(&plain(&problem.to_string()));
            text.push('\n');
        }
        let verdict = if sound { "valid" } else { "not valid" };
        text.push_str(&plain(&format!(
            "{name}: {verdict} by {}, {errors} errors, {warnings} warnings",
            report.schema
        )));
        text.push('\n');
        ctx.out.text(&text)?;
    }
    Ok(if sound { Exit::Ok } else { Exit::Unwell(codes::CONFIG) })
}

pub(super) fn upgrade(ctx: &Ctx, source: &Source) -> Result<Exit, Failure> {
    let (doc, name) = source.load()?;
    let text = match Schema::declared(&doc) {
        Ok(_) => doc.write(),
        Err(_) => upgraded(&doc, &name)?.write(),
    };
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "xml": text }))?;
    } else {
        ctx.out.text(&text)?;
    }
    Ok(Exit::Ok)
}

fn upgraded(doc: &Document, name: &str) -> Result<Document, Failure> {
    schema::upgrade(doc).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        Failure::new(
            codes::CONFIG,
            format!(
                "{name}: {} places mean something else now; the first: {first}",
                problems.len()
            ),
            "nothing was upgraded",
            "crm_verify --verbose --xml-file FILE",
            "CIB_file=FILE cibadmin --upgrade, with Pacemaker 2.1, then look at what changed",
        )
    })
}

pub(super) fn resources(ctx: &Ctx, source: &Source) -> Result<Exit, Failure> {
    let (doc, _) = source.load()?;
    let ids = Ids::of(&doc);
    let all = all_resources(&doc, &ids);
    if ctx.out.is_json() {
        let all: Vec<Value> = all.iter().map(|resource| view(resource, &ids)).collect();
        ctx.out.json(&json!({ "resources": all }))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for resource in &all {
        tree(resource, &ids, 0, &mut text);
    }
    ctx.out.text(&text)?;
    Ok(Exit::Ok)
}

/// What a resource is, in one word or two.
fn kind(resource: &Resource<'_>) -> &'static str {
    match resource.kind {
        Kind::Primitive => "primitive",
        Kind::Group => "group",
        Kind::Clone if resource.is_promotable() => "promotable clone",
        Kind::Clone => "clone",
        Kind::Bundle => "bundle",
    }
}

fn operations(resource: &Resource<'_>) -> Vec<String> {
    let word = |name: &str, op: Element<'_>| {
        op.attr(name).map(|value| format!(" {name}={value}")).unwrap_or_default()
    };
    let ops = resource.operations();
    ops.iter()
        .map(|op| {
            let name = op.attr("name").unwrap_or("");
            format!("{name}{}{}", word("interval", *op), word("timeout", *op))
        })
        .collect()
}

fn view<'a>(resource: &Resource<'a>, ids: &Ids<'a>) -> Value {
    let children: Vec<Value> =
        resource.children(ids).iter().map(|child| view(child, ids)).collect();
    json!({
        "id": resource.id(),
        "kind": kind(resource),
        "agent": resource.agent(),
        "template": resource.template.and_then(Element::id),
        "line": resource.element.line(),
        "operations": operations(resource),
        "resources": children,
    })
}

fn tree<'a>(resource: &Resource<'a>, ids: &Ids<'a>, depth: usize, text: &mut String) {
    let mut line = |depth: usize, line: &str| {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&plain(line));
        text.push('\n');
    };
    let agent = resource.agent().map(|agent| format!(" ({agent})")).unwrap_or_default();
    line(depth, &format!("{} {}{agent}", kind(resource), resource.id()));
    for operation in operations(resource) {
        line(depth + 2, &operation);
    }
    for child in resource.children(ids) {
        tree(&child, ids, depth + 1, text);
    }
}
