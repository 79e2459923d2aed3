//! The one spelling of a document that digests are made of, and the digests.
//!
//! Without line breaks or indentation, attributes in their order, comments kept, character data left
//! out. Pacemaker has two digests of a CIB: the one beside the file on disk is of this text between a
//! blank and a line break; the one in a patch is of the text itself without the attributes that say
//! who wrote it when. The digest of an operation's parameters is of the first shape, with the
//! attributes sorted.

use crate::xml::{Element, Node};
use md5::{Digest, Md5};
use std::fmt::Write;

/// Attributes that say who wrote when: not part of what a patch's digest covers.
const WHO_AND_WHEN: &[&str] =
    &["cib-last-written", "update-origin", "update-client", "update-user", "crm-debug-origin"];

/// The element as one line.
pub fn text(element: Element<'_>) -> String {
    let mut out = String::new();
    write(&mut out, element, &|_| true);
    out
}

/// The digest that stands beside a CIB on disk (`cibadmin --md5-sum`).
pub fn disk_digest(root: Element<'_>) -> String {
    md5(&format!(" {}\n", text(root)))
}

/// The digest that a patch carries of its result (`cibadmin --md5-sum-versioned`).
pub fn patch_digest(root: Element<'_>) -> String {
    let mut out = String::new();
    write(&mut out, root, &|name| !WHO_AND_WHEN.contains(&name));
    md5(&out)
}

/// The digest of an operation's parameters (`op-digest`), from those that its agent sees.
pub fn parameters_digest<'p>(parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut sorted: Vec<(&str, &str)> = parameters.into_iter().collect();
    sorted.sort_unstable();
    let mut out = String::from(" <parameters");
    for (name, value) in sorted {
        attribute(&mut out, name, value);
    }
    out.push_str("/>\n");
    md5(&out)
}

fn md5(text: &str) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        // Writing to a String can not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// What is still to be written: a node, or the end of an element.
enum Step<'a> {
    Node(Node<'a>),
    End(Element<'a>),
}

fn write(out: &mut String, element: Element<'_>, keep: &dyn Fn(&str) -> bool) {
    let mut steps = vec![Step::Node(Node::Element(element))];
    while let Some(step) = steps.pop() {
        match step {
            Step::End(element) => {
                out.push_str("</");
                out.push_str(element.name());
                out.push('>');
            }
            Step::Node(Node::Comment(_, text)) => {
                out.push_str("<!--");
                out.push_str(text);
                out.push_str("-->");
            }
            Step::Node(Node::Element(element)) => {
                out.push('<');
                out.push_str(element.name());
                for (name, value) in element.attrs().filter(|(name, _)| keep(name)) {
                    attribute(out, name, value);
                }
                let first = steps.len();
                steps.extend(element.nodes().map(Step::Node));
                if steps.len() == first {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    steps.push(Step::End(element));
                    steps[first..].reverse();
                }
            }
        }
    }
}

/// An attribute, with line breaks as Pacemaker spells them in what it digests.
fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Document;

    #[test]
    fn known_digests_come_out() {
        assert_eq!(parameters_digest([]), "f2317cad3d54cec5d7d7aa7d0bf35cf8");
        let timeout = [("CRM_meta_timeout", "20000")];
        assert_eq!(parameters_digest(timeout), "4811cef7f7f94e3a35a70be7916cb2fd");
        let text =
            "<cib epoch=\"1\" admin_epoch=\"0\" num_updates=\"2\" validate-with=\"pacemaker-3.9\">
            <configuration><crm_config/><nodes/><resources/><constraints/></configuration>
            <status/></cib>";
        let doc = Document::parse(text).unwrap();
        assert_eq!(disk_digest(doc.root()), "b452964e562120930c10c02bc343b3ff");
    }

    #[test]
    fn a_patch_digest_does_not_depend_on_who_wrote_when() {
        let one =
            Document::parse("<cib a='1' update-user='x'><!--c--><b crm-debug-origin='y'/></cib>");
        let other = Document::parse("<cib a='1'><!--c--><b/></cib>");
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(patch_digest(one.root()), patch_digest(other.root()));
        assert_ne!(disk_digest(one.root()), disk_digest(other.root()));
        assert_eq!(text(other.root()), "<cib a=\"1\"><!--c--><b/></cib>");
    }
}
