//! The version of a CIB: `admin_epoch.epoch.num_updates`.
//!
//! Compared number by number from the left; of two CIBs that meet the higher wins as a whole. A change
//! of the configuration raises `epoch` and sets `num_updates` to 0, a change of the status raises
//! `num_updates`; `admin_epoch` is for people only.

use crate::xml::{Document, Element};
use std::fmt;

/// The version of a CIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Set by people, to have their word over everything.
    pub admin_epoch: u64,
    /// Raised with each change of the configuration.
    pub epoch: u64,
    /// Raised with each change of the status.
    pub num_updates: u64,
}

/// The names of the three numbers, from the left.
pub const NAMES: [&str; 3] = ["admin_epoch", "epoch", "num_updates"];

/// A CIB whose version can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CIB has no whole number as its {0}: set admin_epoch, epoch and num_updates")]
pub struct NoVersion(pub &'static str);

/// What part of a CIB changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something outside of the status.
    Configuration,
    /// Only the status.
    Status,
}

impl Version {
    /// The version in an element's three attributes.
    pub fn of(element: Element<'_>) -> Result<Version, NoVersion> {
        let number = |name| {
            element.attr(name).and_then(|text| text.trim().parse().ok()).ok_or(NoVersion(name))
        };
        Ok(Version {
            admin_epoch: number(NAMES[0])?,
            epoch: number(NAMES[1])?,
            num_updates: number(NAMES[2])?,
        })
    }

    /// The version after a change.
    #[must_use]
    pub fn bumped(self, change: Change) -> Version {
        match change {
            Change::Configuration => {
                Version { epoch: self.epoch.saturating_add(1), num_updates: 0, ..self }
            }
            Change::Status => Version { num_updates: self.num_updates.saturating_add(1), ..self },
        }
    }

    /// The three numbers with their names.
    pub fn numbers(self) -> [(&'static str, u64); 3] {
        let [admin, epoch, updates] = NAMES;
        [(admin, self.admin_epoch), (epoch, self.epoch), (updates, self.num_updates)]
    }

    /// Writes the version into a document's root.
    pub fn set(self, doc: &mut Document) {
        let root = doc.root().node_id();
        for (name, number) in self.numbers() {
            doc.set(root, name, &number.to_string());
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.admin_epoch, self.epoch, self.num_updates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_from_the_left_and_bumped_by_what_changed() {
        let version = |admin_epoch, epoch, num_updates| Version { admin_epoch, epoch, num_updates };
        assert!(version(1, 0, 0) > version(0, 9, 9));
        assert!(version(0, 2, 0) > version(0, 1, 9));
        assert_eq!(version(1, 2, 3).bumped(Change::Configuration), version(1, 3, 0));
        assert_eq!(version(1, 2, 3).bumped(Change::Status), version(1, 2, 4));
        assert_eq!(version(1, 2, 3).to_string(), "1.2.3");
        let mut doc = Document::parse("<cib epoch='x' admin_epoch='0' num_updates='0'/>").unwrap();
        assert_eq!(Version::of(doc.root()), Err(NoVersion("epoch")));
        version(4, 5, 6).set(&mut doc);
        assert_eq!(Version::of(doc.root()), Ok(version(4, 5, 6)));
    }
}
