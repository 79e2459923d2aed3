//! What a reload may change and what it may not.
//!
//! Members, addresses, lease times and tenant belong to the whole cluster; changing them in one
//! file would leave this member alone with its opinion, so a reload refuses them and names the
//! command that changes them for all. Paths and sockets are in use.

use super::types::Config;

impl Config {
    /// Every difference to `new` that a running agent cannot take over, with the way to do it.
    pub fn refused_changes(&self, new: &Config) -> Vec<String> {
        let mut refused = Vec::new();
        let mut must = |same: bool, what: &str, way: &str| {
            if !same {
                refused.push(format!("{what} may not change while the agent runs; {way}"));
            }
        };
        let restart = "restart the agent";
        must(self.tenant == new.tenant, "tenant", "a tenant is a cluster of its own: set up anew");
        must(self.site == new.site, "site", "a member keeps its name: join as a new member");
        must(self.data == new.data, "data", restart);
        must(self.pki_dir() == new.pki_dir(), "pki", restart);
        must(self.listen == new.listen, "listen", restart);
        must(self.control_path() == new.control_path(), "control", restart);
        must(self.metrics == new.metrics, "metrics", restart);
        must(self.recorder == new.recorder, "recorder", restart);
        must(self.guard == new.guard, "guard", restart);
        must(
            self.timing() == new.timing(),
            "the lease times",
            "they are the cluster's: all members change together",
        );
        must(
            self.plan().members == new.plan().members,
            "the members",
            "they change one at a time (R11): tierce sites admit or remove",
        );
        refused
    }

    /// Names of the tickets that differ in what is this site's own: resources, gates, address, ….
    pub fn changed_tickets(&self, new: &Config) -> Vec<String> {
        let local = |c: &Config, name: &str| {
            c.ticket(name).map(|t| {
                let t = t.clone();
                (t.resources, t.gates, t.lag_command, t.address, t.dns, t.bgp)
            })
        };
        let mut names: Vec<String> =
            self.tickets.iter().chain(&new.tickets).map(|t| t.name.clone()).collect();
        names.sort();
        names.dedup();
        names.retain(|n| local(self, n) != local(new, n));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, sound};

    #[test]
    fn what_belongs_to_the_cluster_or_is_in_use_is_refused_with_the_way() {
        let here = changed("tenant", "tenant");
        for (from, to, word) in [
            ("profile = \"metro-fast\"", "profile = \"lan\"", "lease times"),
            ("paris.example", "lyon.example", "R11"),
            ("\"0.0.0.0:7800\"", "\"0.0.0.0:7802\"", "listen may not change"),
            ("\"/var/lib/tierce\"", "\"/srv\"", "data may not change"),
        ] {
            let refused = here.refused_changes(&changed(from, to));
            assert!(refused.iter().any(|r| r.contains(word)), "{to}: {refused:?}");
        }
    }

    #[test]
    fn a_tickets_resources_and_policy_may_change() {
        let here = sound();
        for (from, to) in
            [("id = \"dummy\"", "id = \"d2\""), ("mode = \"auto\"", "mode = \"manual\"")]
        {
            assert!(here.refused_changes(&changed(from, to)).is_empty(), "{to}");
        }
        let other = changed("id = \"dummy\"", "id = \"d2\"");
        assert_eq!(here.changed_tickets(&other), ["web"]);
        assert!(here.changed_tickets(&changed("\"auto\"", "\"manual\"")).is_empty());
    }
}
