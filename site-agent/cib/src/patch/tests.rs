use super::*;
use crate::canonical;
use crate::xml::{Document, Element};

fn cib(epoch: u32, inside: &str) -> Document {
    let text = format!("<cib admin_epoch='0' epoch='{epoch}' num_updates='0'>{inside}</cib>");
    Document::parse(text).unwrap()
}

/// Both ways through a patch; the patch.
fn there(before: &str, after: &str) -> String {
    let (old, new) = (cib(1, before), cib(2, after));
    let patch = make(&old, &new).unwrap();
    let read = Document::parse(patch.write()).unwrap();
    let result = apply(&old, &read).unwrap_or_else(|error| panic!("{error}\n{}", patch.write()));
    assert_eq!(canonical::text(result.root()), canonical::text(new.root()), "{}", patch.write());
    patch.write()
}

#[test]
fn a_patch_makes_the_new_of_the_old() {
    for (before, after) in [
        ("<a id='1'/><a id='2'/><a id='3'/>", "<a id='3'/><a id='4'/><a id='1'/>"),
        ("<a><b id='1' x='1' y='2'/></a>", "<a><b id='1' y='3' z='1'/></a>"),
        ("<a id='1' x='1' y='2'/>", "<a id='1' y='2' x='1'/>"),
        ("<a><x/><x/></a>", "<a><x/><x y='1'/></a>"),
        ("<a id='1'><r id-ref='p'/><r id='q'/></a><b/>", "<b/><a id='1'><r id='q'/></a>"),
        ("<!--a--><x id='1'/><!--b-->", "<x id='1'/><!--b--><y/><!--c-->"),
        ("<x id='1'/><!--q--><x id='2'/>", "<x id='2'/><!--q--><x id='1'/>"),
        ("<x><a id='it&apos;s'/></x>", "<x><a id='it&apos;s' b='1'/></x>"),
        ("<x/>", ""),
        ("", "<x><y/><!--z--></x>"),
    ] {
        there(before, after);
        there(after, before);
    }
}

#[test]
fn a_patch_says_no_more_than_what_changed() {
    let patch = there("<a><b id='1' x='1'/><b id='2'/></a>", "<a><b id='1' x='2'/><b id='2'/></a>");
    assert_eq!(patch.matches("<change ").count(), 2, "the root's epoch and the element: {patch}");
    assert!(patch.contains("path=\"/cib/a/b[@id='1']\""), "{patch}");
    assert!(patch.contains("<change-attr name=\"x\" operation=\"set\" value=\"2\"/>"), "{patch}");
    let patch = there("<a id='1'/><a id='2'/><a id='3'/>", "<a id='3'/><a id='1'/><a id='2'/>");
    assert_eq!(patch.matches("operation=\"move\"").count(), 1, "{patch}");
}

#[test]
fn a_patch_for_another_cib_is_refused() {
    let (old, new) = (cib(1, "<a id='1'/>"), cib(2, "<a id='1' x='1'/>"));
    let patch = make(&old, &new).unwrap();
    let other = apply(&cib(3, "<a id='1'/>"), &patch).unwrap_err();
    assert!(matches!(other, ApplyError::Source { .. }), "{other}");
    let other = apply(&cib(1, "<a id='2'/>"), &patch).unwrap_err();
    assert!(matches!(other, ApplyError::NotFound { .. }), "{other}");
    let other = apply(&cib(1, "<a id='1'/><b/>"), &patch).unwrap_err();
    assert!(matches!(other, ApplyError::Digest { .. }), "{other}");
}

#[test]
fn malformed_patches_are_refused_with_the_line() {
    for (text, want) in [
        ("<diff><change/></diff>", "format 1"),
        ("<x/>", "no patch"),
        ("<diff format='2'>\n<change operation='delete'/></diff>", "line 2: a change without path"),
        ("<diff format='2'><change operation='delete' path='/cib'/></diff>", "deletes the root"),
        ("<diff format='2'><change operation='x' path='/cib'/></diff>", "operation \"x\""),
        (
            "<diff format='2'><change operation='move' path='/cib/a' position='-1'/></diff>",
            "position",
        ),
        ("<diff format='2'><change operation='create' path='/cib'/></diff>", "nothing to create"),
        ("<diff format='2'><change operation='delete' path='cib'/></diff>", "not in the CIB"),
        ("<diff format='2'><change operation='modify' path='/cib'/></diff>", "change-list"),
        (
            "<diff format='2'><change operation='modify' path='/cib'><change-list>
             <change-attr name='a b' operation='set' value=''/></change-list></change></diff>",
            "without a name",
        ),
    ] {
        let patch = Document::parse(text).unwrap();
        let error = apply(&cib(1, "<a id='1'/>"), &patch).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn positions_are_those_at_the_end_whatever_the_way_there() {
    let moved = |changes: &[(&str, usize)]| {
        let changes: Vec<String> = changes
            .iter()
            .map(|(id, position)| {
                let path = format!("/cib/a[@id=&apos;{id}&apos;]");
                format!("<change operation='move' path='{path}' position='{position}'/>")
            })
            .collect();
        let patch = format!("<diff format='2'>{}</diff>", changes.concat());
        let old = cib(1, "<a id='1'/><a id='2'/><a id='3'/><a id='4'/>");
        let result = apply(&old, &Document::parse(patch).unwrap()).unwrap();
        let ids: Vec<_> =
            result.root().children().filter_map(Element::id).map(str::to_owned).collect();
        ids.concat()
    };
    // As crm_diff does it.
    assert_eq!(moved(&[("1", 2)]), "2314");
    assert_eq!(moved(&[("1", 3), ("4", 0)]), "4231");
    assert_eq!(moved(&[("1", 2), ("2", 2)]), "3421");
}
