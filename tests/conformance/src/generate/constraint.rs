//! Constraints between what there is, and the tickets that they name.

use std::fmt::Write as _;

use super::Tier;
use super::shape::{Cluster, Resource};
use crate::draw::Draw;

/// Writes constraints; gives the tickets named in them.
pub(super) fn draw(d: &mut Draw, tier: Tier, cluster: &Cluster, out: &mut String) -> Vec<String> {
    let of: Vec<&Resource> = cluster.resources.iter().filter(|r| !r.is_fencing()).collect();
    let mut writer = Writer { d, tier, cluster, of: &of, out, count: 0, tickets: Vec::new() };
    for _ in 0..writer.d.between(0, of.len() + 1) {
        match writer.d.weighted(&[(40, 'l'), (25, 'c'), (25, 'o'), (10, 't')]) {
            'l' => writer.location(),
            'c' => writer.colocation(),
            'o' => writer.order(),
            _ => writer.ticket(),
        }
    }
    if tier.0 >= 3 && writer.d.percent(12) {
        writer.sets();
    }
    writer.tickets
}

struct Writer<'a> {
    d: &'a mut Draw,
    tier: Tier,
    cluster: &'a Cluster,
    of: &'a [&'a Resource],
    out: &'a mut String,
    count: usize,
    tickets: Vec<String>,
}

const SCORES: &[(u64, &str)] = &[
    (30, "INFINITY"),
    (15, "-INFINITY"),
    (20, "100"),
    (10, "1"),
    (10, "-100"),
    (10, "50"),
    (5, "0"),
];

impl<'a> Writer<'a> {
    fn id(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    fn any(&mut self) -> &'a Resource {
        self.of[self.d.below(self.of.len())]
    }

    /// Two that are not the same; `None` where there is only one.
    fn two(&mut self) -> Option<(&'a Resource, &'a Resource)> {
        if self.of.len() < 2 {
            return None;
        }
        let first = self.d.below(self.of.len());
        let step = self.d.between(1, self.of.len() - 1);
        Some((self.of[first], self.of[(first + step) % self.of.len()]))
    }

    fn location(&mut self) {
        let id = self.id("loc");
        let score = self.d.weighted(SCORES);
        let tagged = !self.cluster.tags.is_empty() && self.d.percent(30);
        let r = if tagged { self.cluster.tags[0].0.as_str() } else { self.any().id.as_str() };
        let node = &self.cluster.nodes[self.d.below(self.cluster.nodes.len())].name;
        let _ = match self.d.weighted(&[(70, 'n'), (12, 'u'), (18, 'a')]) {
            'n' => write!(
                self.out,
                r#"<rsc_location id="{id}" rsc="{r}" node="{node}" score="{score}"/>"#
            ),
            'u' => write!(
                self.out,
                r##"<rsc_location id="{id}" rsc="{r}"><rule id="{id}-r" score="{score}"><expression id="{id}-e" attribute="#uname" operation="{}" value="{node}"/></rule></rsc_location>"##,
                self.d.one(&["eq", "ne"]),
            ),
            _ => self.attribute_rule(&id, r, score),
        };
    }

    fn attribute_rule(&mut self, id: &str, r: &str, score: &str) -> std::fmt::Result {
        let expressions: &[(&str, &str, &str)] = &[
            ("zone", "eq", "east"),
            ("zone", "ne", "west"),
            ("zone", "defined", ""),
            ("load", "not_defined", ""),
            ("load", "lt", "10"),
            ("load", "gte", "5"),
        ];
        let two = self.tier.0 >= 3 && self.d.percent(25);
        let join = if two { self.d.one(&[" boolean-op=\"or\"", ""]) } else { "" };
        write!(
            self.out,
            r#"<rsc_location id="{id}" rsc="{r}"><rule id="{id}-r" score="{score}"{join}>"#
        )?;
        for n in 0..=usize::from(two) {
            let (attribute, operation, value) = self.d.one(expressions);
            let value =
                if value.is_empty() { String::new() } else { format!(" value=\"{value}\"") };
            let kind =
                if attribute == "load" && !value.is_empty() { " type=\"number\"" } else { "" };
            write!(
                self.out,
                r#"<expression id="{id}-e{n}" attribute="{attribute}" operation="{operation}"{value}{kind}/>"#
            )?;
        }
        write!(self.out, "</rule></rsc_location>")
    }

    fn colocation(&mut self) {
        let Some((r, with)) = self.two() else { return };
        let id = self.id("col");
        let score = self.d.weighted(SCORES);
        let mut roles = String::new();
        if with.is_promotable() && self.d.percent(60) {
            roles.push_str(r#" with-rsc-role="Promoted""#);
        }
        if r.is_promotable() && self.d.percent(40) {
            roles.push_str(r#" rsc-role="Promoted""#);
        }
        let _ = write!(
            self.out,
            r#"<rsc_colocation id="{id}" rsc="{}" with-rsc="{}" score="{score}"{roles}/>"#,
            r.id, with.id
        );
    }

    fn order(&mut self) {
        let Some((first, then)) = self.two() else { return };
        let id = self.id("ord");
        let kind = self.d.weighted(&[(70, "Mandatory"), (25, "Optional"), (5, "Serialize")]);
        let mut more = String::new();
        if kind != "Serialize" && self.d.percent(12) {
            more.push_str(r#" symmetrical="false""#);
        }
        if first.is_promotable() && self.d.percent(50) {
            more.push_str(r#" first-action="promote""#);
            if !then.is_promotable() || self.d.percent(50) {
                more.push_str(r#" then-action="start""#);
            }
        } else if self.d.percent(6) {
            more.push_str(r#" first-action="stop" then-action="start""#);
        }
        let _ = write!(
            self.out,
            r#"<rsc_order id="{id}" first="{}" then="{}" kind="{kind}"{more}/>"#,
            first.id, then.id
        );
    }

    fn ticket(&mut self) {
        let id = self.id("tic");
        let r = self.any();
        let ticket = self.d.one(&["ticketA", "ticketB"]).to_owned();
        let mut more = String::new();
        if self.d.percent(80) {
            let _ = write!(
                more,
                r#" loss-policy="{}""#,
                self.d.one(&["stop", "fence", "freeze", "demote"])
            );
        }
        if r.is_promotable() && self.d.percent(60) {
            more.push_str(r#" rsc-role="Promoted""#);
        }
        let _ =
            write!(self.out, r#"<rsc_ticket id="{id}" rsc="{}" ticket="{ticket}"{more}/>"#, r.id);
        if !self.tickets.contains(&ticket) {
            self.tickets.push(ticket);
        }
    }

    /// One constraint with a set of several.
    fn sets(&mut self) {
        if self.of.len() < 3 {
            return;
        }
        let id = self.id("set");
        let order = self.d.percent(50);
        let tag = if order { "rsc_order" } else { "rsc_colocation" };
        let strength = if order { r#"kind="Mandatory""# } else { r#"score="INFINITY""# };
        let cut = self.d.between(1, self.of.len() - 1);
        let _ = write!(self.out, r#"<{tag} id="{id}" {strength}>"#);
        let parts: [&[&Resource]; 2] = [&self.of[..cut], &self.of[cut..]];
        for (n, part) in parts.into_iter().enumerate() {
            let sequential = self.d.percent(70);
            let _ = write!(self.out, r#"<resource_set id="{id}-{n}" sequential="{sequential}">"#);
            for r in part {
                let _ = write!(self.out, r#"<resource_ref id="{}"/>"#, r.id);
            }
            self.out.push_str("</resource_set>");
        }
        let _ = write!(self.out, "</{tag}>");
    }
}
