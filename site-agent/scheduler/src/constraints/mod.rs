//! Constraints: who may run where, with whom, after whom, under which ticket.
//!
//! Each kind has a module. A constraint that names nothing known is left out, as Pacemaker does; `tierce cib verify` is
//! where such mistakes are errors.

mod ban;
pub(crate) mod colocation;
pub(crate) mod health;
pub(crate) mod hold;
pub(crate) mod location;
pub(crate) mod ordering;
pub(crate) mod sets;
pub(crate) mod ticket;

use tierce_cib::xml::Element;

use crate::arena::RscIx;
use crate::cluster::Cluster;

impl Cluster<'_> {
    /// Reads all constraints.
    pub(crate) fn unpack_constraints(&mut self) {
        let section = self.doc.root().child("configuration").and_then(|c| c.child("constraints"));
        let Some(section) = section else { return };
        for xml in section.children() {
            match xml.name() {
                "rsc_location" => self.unpack_location(xml),
                "rsc_colocation" => self.unpack_colocation(xml),
                "rsc_order" => {
                    self.origin = Some(self.order_xml.push(xml));
                    self.unpack_order(xml);
                    self.origin = None;
                }
                "rsc_ticket" => self.unpack_ticket(xml),
                _ => {}
            }
        }
    }

    /// The resource that a constraint names: something inside a clone means the clone.
    pub(crate) fn constraint_resource(&self, id: &str) -> Option<RscIx> {
        if let Some(clone) = self.clone_of.get(id) {
            return Some(*clone);
        }
        let rsc = self.rsc_by_id.get(id).copied()?;
        if self.rscs[rsc].removed {
            return None;
        }
        Some(rsc)
    }

    /// All resources that a name in a constraint stands for: a resource, or what a template or a tag gathers.
    pub(crate) fn constraint_resources(&self, id: &str) -> Vec<RscIx> {
        if let Some(rsc) = self.constraint_resource(id) {
            return vec![rsc];
        }
        let names = self.templates.get(id).or_else(|| self.tags.get(id));
        let mut found = Vec::new();
        for name in names.into_iter().flatten() {
            let more = match self.constraint_resource(name) {
                Some(rsc) => vec![rsc],
                None if *name != id && self.templates.contains_key(name) => {
                    self.constraint_resources(name)
                }
                None => Vec::new(),
            };
            for rsc in more {
                if !found.contains(&rsc) {
                    found.push(rsc);
                }
            }
        }
        found
    }
}

/// The id of a constraint, for reasons.
pub(crate) fn constraint_id(xml: Element<'_>) -> &str {
    xml.id().unwrap_or("")
}
