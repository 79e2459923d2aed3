//! What this scheduler does not do yet. It is refused by name, before anything is decided, for a wrong decision about a
//! part of a cluster can harm all of it.

use tierce_cib::xml::Element;

use crate::Error;
use crate::cluster::Cluster;
use crate::words;

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
            match e.name() {
                "bundle" => return refuse("bundles", e),
                "primitive" | "template" if is_remote(e) => return refuse("remote nodes", e),
                _ => {}
            }
            for set in self.source.sets(e, "meta_attributes", None) {
                let mut found = None;
                self.source.pairs(set, |name, value| match name {
                    "remote-node" => found = Some("guest nodes"),
                    "container" => found = Some("resources in containers"),
                    "requires" | "provides" if value == "unfencing" => found = Some("unfencing"),
                    _ => {}
                });
                if let Some(what) = found {
                    return refuse(what, e);
                }
            }
        }
        if self.options.raw.get("shutdown-lock").and_then(|w| words::boolean(w)) == Some(true) {
            return Err(Error::Unsupported {
                what: "shutdown locks",
                place: "cluster option shutdown-lock".into(),
            });
        }
        Ok(())
    }
}

fn is_remote(e: Element<'_>) -> bool {
    e.attr("class") == Some("ocf")
        && e.attr("provider") == Some("pacemaker")
        && e.attr("type") == Some("remote")
}
