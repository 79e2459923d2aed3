//! Cluster options: known names, their older names, defaults.
//!
//! Pacemaker 3.0.2 renamed stonith-* to fencing-*. Either name is taken here, and the newer one
//! counts if both are set.

use crate::ids::Ids;
use crate::nvset::Pairs;
use crate::rules::Situation;
use crate::xml::Document;

/// What is known of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The name that it had before (fencing-*: before Pacemaker 3.0.2).
    pub old_name: Option<&'static str>,
    /// Its value if nothing is set; nothing if the cluster decides.
    pub default: Option<&'static str>,
}

const fn option(name: &'static str, default: &'static str) -> Known {
    Known { name, old_name: None, default: Some(default) }
}

const fn renamed(name: &'static str, old: &'static str, default: &'static str) -> Known {
    Known { name, old_name: Some(old), default: Some(default) }
}

/// All options that we know, by name.
pub const KNOWN: &[Known] = &[
    option("batch-limit", "0"),
    option("cancel-removed-actions", "true"),
    option("cluster-delay", "60s"),
    option("cluster-ipc-limit", "500"),
    option("cluster-recheck-interval", "15min"),
    option("concurrent-fencing", "true"),
    option("dc-deadtime", "20s"),
    option("election-timeout", "2min"),
    option("enable-acl", "false"),
    option("enable-startup-probes", "true"),
    option("fence-remote-without-quorum", "false"),
    renamed("fencing-action", "stonith-action", "reboot"),
    renamed("fencing-enabled", "stonith-enabled", "true"),
    renamed("fencing-max-attempts", "stonith-max-attempts", "10"),
    renamed("fencing-reaction", "fence-reaction", "stop"),
    renamed("fencing-timeout", "stonith-timeout", "60s"),
    renamed("fencing-watchdog-timeout", "stonith-watchdog-timeout", "0"),
    option("have-watchdog", "false"),
    renamed("join-finalization-timeout", "crmd-finalization-timeout", "30min"),
    renamed("join-integration-timeout", "crmd-integration-timeout", "3min"),
    option("load-threshold", "80%"),
    option("maintenance-mode", "false"),
    option("migration-limit", "-1"),
    option("no-quorum-policy", "stop"),
    option("node-action-limit", "0"),
    option("node-health-base", "0"),
    option("node-health-green", "0"),
    option("node-health-red", "-INFINITY"),
    option("node-health-strategy", "none"),
    option("node-health-yellow", "0"),
    option("node-pending-timeout", "0"),
    option("pe-error-series-max", "-1"),
    option("pe-input-series-max", "4000"),
    option("pe-warn-series-max", "5000"),
    option("placement-strategy", "default"),
    option("priority-fencing-delay", "0"),
    option("shutdown-escalation", "20min"),
    option("shutdown-lock", "false"),
    option("shutdown-lock-limit", "0"),
    option("start-failure-is-fatal", "true"),
    option("startup-fencing", "true"),
    option("stop-all-resources", "false"),
    renamed("stop-removed-resources", "stop-orphan-resources", "true"),
    option("symmetric-cluster", "true"),
    renamed("transition-delay", "crmd-transition-delay", "0s"),
];

/// The options that are set in a configuration.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    set: Pairs<'a>,
}

impl<'a> Options<'a> {
    /// The options that count in a situation; node attributes do not play a part.
    pub fn of(doc: &'a Document, ids: &Ids<'a>, at: &Situation<'_>) -> Options<'a> {
        let section = doc.root().child("configuration").and_then(|part| part.child("crm_config"));
        let set = section.map_or_else(Pairs::default, |section| {
            Pairs::of(section, "cluster_property_set", ids, at)
        });
        Options { set }
    }

    /// The value of an option under either of its names, or its default.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let known = KNOWN.iter().find(|known| known.name == name || known.old_name == Some(name));
        let Some(known) = known else {
            return self.set.get(name);
        };
        let old = || known.old_name.and_then(|old| self.set.get(old));
        self.set.get(known.name).or_else(old).or(known.default)
    }

    /// What is set, as it is written.
    pub fn set(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.set.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_is_taken_and_the_newer_one_counts() {
        let text = |pairs: &str| {
            format!(
                "<cib><configuration><crm_config><cluster_property_set id='o'>{pairs}
                 </cluster_property_set></crm_config></configuration></cib>"
            )
        };
        let value = |pairs: &str, name: &str| {
            let doc = Document::parse(text(pairs)).unwrap();
            let options = Options::of(&doc, &Ids::of(&doc), &Situation::default());
            options.get(name).map(str::to_owned)
        };
        let old = "<nvpair id='a' name='stonith-enabled' value='false'/>";
        let both = format!("{old}<nvpair id='b' name='fencing-enabled' value='true'/>");
        assert_eq!(value(old, "fencing-enabled").as_deref(), Some("false"));
        assert_eq!(value(&both, "stonith-enabled").as_deref(), Some("true"));
        assert_eq!(value("", "no-quorum-policy").as_deref(), Some("stop"));
        assert_eq!(value("", "my-own"), None);
    }

    #[test]
    fn the_table_is_sorted_and_no_name_comes_twice() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
