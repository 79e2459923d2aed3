//! What this scheduler does not do yet. It is refused by name, before anything is decided, for a wrong decision about a
//! part of a cluster can harm all of it.

use tierce_cib::nvset;
use tierce_cib::values;
use tierce_cib::xml::Element;

use crate::Error;
use crate::cluster::Cluster;

impl<'a> Cluster<'a> {
    /// Refuses a configuration that holds something unsupported.
    pub(super) fn refuse_unsupported(&self, resources: Element<'a>) -> Result<(), Error> {
        let refuse = |what: &'static str, e: Element<'a>| {
            Err(Error::Unsupported {
                what,
                place: format!("{} id={}", e.name(), e.id().unwrap_or("")),
            })
        };
        for e in resources.descendants() {
            for set in e.children_named("meta_attributes").filter_map(|set| self.ids.resolve(set)) {
                for (name, value) in nvset::pairs_of(set, &self.ids) {
                    if matches!(name, "requires" | "provides") && value == "unfencing" {
                        return refuse("unfencing", e);
                    }
                }
            }
        }
        if values::is_true(self.options.raw.get("shutdown-lock")) {
            return Err(Error::Unsupported {
                what: "shutdown locks",
                place: "cluster option shutdown-lock".into(),
            });
        }
        Ok(())
    }
}
