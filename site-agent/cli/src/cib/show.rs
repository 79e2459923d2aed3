//! `tierce cib show` and `query`.

use clap::Args;
use serde_json::json;
use tierce_cib::xml::{Document, Element};
use tierce_cib::xpath::{Found, Query};

use super::Source;
use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;

/// What is shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    source: Source,
    /// Only one section: configuration, status, resources, constraints, nodes, crm_config…
    #[arg(long, value_name = "NAME", conflicts_with = "xpath")]
    section: Option<String>,
    /// Only what this query finds.
    #[arg(long, value_name = "XPATH")]
    xpath: Option<String>,
}

/// A query.
#[derive(Clone, Debug, Args)]
pub(crate) struct QueryArgs {
    /// The query: /cib/status, //primitive[@id='db'], //nvpair[@name='x']/@value…
    #[arg(value_name = "XPATH")]
    xpath: String,
    #[command(flatten)]
    source: Source,
}

pub(super) fn show(ctx: &Ctx, args: &ShowArgs) -> Result<Exit, Failure> {
    let (doc, name) = args.source.load()?;
    if let Some(xpath) = &args.xpath {
        return find(ctx, &doc, &name, xpath);
    }
    let Some(section) = &args.section else {
        if ctx.out.is_json() {
            ctx.out.json(&json!({ "xml": doc.write() }))?;
        } else {
            ctx.out.text(&doc.write())?;
        }
        return Ok(Exit::Ok);
    };
    let root = doc.root();
    let configuration = root.child("configuration");
    let places = [Some(root), configuration];
    let sections: Vec<Element<'_>> =
        places.into_iter().flatten().flat_map(Element::children).collect();
    if let Some(element) = sections.iter().find(|element| element.name() == section) {
        return show_all(ctx, &[Found::Element(*element)]);
    }
    let known: Vec<&str> = sections.iter().map(|element| element.name()).collect();
    Err(Failure::new(
        codes::NO_SUCH,
        format!("{name} has no section {section}"),
        "nothing was shown",
        "tierce cib show",
        format!("one of: {}", known.join(", ")),
    ))
}

pub(super) fn query(ctx: &Ctx, args: &QueryArgs) -> Result<Exit, Failure> {
    let (doc, name) = args.source.load()?;
    find(ctx, &doc, &name, &args.xpath)
}

fn find(ctx: &Ctx, doc: &Document, name: &str, xpath: &str) -> Result<Exit, Failure> {
    let query = Query::parse(xpath).map_err(|e| {
        Failure::new(
            codes::USAGE,
            e.to_string(),
            "nothing was shown",
            "tierce cib query --help",
            "xmllint --xpath for everything else",
        )
    })?;
    let found = query.find(doc.root());
    if found.is_empty() {
        return Err(Failure::new(
            codes::NO_SUCH,
            format!("{xpath} finds nothing in {name}"),
            "nothing was shown",
            "tierce cib show",
            "ask for less: //NAME finds every element of a name",
        ));
    }
    show_all(ctx, &found)
}

fn show_all(ctx: &Ctx, found: &[Found<'_>]) -> Result<Exit, Failure> {
    if ctx.out.is_json() {
        let found: Vec<_> = found
            .iter()
            .map(|found| match found {
                Found::Element(element) => json!({
                    "element": element.name(),
                    "id": element.id(),
                    "line": element.line(),
                    "xml": element.write(),
                }),
                Found::Value(value) => json!({ "value": value }),
            })
            .collect();
        ctx.out.json(&json!({ "found": found }))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for found in found {
        match found {
            Found::Element(element) => text.push_str(&element.write()),
            Found::Value(value) => text.push_str(&crate::words::plain(value)),
        }
        text.push('\n');
    }
    ctx.out.text(&text)?;
    Ok(Exit::Ok)
}
