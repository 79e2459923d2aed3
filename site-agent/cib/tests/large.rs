//! A large CIB: what it costs in memory, and that single changes stay single.

use std::fmt::Write as _;
use tierce_cib::version::{Change, Version};
use tierce_cib::xml::{Document, Element};
use tierce_cib::{canonical, patch};
use tierce_tests::memory::{Counting, peak};

#[global_allocator]
static COUNTING: Counting = Counting;

/// A status as a cluster has it: each resource once on each node, with its last operation.
fn cib(nodes: usize, resources: usize) -> String {
    let mut text = String::from(
        "<cib validate-with=\"pacemaker-3.9\" admin_epoch=\"0\" epoch=\"5\" num_updates=\"9\">\n\
         <configuration><crm_config/><nodes/><resources/><constraints/></configuration>\n<status>\n",
    );
    for node in 0..nodes {
        let _ = writeln!(
            text,
            "<node_state id=\"{node}\" uname=\"n{node}\" in_ccm=\"true\" crmd=\"online\" join=\"member\">\
             <lrm id=\"{node}\"><lrm_resources>"
        );
        for resource in 0..resources {
            let _ = writeln!(
                text,
                "<lrm_resource id=\"r{resource}\" class=\"ocf\" provider=\"pacemaker\" type=\"Dummy\">\
                 <lrm_rsc_op id=\"r{resource}_last_0\" operation_key=\"r{resource}_monitor_0\" \
                 operation=\"monitor\" crm-debug-origin=\"do_update_resource\" crm_feature_set=\"3.16.1\" \
                 transition-key=\"{resource}:0:7:5e1f0c4e-7a4c-4a5c-8a2b-0f9f5b5c0a11\" \
                 transition-magic=\"0:7;{resource}:0:7:5e1f0c4e-7a4c-4a5c-8a2b-0f9f5b5c0a11\" \
                 call-id=\"{resource}\" rc-code=\"7\" op-status=\"0\" interval=\"0\" \
                 last-rc-change=\"1700000000\" exec-time=\"10\" queue-time=\"0\" \
                 op-digest=\"f2317cad3d54cec5d7d7aa7d0bf35cf8\"/></lrm_resource>"
            );
        }
        text.push_str("</lrm_resources></lrm></node_state>\n");
    }
    text + "</status></cib>\n"
}

#[test]
fn text_and_index_take_less_than_two_and_a_half_times_the_text() {
    let text = cib(20, 500);
    let size = text.len();
    // Beside the text itself, which is given away.
    let (doc, used) = peak(|| Document::parse(text));
    let doc = doc.expect("it is well formed");
    assert!(size > 4 << 20, "{size}");
    assert!(used < size + size / 2, "{used} bytes beside {size} of text");
    assert!(doc.index_bytes() < size, "{} for {size}", doc.index_bytes());
}

#[test]
fn one_change_among_many_elements_is_a_patch_of_one_change() {
    let old = Document::parse(cib(8, 200)).expect("it is well formed");
    let mut new = old.clone();
    let op = old.root().descendants().filter(|op| op.name() == "lrm_rsc_op").nth(999);
    new.set(op.map(Element::node_id).expect("it is there"), "rc-code", "0");
    Version::of(old.root()).expect("a version").bumped(Change::Status).set(&mut new);
    let patch = patch::make(&old, &new).expect("a patch");
    assert_eq!(patch.root().children_named("change").count(), 2);
    let result = patch::apply(&old, &patch).expect("it is applied");
    assert_eq!(canonical::text(result.root()), canonical::text(new.root()));
    // Of what is written anew, only the two tags are spelled anew.
    let (before, after) = (old.write(), result.write());
    let differing = before.lines().zip(after.lines()).filter(|(a, b)| a != b).count();
    assert_eq!((before.lines().count(), differing), (after.lines().count(), 2));
}
