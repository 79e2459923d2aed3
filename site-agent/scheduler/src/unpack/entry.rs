//! One entry of a history, and which of two came later.

use std::cmp::Ordering;

use tierce_cib::values;
use tierce_cib::xml::Element;

/// One entry of a history.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub xml: Element<'a>,
    pub task: &'a str,
    pub interval: u64,
    pub call: i64,
    pub rc: i64,
    pub status: i64,
    pub target_rc: Option<i64>,
    pub transition: i64,
    pub changed: i64,
}

impl<'a> Entry<'a> {
    pub(crate) fn read(xml: Element<'a>) -> Option<Self> {
        let number = |name: &str| xml.attr(name).and_then(values::leading_integer);
        let key = xml.attr("transition-key").or_else(|| {
            xml.attr("transition-magic").and_then(|m| m.split_once(';')).map(|(_, key)| key)
        });
        let mut parts = key.unwrap_or("").split(':');
        let _action = parts.next();
        let transition = parts.next().and_then(values::leading_integer).unwrap_or(-1);
        let target_rc = parts.next().and_then(values::leading_integer);
        Some(Self {
            xml,
            task: xml.attr("operation")?,
            interval: number("interval").unwrap_or(0).max(0) as u64,
            call: number("call-id").unwrap_or(0),
            rc: number("rc-code").unwrap_or(193),
            status: number("op-status").unwrap_or(-1),
            target_rc,
            transition,
            changed: number("last-rc-change").unwrap_or(0),
        })
    }

    pub(crate) fn probe(&self) -> bool {
        self.task == "monitor" && self.interval == 0
    }

    /// The order in which entries of one node came to be.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        if self.call >= 0 && other.call >= 0 && self.call != other.call {
            return self.call.cmp(&other.call);
        }
        if self.call == other.call && self.call >= 0 {
            return self.changed.cmp(&other.changed);
        }
        // An operation in flight has no call id: it is newer, unless its transition is older.
        match (self.call < 0, other.call < 0) {
            (true, false) if self.transition >= other.transition => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, true) if other.transition >= self.transition => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => self.transition.cmp(&other.transition),
        }
    }

    /// Whether this one is newer than one of another node.
    pub(super) fn newer_than(&self, other: &Self) -> bool {
        if self.changed > 0 && other.changed > 0 && self.changed != other.changed {
            return self.changed > other.changed;
        }
        if self.transition >= 0 && other.transition >= 0 && self.transition != other.transition {
            return self.transition > other.transition;
        }
        self.call > other.call
    }
}
