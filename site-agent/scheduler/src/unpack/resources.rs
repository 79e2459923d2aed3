//! Resources: the tree of primitives, groups, clones with their instances, templates applied.
//!
//! Meta-attributes are taken in this order: the resource's own, its template's, its collective's, `rsc_defaults`.
//! Instances of a clone are resources of their own that share the element they are made of.

use std::cmp::Reverse;
use std::collections::HashMap;

use tierce_cib::nvset::Pairs;
use tierce_cib::rules::{Agent, Situation};
use tierce_cib::values::{self, INFINITY};
use tierce_cib::xml::Element;

use crate::Error;
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{
    Discover, Kind, MultipleActive, OpConfig, Place, Requires, Resource, Role, Row,
};
use crate::row::Cause;

/// More instances than this are refused: each costs memory, and a typing error must not take all of it.
const MAX_INSTANCES: i64 = 10_000;

impl<'a> Cluster<'a> {
    pub(super) fn unpack_resources(
        &mut self,
        configuration: Option<Element<'a>>,
    ) -> Result<(), Error> {
        let Some(section) = configuration.and_then(|c| c.child("resources")) else { return Ok(()) };
        self.unfencing = section.descendants().any(|e| {
            e.attr("class") == Some("stonith")
                && crate::implied::own_meta(e, "provides") == Some("unfencing")
        });
        for t in section.children_named("template") {
            if let Some(id) = t.id() {
                self.templates.entry(id).or_default();
            }
        }
        let templates: HashMap<&'a str, Element<'a>> =
            section.children_named("template").filter_map(|t| t.id().map(|id| (id, t))).collect();
        for xml in section.children() {
            match xml.name() {
                "primitive" | "group" | "clone" | "master" | "bundle" => {
                    let rsc = self.make(xml, None, None, &templates)?;
                    self.top.push(rsc);
                }
                _ => {}
            }
        }
        let rscs = &self.rscs;
        self.top.sort_by_key(|r| Reverse(rscs[*r].priority));
        self.link_remotes();
        Ok(())
    }

    /// Makes a resource and all that is in it.
    pub(crate) fn make(
        &mut self,
        xml: Element<'a>,
        parent: Option<RscIx>,
        instance: Option<u32>,
        templates: &HashMap<&'a str, Element<'a>>,
    ) -> Result<RscIx, Error> {
        let base = xml.id().unwrap_or("");
        let kind = match xml.name() {
            "group" => Kind::Group,
            "clone" | "master" => Kind::Clone,
            "bundle" => Kind::Bundle,
            _ => Kind::Primitive,
        };
        let template = xml.attr("template").and_then(|t| templates.get(t).copied());
        if let Some(name) = xml.attr("template")
            && parent.is_none_or(|p| {
                self.rscs[p].children.is_empty() || self.rscs[p].kind == Kind::Group
            })
            && instance.is_none_or(|i| i == 0)
        {
            self.templates.entry(name).or_default().push(base);
        }
        let attr = |name: &str| {
            xml.attr(name).or_else(|| template.and_then(|t| t.attr(name))).unwrap_or("")
        };
        let mut rsc = Resource::new(base, xml, kind);
        rsc.template = template;
        rsc.parent = parent;
        rsc.instance = instance;
        (rsc.class, rsc.provider, rsc.agent) = (attr("class"), attr("provider"), attr("type"));
        if let Some(n) = instance {
            rsc.id = format!("{base}:{n}");
        }
        self.meta(&mut rsc);
        self.interpret(&mut rsc, xml.name() == "master");
        self.operations(&mut rsc);
        rsc.allowed = self.empty_row();
        if kind == Kind::Primitive {
            let mut needs = Pairs::default();
            for holder in [Some(xml), template].into_iter().flatten() {
                needs.add(holder.children_named("utilization"), &self.ids, &self.situation());
            }
            for (name, value) in needs.iter() {
                rsc.utilization.insert(name, values::leading_integer(value).unwrap_or(0));
            }
            self.has_fencing |= rsc.fence_device;
        }
        let id = rsc.id.clone();
        let ix = self.rscs.push(rsc);
        self.rsc_actions.push(Vec::new());
        self.rsc_by_id.insert(id, ix);
        if let Some(p) = parent {
            self.rscs[p].children.push(ix);
        }
        match kind {
            Kind::Group => {
                for child in xml.children_named("primitive") {
                    self.make(child, Some(ix), instance, templates)?;
                }
            }
            Kind::Clone => self.make_instances(ix, templates)?,
            Kind::Bundle => self.make_replicas(ix, templates)?,
            Kind::Primitive => {}
        }
        Ok(ix)
    }

