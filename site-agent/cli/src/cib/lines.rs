//! A patch as lines for people.

use tierce_cib::xml::{Document, Element};

/// One line for each thing that changes: `+` new, `-` gone, `~` another value, `>` moved.
pub(super) fn lines(old: &Document, patch: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    for change in patch.root().children_named("change") {
        let path = short(change.attr("path").unwrap_or(""));
        match change.attr("operation").unwrap_or("") {
            "delete" => lines.push(format!("- {path}")),
            "create" => match change.children().next() {
                Some(element) => lines.push(format!("+ {path}/{}", named(element))),
                None => lines.push(format!("+ {path}: a comment")),
            },
            "move" => {
                let place = change.attr("position").unwrap_or("");
                lines.push(format!("> {path}: now at place {place}"));
            }
            _ => attributes(old, change, &path, &mut lines),
        }
    }
    lines
}

fn attributes(old: &Document, change: Element<'_>, path: &str, lines: &mut Vec<String>) {
    let query = tierce_cib::xpath::Query::parse(change.attr("path").unwrap_or(""));
    let found = query.map(|query| query.find(old.root())).unwrap_or_default();
    let before = |name: &str| match found.first() {
        Some(tierce_cib::xpath::Found::Element(element)) => element.attr(name),
        _ => None,
    };
    let first = lines.len();
    for attr in change.children_named("change-list").flat_map(Element::children) {
        let name = attr.attr("name").unwrap_or("");
        let old = before(name).map_or("(not set)".to_owned(), |value| format!("{value:?}"));
        let new = match (attr.attr("operation"), attr.attr("value")) {
            (Some("set"), Some(value)) => format!("{value:?}"),
            _ => "(not set)".to_owned(),
        };
        lines.push(format!("~ {path}: {name} {old} -> {new}"));
    }
    if lines.len() == first {
        lines.push(format!("~ {path}: the order of its attributes"));
    }
}

/// `configuration/resources/primitive db` for `/cib/configuration/resources/primitive[@id='db']`.
fn short(path: &str) -> String {
    let path = path.strip_prefix("/cib/").unwrap_or(path.trim_start_matches('/'));
    path.replace("[@id='", " ").replace("']", "")
}

fn named(element: Element<'_>) -> String {
    match element.id() {
        Some(id) => format!("{} {id}", element.name()),
        None => element.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_one_line_with_both_values() {
        let read = |epoch: u32, inside: &str| {
            let text =
                format!("<cib admin_epoch='0' epoch='{epoch}' num_updates='0'>{inside}</cib>");
            Document::parse(text).expect("it is well formed")
        };
        let old = read(1, "<r><p id='a' x='1' y='1'/><p id='b'/><p id='c'/></r>");
        let new = read(2, "<r><p id='c'/><p id='a' x='2' z='3'/><q id='d'/></r>");
        let patch = tierce_cib::patch::make(&old, &new).expect("a patch");
        let found = lines(&old, &patch);
        for line in [
            "- r/p b",
            "~ cib: epoch \"1\" -> \"2\"",
            "~ r/p a: x \"1\" -> \"2\"",
            "~ r/p a: y \"1\" -> (not set)",
            "~ r/p a: z (not set) -> \"3\"",
            "> r/p c: now at place 0",
            "+ r/q d",
        ] {
            assert!(found.iter().any(|found| found == line), "{line}: {found:#?}");
        }
        assert_eq!(found.len(), 7, "{found:#?}");
    }
}
