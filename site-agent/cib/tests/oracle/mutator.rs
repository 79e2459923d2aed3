//! A seeded mutator of CIBs.

use tierce_cib::xml::{Document, Element, NodeId};

/// `SplitMix64`: a small generator whose runs can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn word<'a>(&mut self, from: &'a [impl AsRef<str>]) -> &'a str {
        self.pick(from).as_ref()
    }
}

/// Values that are wrong in some places and right in others.
const VALUES: &[&str] = &[
    "",
    " ",
    "x",
    "1",
    "-1",
    "+1",
    "0",
    "-0",
    "1.5",
    "true",
    "false",
    "True",
    "yes",
    "INFINITY",
    "-INFINITY",
    "+INFINITY",
    "infinity",
    " 5 ",
    "start",
    "stop",
    "promote",
    "Started",
    "Stopped",
    "Promoted",
    "Unpromoted",
    "Master",
    "Slave",
    "Optional",
    "Mandatory",
    "Serialize",
    "ocf",
    "lsb",
    "stonith",
    "systemd",
    "nagios",
    "demote",
    "fence",
    "freeze",
    "block",
    "restart-container",
    "always",
    "exclusive",
    "and",
    "or",
    "eq",
    "defined",
    "gt",
    "lt",
    "in_range",
    "date_spec",
    "integer",
    "number",
    "version",
    "member",
    "remote",
    "a,b",
    "a,,b",
    "80-90",
    "80",
    "1a",
    "a:b",
    "-a",
    "ä",
    "group",
    "listed",
    "read",
    "literal",
    "param",
    "requires",
    "isolation",
    "pcmk_arg_map",
    "stonith_enabled",
    "cluster-infrastructure",
    "cman",
    "timeout",
    "pacemaker-3.7",
    "none",
];

/// Elements of the document, without the status and what is in it if so wished.
fn elements(doc: &Document, with_status: bool) -> Vec<NodeId> {
    let in_status = |element: Element<'_>| {
        std::iter::successors(Some(element), |at| at.parent()).any(|at| at.name() == "status")
    };
    let all = doc.root().descendants();
    all.filter(|e| with_status || !in_status(*e)).map(Element::node_id).collect()
}

/// Makes one change.
pub(crate) fn mutate(doc: &mut Document, random: &mut Random, names: &Names, with_status: bool) {
    let all = elements(doc, with_status);
    if all.is_empty() {
        return;
    }
    let id = *random.pick(&all);
    let attrs: Vec<(String, String)> =
        doc.element(id).attrs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    match random.below(9) {
        0 if !attrs.is_empty() => {
            doc.unset(id, &random.pick(&attrs).0);
        }
        1 if !attrs.is_empty() => {
            let (name, value) = random.pick(&attrs).clone();
            doc.unset(id, &name);
            doc.set(id, random.word(&names.attributes), &value);
        }
        2 | 3 if !attrs.is_empty() => {
            let name = random.pick(&attrs).0.clone();
            doc.set(id, &name, random.word(VALUES));
        }
        4 => doc.set(id, random.word(&names.attributes), random.word(VALUES)),
        5 => doc.remove(id),
        6 => {
            let copy = doc.clone();
            let parent = copy.element(id).parent().unwrap_or(copy.root());
            let new = doc.copy(parent.node_id(), Some(id), copy.element(id));
            if random.below(2) == 0 {
                rename_ids(doc, new, random);
            }
        }
        7 => {
            let name = random.word(&names.elements).to_owned();
            let new = doc.create(id, &name);
            doc.set(new, "id", &format!("new-{}", random.below(1000)));
        }
        _ => {
            let siblings: Vec<NodeId> = doc
                .element(id)
                .parent()
                .map(|parent| parent.children().map(Element::node_id).collect())
                .unwrap_or_default();
            let parent = doc.element(id).parent().map_or(id, Element::node_id);
            if siblings.len() > 1 {
                doc.relocate(id, parent, Some(*random.pick(&siblings)));
            }
        }
    }
}

fn rename_ids(doc: &mut Document, top: NodeId, random: &mut Random) {
    let number = random.below(100_000);
    let mut ids = vec![top];
    ids.extend(doc.element(top).descendants().map(Element::node_id));
    for id in ids {
        if let Some(old) = doc.element(id).id().map(str::to_owned) {
            doc.set(id, "id", &format!("{old}-{number}"));
        }
    }
}

/// The names that a document uses.
pub(crate) struct Names {
    pub(crate) elements: Vec<String>,
    pub(crate) attributes: Vec<String>,
}

impl Names {
    pub(crate) fn of(doc: &Document) -> Names {
        let mut names =
            Names { elements: vec!["foo".to_owned()], attributes: vec!["foo".to_owned()] };
        for element in doc.root().descendants() {
            if !names.elements.iter().any(|name| name == element.name()) {
                names.elements.push(element.name().to_owned());
            }
            for (attribute, _) in element.attrs() {
                if !names.attributes.iter().any(|name| name == attribute) {
                    names.attributes.push(attribute.to_owned());
                }
            }
        }
        names
    }
}