    fn make_instances(
        &mut self,
        clone: RscIx,
        templates: &HashMap<&'a str, Element<'a>>,
    ) -> Result<(), Error> {
        let xml = self.rscs[clone].xml;
        let Some(inner) = xml.children().find(|c| matches!(c.name(), "primitive" | "group")) else {
            return Err(Error::Invalid {
                what: "a clone has nothing inside".into(),
                place: format!("clone id={}", xml.id().unwrap_or("")),
            });
        };
        let plain = |e: Element<'a>| {
            matches!(e.attr("class"), Some("lsb" | "systemd" | "service" | "upstart"))
        };
        if self.rscs[clone].unique && (plain(inner) || inner.children_named("primitive").any(plain))
        {
            // Such agents can not tell instances apart.
            let nodes = self.nodes.len() as u32;
            let r = &mut self.rscs[clone];
            r.unique = false;
            r.clone_node_max = 1;
            r.clone_max = r.clone_max.min(nodes);
        }
        let max = self.rscs[clone].clone_max;
        for n in 0..max.max(1) {
            let instance = self.make(inner, Some(clone), Some(n), templates)?;
            if max == 0 {
                // It is there only so that what still runs has a place.
                let mut all = vec![instance];
                all.extend(self.rscs[instance].children.clone());
                for r in all {
                    self.rscs[r].removed = true;
                }
            }
        }
        let top = self.top_of(clone);
        for e in std::iter::once(inner).chain(inner.children_named("primitive")) {
            if let Some(id) = e.id() {
                self.clone_of.insert(id, top);
            }
        }
        Ok(())
    }

    /// One more instance of a clone, for a history that has no other place.
    pub(super) fn extra_instance(&mut self, clone: RscIx) -> Result<RscIx, Error> {
        let number = self.rscs[clone].children.len() as u32;
        let first = self.rscs[clone].children[0];
        let xml = self.rscs[first].xml;
        let templates = self.template_elements();
        let ix = self.make(xml, Some(clone), Some(number), &templates)?;
        let mut all = vec![ix];
        all.extend(self.rscs[ix].children.clone());
        for r in all {
            self.rscs[r].removed = true;
        }
        Ok(ix)
    }

    fn template_elements(&self) -> HashMap<&'a str, Element<'a>> {
        self.doc
            .root()
            .child("configuration")
            .and_then(|c| c.child("resources"))
            .iter()
            .flat_map(|r| r.children_named("template"))
            .filter_map(|t| t.id().map(|id| (id, t)))
            .collect()
    }

    /// A row in which every node may be used, or none in a cluster that must be asked.
    pub(crate) fn empty_row(&self) -> Row {
        let mut row = Row::of(Place::new(self.options.symmetric), self.nodes.len());
        for node in self.nodes.keys().filter(|n| self.nodes[*n].removed) {
            row[node.0 as usize].listed = false;
        }
        for node in self.nodes.keys().filter(|n| self.nodes[*n].bundled) {
            // Only what a bundle brings runs inside of it.
            row[node.0 as usize].score = -INFINITY;
            row[node.0 as usize].discover = Discover::Never;
        }
        row.tell(Cause::Inside);
        row
    }

    fn meta(&self, rsc: &mut Resource<'a>) {
        let mut meta = Pairs::default();
        let at = Situation {
            agent: (rsc.kind == Kind::Primitive).then(|| rsc.agent()),
            ..self.situation()
        };
        meta.add(rsc.xml.children_named("meta_attributes"), &self.ids, &at);
        if let Some(template) = rsc.template {
            meta.add(template.children_named("meta_attributes"), &self.ids, &at);
        }
        if let Some(parent) = rsc.parent {
            for (name, value) in self.rscs[parent].meta.iter() {
                meta.add_one(name, value);
            }
        }
        if let Some(defaults) = self.rsc_defaults {
            meta.add(defaults.children_named("meta_attributes"), &self.ids, &at);
        }
        if rsc.kind == Kind::Clone {
            meta.add_one("resource-stickiness", "1");
        }
        rsc.meta = meta;
    }

    fn interpret(&self, rsc: &mut Resource<'a>, master: bool) {
        let meta = std::mem::take(&mut rsc.meta);
        let get = |name: &str| meta.get(name);
        let flag =
            |name: &str, default: bool| get(name).and_then(values::boolean).unwrap_or(default);
        let default_managed =
            self.options.raw.get("is-managed-default").and_then(values::boolean).unwrap_or(true);
        rsc.managed = flag("is-managed", default_managed);
        if flag("maintenance", false) || self.options.maintenance {
            rsc.managed = false;
            rsc.maintenance = true;
        }
        rsc.critical = flag("critical", true);
        rsc.priority = get("priority").and_then(values::score).unwrap_or(0);
        rsc.stickiness = get("resource-stickiness").and_then(values::score).unwrap_or(0);
        rsc.migration_threshold = match get("migration-threshold").and_then(values::score) {
            Some(n) if n >= 0 => n,
            _ => INFINITY,
        };
        rsc.failure_timeout = get("failure-timeout")
            .and_then(values::duration_ms)
            .map_or(0, |ms| (ms / 1000).cast_signed());
        rsc.multiple_active = match get("multiple-active") {
            Some("stop_only") => MultipleActive::StopOnly,
            Some("block") => MultipleActive::Block,
            Some("stop_unexpected") => MultipleActive::StopUnexpected,
            _ => MultipleActive::StopStart,
        };
        rsc.stop_unexpected = rsc.multiple_active == MultipleActive::StopUnexpected;
        // A connection to a remote node moves without a stop of all that runs there; that of a guest goes with the guest.
        let remote = rsc.is_connection();
        rsc.allow_migrate = flag("allow-migrate", remote && get("container").is_none());
        rsc.fence_device = rsc.class == "stonith";
        rsc.requires = self.requires(rsc, get("requires"));
        if rsc.kind == Kind::Clone {
            let number = |name: &str, legacy: &str| {
                get(name)
                    .or_else(|| get(legacy))
                    .and_then(values::leading_integer)
                    .map(|n| n.clamp(0, MAX_INSTANCES) as u32)
            };
            rsc.clone_node_max = number("clone-node-max", "clone_node_max").unwrap_or(1);
            rsc.clone_max = number("clone-max", "clone_max").unwrap_or_else(|| {
                let known = self.nodes.keys().filter(|n| {
                    let n = &self.nodes[*n];
                    // The nodes inside of a bundle come with the bundle, if nobody named them before.
                    let here = n.configured || self.rsc_by_id.contains_key(n.name.as_ref());
                    !n.removed && (!n.bundled || here)
                });
                known.count().max(1) as u32
            });
            rsc.clone_min = number("clone-min", "clone-min").unwrap_or(0);
            rsc.unique = flag("globally-unique", rsc.clone_node_max > 1);
            if !rsc.unique {
                rsc.clone_node_max = rsc.clone_node_max.min(1);
            }
            rsc.notify = flag("notify", false);
            rsc.ordered = flag("ordered", false);
            rsc.interleave = flag("interleave", false);
            rsc.promotable = flag("promotable", master);
            rsc.promoted_max = number("promoted-max", "master-max").unwrap_or(1);
            rsc.promoted_node_max = number("promoted-node-max", "master-node-max").unwrap_or(1);
        } else if let Some(p) = rsc.parent {
            let parent = &self.rscs[p];
            rsc.notify = parent.notify;
            rsc.promotable = parent.promotable;
        }
        rsc.target_role = get("target-role").map_or(Role::Unknown, |w| target_role(rsc, w));
        rsc.next_role = rsc.target_role;
        rsc.meta = meta;
    }

    fn requires(&self, rsc: &Resource<'a>, word: Option<&str>) -> Requires {
        let fencing = self.options.fencing_enabled;
        let default = if rsc.fence_device || rsc.is_connection() {
            Requires::Quorum
        } else if fencing && self.unfencing {
            Requires::Unfencing
        } else if fencing {
            Requires::Fencing
        } else {
            Requires::Quorum
        };
        match word.map(str::to_ascii_lowercase).as_deref() {
            Some("nothing") => Requires::Nothing,
            Some("fencing") if fencing && !rsc.fence_device => Requires::Fencing,
            Some("unfencing") if fencing && !rsc.fence_device => Requires::Unfencing,
            Some("quorum" | "fencing" | "unfencing") => Requires::Quorum,
            _ => default,
        }
    }

    fn operations(&self, rsc: &mut Resource<'a>) {
        let mut ops: Vec<OpConfig<'a>> = Vec::new();
        for holder in [Some(rsc.xml), rsc.template].into_iter().flatten() {
            let block = holder.child("operations").and_then(|o| self.ids.resolve(o));
            for raw in block.iter().flat_map(|b| b.children_named("op")) {
                let Some(op) = self.ids.resolve(raw) else { continue };
                let Some(name) = op.attr("name") else { continue };
                let meta = |key: &str| op_word(self, op, key);
                let interval = meta("interval").and_then(values::duration_ms).unwrap_or(0);
                let role = meta("role").and_then(Role::parse);
                let enabled = meta("enabled").is_none_or(|w| values::boolean(w) != Some(false));
                // An own operation takes the place of its template's of that name, for the same kind of role.
                let kind =
                    |r: Option<Role>| r.filter(|r| !matches!(r, Role::Started | Role::Unpromoted));
                let same = |o: &OpConfig<'a>| o.name == name && kind(o.role) == kind(role);
                if holder != rsc.xml && ops.iter().any(same) {
                    continue;
                }
                ops.push(OpConfig { xml: op, name, interval, role, enabled });
            }
        }
        rsc.ops = ops;
    }

    fn link_remotes(&mut self) {
        let all: Vec<RscIx> = self.rscs.keys().collect();
        for ix in all {
            let r = &self.rscs[ix];
            if r.kind != Kind::Primitive || r.instance.is_some_and(|n| n > 0) {
                continue;
            }
            let container = r.meta.get("container").and_then(|c| self.rsc_by_id.get(c));
            if let Some(container) = container.copied().filter(|c| *c != ix) {
                self.rscs[ix].container = Some(container);
                self.rscs[container].fillers.push(ix);
            }
            let r = &self.rscs[ix];
            if r.is_connection()
                && let Some(node) = self.node_by_name.get(r.base).copied()
            {
                self.rscs[ix].remote_node = Some(node);
                self.nodes[node].connection = Some(ix);
            }
        }
        self.link_replicas();
    }
}

