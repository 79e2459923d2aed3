//! The parts of a bundle from its element.

use std::collections::HashMap;

use tierce_cib::xml::Element;

use crate::Error;
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::implied::{REPLICA, is_implied};
use crate::model::{Discover, Kind, Replica};
use crate::row::Cause;

/// How much an instance wants to be in its replica.
const AT_HOME: i32 = 500;

impl<'a> Cluster<'a> {
    /// Makes the replicas and the clone.
    pub(crate) fn make_replicas(
        &mut self,
        bundle: RscIx,
        templates: &HashMap<&'a str, Element<'a>>,
    ) -> Result<(), Error> {
        let xml = self.rscs[bundle].xml;
        for holder in xml.children_named(REPLICA) {
            let (mut ip, mut container, mut remote) = (None, None, None);
            for part in holder.children_named("primitive") {
                let ix = self.make(part, Some(bundle), None, templates)?;
                if self.rscs[ix].is_connection() {
                    remote = Some(ix);
                } else if self.rscs[ix].agent == "IPaddr2" {
                    ip = Some(ix);
                } else {
                    container = Some(ix);
                }
            }
            if let Some(container) = container {
                let replica = Replica { ip, container, remote, child: None, node: None };
                self.rscs[bundle].replicas.push(replica);
            }
        }
        let inner = xml.children_named("clone").find(|c| is_implied(*c));
        if let Some(clone) = inner {
            let clone = self.make(clone, Some(bundle), None, templates)?;
            self.rscs[bundle].inner = Some(clone);
            let (interleave, promotable) =
                (self.rscs[clone].interleave, self.rscs[clone].promotable);
            let r = &mut self.rscs[bundle];
            (r.interleave, r.promotable) = (interleave, promotable);
            for (n, instance) in self.rscs[clone].children.clone().into_iter().enumerate() {
                let Some(replica) = self.rscs[bundle].replicas.get_mut(n) else { continue };
                replica.child = Some(instance);
                // What runs inside takes of the host, as its container.
                let (container, needs) =
                    (replica.container, std::mem::take(&mut self.rscs[instance].utilization));
                self.rscs[container].utilization = needs;
            }
        }
        Ok(())
    }

    /// Ties each replica to the node inside of it.
    pub(crate) fn link_replicas(&mut self) {
        let bundles: Vec<RscIx> =
            self.rscs.keys().filter(|r| self.rscs[*r].kind == Kind::Bundle).collect();
        for bundle in bundles {
            let inner = self.rscs[bundle].inner;
            if let Some(clone) = inner {
                for place in &mut self.rscs[clone].allowed {
                    place.listed = false;
                }
            }
            for n in 0..self.rscs[bundle].replicas.len() {
                let replica = self.rscs[bundle].replicas[n];
                let node = replica.remote.and_then(|r| self.rscs[r].remote_node);
                self.rscs[bundle].replicas[n].node = node;
                let (Some(node), Some(child), Some(clone)) = (node, replica.child, inner) else {
                    continue;
                };
                for place in &mut self.rscs[child].allowed {
                    place.listed = false;
                }
                for (rsc, score) in [(child, AT_HOME), (clone, 0)] {
                    let place = &mut self.rscs[rsc].allowed[node.0 as usize];
                    place.listed = true;
                    place.score = score;
                    place.discover = Discover::Exclusive;
                    self.rscs[rsc].allowed.tell(Cause::Inside);
                }
            }
        }
    }
}
