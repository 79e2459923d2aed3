//! What an OCF agent says about itself: its actions' default timeouts and its parameters.

use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

use crate::limits::{DEFAULT_TIMEOUT, MAX_METADATA_NODES};
use crate::spec::Timeouts;

/// An agent's description, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The agent's name for itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// Its actions, in the order given.
    pub actions: Vec<ActionDefaults>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
}

/// One action and its defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionDefaults {
    /// "start", "monitor", …
    pub name: String,
    /// Advised timeout.
    pub timeout: Option<Duration>,
    /// Advised interval.
    pub interval: Option<Duration>,
    /// Depth of a monitor.
    pub depth: Option<u32>,
    /// Role to which it applies.
    pub role: Option<String>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The agent cannot do without.
    pub required: bool,
    /// The value it has when not given.
    pub default: Option<String>,
    /// What it is for, in a few words.
    pub about: String,
}

impl Metadata {
    /// Reads an agent's `meta-data` output. The reason, where it cannot be read.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        // Agents name a DTD, which is not read: nothing outside the text is.
        let options = ParsingOptions {
            allow_dtd: true,
            nodes_limit: MAX_METADATA_NODES,
            ..Default::default()
        };
        let document =
            Document::parse_with_options(text.trim_start(), options).map_err(|e| e.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(format!("root element is {}", root.tag_name().name()));
        }
        let all = |list: &'static str, item: &'static str| {
            root.children()
                .filter(move |n| n.has_tag_name(list))
                .flat_map(|n| n.children())
                .filter(move |n| n.has_tag_name(item))
        };
        Ok(Self {
            name: attribute(root, "name"),
            version: attribute(root, "version"),
            actions: all("actions", "action").map(action).collect(),
            parameters: all("parameters", "parameter").map(parameter).collect(),
        })
    }

    /// The timeouts that the agent advises, with the usual default where it advises none.
    pub fn timeouts(&self) -> Timeouts {
        let of = |name| self.timeout(name).unwrap_or(DEFAULT_TIMEOUT);
        Timeouts { start: of("start"), stop: of("stop"), monitor: of("monitor") }
    }

    /// The advised timeout of an action; of the longest where it is there several times.
    pub fn timeout(&self, action: &str) -> Option<Duration> {
        self.actions.iter().filter(|a| a.name == action).filter_map(|a| a.timeout).max()
    }
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn action(node: Node<'_, '_>) -> ActionDefaults {
    ActionDefaults {
        name: attribute(node, "name"),
        timeout: node.attribute("timeout").and_then(duration),
        interval: node.attribute("interval").and_then(duration),
        depth: node.attribute("depth").and_then(|d| d.trim().parse().ok()),
        role: node.attribute("role").map(str::to_owned),
    }
}

fn parameter(node: Node<'_, '_>) -> Parameter {
    let child = |name| node.children().find(|n| n.has_tag_name(name));
    Parameter {
        name: attribute(node, "name"),
        required: matches!(node.attribute("required"), Some("1" | "true" | "yes")),
        default: child("content").and_then(|n| n.attribute("default")).map(str::to_owned),
        about: child("shortdesc").and_then(|n| n.text()).unwrap_or_default().trim().to_owned(),
    }
}

/// A time as agents write it: seconds unless a unit follows.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "s" | "sec" => Some(Duration::from_secs(number)),
        "ms" | "msec" => Some(Duration::from_millis(number)),
        "us" | "usec" => Some(Duration::from_micros(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" | "hr" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_every_unit_agents_use() {
        for (text, ms) in [
            ("20", 20_000),
            ("20s", 20_000),
            (" 5 sec ", 5_000),
            ("100ms", 100),
            ("2min", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-5", "1.5s", "99999999999999999999", "18446744073709551615h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn metadata_that_is_none_is_refused_with_the_reason() {
        assert!(Metadata::parse("").is_err());
        assert!(Metadata::parse("usage: Dummy {start|stop}").is_err());
        assert!(Metadata::parse("<a/>").unwrap_err().contains("root element is a"));
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">\
                    <!ENTITY c \"&b;&b;&b;&b;&b;&b;\">]><resource-agent name=\"&c;\"/>";
        assert!(Metadata::parse(bomb).is_ok_and(|m| m.name.len() <= 360));
    }
}