/// A word of an operation: an attribute, or a meta-attribute of it.
pub(super) fn op_word<'a>(cluster: &Cluster<'a>, op: Element<'a>, key: &str) -> Option<&'a str> {
    op.attr(key)
        .or_else(|| Pairs::of(op, "meta_attributes", &cluster.ids, &cluster.situation()).get(key))
}

impl<'a> Resource<'a> {
    /// Its agent, for rules.
    pub(crate) fn agent(&self) -> Agent<'a> {
        let provider = (!self.provider.is_empty()).then_some(self.provider);
        Agent { class: self.class, provider, kind: self.agent }
    }

    /// Whether it is the connection to a remote executor.
    pub(crate) fn is_connection(&self) -> bool {
        self.class == "ocf" && self.provider == "pacemaker" && self.agent == "remote"
    }

    /// A resource before its meta-attributes are known.
    pub(super) fn new(base: &'a str, xml: Element<'a>, kind: Kind) -> Self {
        Self {
            id: base.to_owned(),
            base,
            xml,
            template: None,
            kind,
            parent: None,
            children: Vec::new(),
            instance: None,
            class: "",
            provider: "",
            agent: "",
            meta: Pairs::default(),
            ops: Vec::new(),
            managed: true,
            removed: false,
            blocked: false,
            maintenance: false,
            failed: false,
            failure_ignored: false,
            demote_only: false,
            stop_failed: false,
            start_pending: false,
            pending: None,
            reload: false,
            restart: None,
            reload_on: None,
            stop_unexpected: false,
            critical: true,
            allow_migrate: false,
            unique: false,
            notify: false,
            ordered: false,
            interleave: false,
            promotable: false,
            fence_device: false,
            requires: Requires::Nothing,
            priority: 0,
            stickiness: 0,
            migration_threshold: INFINITY,
            failure_timeout: 0,
            multiple_active: MultipleActive::StopStart,
            clone_max: 0,
            clone_node_max: 1,
            clone_min: 0,
            promoted_max: 0,
            promoted_node_max: 0,
            utilization: HashMap::new(),
            container: None,
            fillers: Vec::new(),
            remote_node: None,
            exclusive_discover: false,
            replicas: Vec::new(),
            inner: None,
            lock: None,
            role: Role::Stopped,
            next_role: Role::Unknown,
            target_role: Role::Unknown,
            next_role_reason: None,
            running_on: Vec::new(),
            known_on: Vec::new(),
            partial: None,
            dangling: Vec::new(),
            history: Vec::new(),
            history_name: None,
            allowed: Row::default(),
            choice: None,
            promotion: None,
            provisional: true,
            assigning: false,
            merging: false,
            assigned: None,
            assigned_all: Vec::new(),
            sort_weight: 0,
            migrating: false,
            locations: Vec::new(),
            this_with: Vec::new(),
            with_this: Vec::new(),
            tickets: Vec::new(),
        }
    }
}

/// The role that `target-role` limits a resource to; `Unknown` if it does not limit.
fn target_role(rsc: &Resource<'_>, word: &str) -> Role {
    match Role::parse(word) {
        None | Some(Role::Started) => Role::Unknown,
        Some(role) if role >= Role::Unpromoted && !rsc.promotable => Role::Unknown,
        Some(role) => role,
    }
}
