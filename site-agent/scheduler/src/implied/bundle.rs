//! Bundles: replicas of a container, each with an address and a connection as far as it needs them, and a clone of what runs
//! inside.

use core::net::Ipv4Addr;

use tierce_cib::xml::{Document, Element, NodeId};

use super::container::{Container, Replica};
use super::{MARK, REPLICA, write_pairs};
use crate::Error;

/// More replicas than this are refused: each is a node of its own, and what nodes cost grows with their square.
const MAX_REPLICAS: u32 = 256;

/// A bundle as it is configured.
pub(super) struct Bundle {
    element: NodeId,
    id: String,
    container: Container,
    replicas: u32,
    per_host: u32,
    promoted_max: Option<u32>,
    /// Whether anything runs inside.
    inner: bool,
    interface: Option<String>,
    netmask: Option<String>,
    first_address: Option<Ipv4Addr>,
}

/// All bundles.
pub(super) fn find(resources: Element<'_>) -> Result<Vec<Bundle>, Error> {
    resources.children_named("bundle").map(Bundle::read).collect()
}

impl Bundle {
    fn read(e: Element<'_>) -> Result<Self, Error> {
        let id = e.id().unwrap_or("").to_owned();
        let invalid = |what: &str| {
            Err(Error::Invalid { what: what.to_owned(), place: format!("bundle id={id}") })
        };
        let Some(engine) = e.children().find(|c| matches!(c.name(), "docker" | "podman")) else {
            if e.child("rkt").is_some() {
                return Err(Error::Unsupported {
                    what: "rkt containers",
                    place: format!("bundle id={id}"),
                });
            }
            return invalid("a bundle names no container");
        };
        let number = |name: &str| engine.attr(name).and_then(|w| w.parse::<u32>().ok());
        let promoted_max = number("promoted-max").or_else(|| number("masters")).filter(|n| *n > 0);
        let replicas = number("replicas").filter(|n| *n > 0).or(promoted_max).unwrap_or(1);
        if replicas > MAX_REPLICAS {
            return invalid("more replicas than make sense");
        }
        let inner = e.child("primitive").is_some();
        let network = e.child("network");
        let from_network = |name: &str| network.and_then(|n| n.attr(name)).map(str::to_owned);
        let first = from_network("ip-range-start");
        let control_port = from_network("control-port");
        if inner && first.is_none() && control_port.is_none() {
            return invalid("a bundle with a resource inside needs ip-range-start or control-port");
        }
        let first_address = match &first {
            None => None,
            Some(word) => match word.parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    return Err(Error::Unsupported {
                        what: "an ip-range-start that is no IPv4 address",
                        place: format!("bundle id={id}"),
                    });
                }
            },
        };
        Ok(Self {
            element: e.node_id(),
            container: Container::read(e, engine, control_port, inner),
            id,
            replicas,
            per_host: number("replicas-per-host").unwrap_or(1).max(1),
            promoted_max,
            inner,
            interface: from_network("host-interface"),
            netmask: from_network("host-netmask"),
            first_address,
        })
    }

    fn address(&self, number: u32) -> Option<String> {
        let first = u32::from(self.first_address?);
        Some(Ipv4Addr::from(first.wrapping_add(number)).to_string())
    }

    /// Writes the replicas and the clone into the bundle.
    pub(super) fn write(&self, doc: &mut Document) {
        let hosts: Vec<(String, String)> = (0..self.replicas)
            .filter_map(|n| Some((format!("{}-{n}", self.id), self.address(n)?)))
            .collect();
        for number in 0..self.replicas {
            let name = format!("{}-{number}", self.id);
            let replica = Replica {
                bundle: &self.id,
                number,
                name: &name,
                address: self.address(number),
                hosts: &hosts,
            };
            let holder = doc.create(self.element, REPLICA);
            doc.set(holder, "id", &name);
            doc.set(holder, MARK, "true");
            if let Some(address) = &replica.address {
                let (interface, netmask) = (self.interface.as_deref(), self.netmask.as_deref());
                Container::address(&self.id, address, interface, netmask).write(doc, holder);
            }
            self.container.primitive(&replica).write(doc, holder);
            if self.inner {
                self.container.connection(&replica).write(doc, holder);
            }
        }
        if self.inner {
            self.write_clone(doc);
        }
    }

    fn write_clone(&self, doc: &mut Document) {
        let kind = if self.promoted_max.is_some() { "master" } else { "clone" };
        let id = format!("{}-{kind}", self.id);
        let clone = doc.create(self.element, "clone");
        doc.set(clone, "id", &id);
        doc.set(clone, MARK, "true");
        let mut meta = vec![
            ("ordered", "true".to_owned()),
            ("clone-max", self.replicas.to_string()),
            ("clone-node-max", self.per_host.to_string()),
            ("globally-unique", (self.per_host > 1).to_string()),
        ];
        if let Some(max) = self.promoted_max {
            meta.push(("promotable", "true".to_owned()));
            meta.push(("promoted-max", max.to_string()));
        }
        write_pairs(doc, clone, "meta_attributes", &id, &meta);
        let original = doc.clone();
        let inner = original.element(self.element).child("primitive");
        if let Some(inner) = inner {
            doc.copy(clone, None, inner);
        }
    }
}
