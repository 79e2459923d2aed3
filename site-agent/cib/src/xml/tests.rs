use super::*;

const CIB: &str = "<?xml version='1.0'?>
<!-- ours -->
<cib epoch='3'  admin_epoch=\"0\">
  <configuration>
    <!-- by hand -->
    <nodes>
      <node id=\"1\" uname='a &amp; b'/>
      <node id=\"2\" uname=\"two\"   />
    </nodes>
    <resources/>
  </configuration>
</cib>
";

fn find<'a>(doc: &'a Document, name: &str) -> Element<'a> {
    doc.root().descendants().find(|element| element.name() == name).expect("it is there")
}

#[test]
fn what_is_not_edited_comes_back_byte_for_byte() {
    assert_eq!(Document::parse(CIB).unwrap().write(), CIB);
}

#[test]
fn values_are_decoded_and_lines_known() {
    let doc = Document::parse(CIB).unwrap();
    let node = find(&doc, "node");
    assert_eq!(node.attr("uname"), Some("a & b"));
    assert_eq!(node.line(), 7);
    assert_eq!(node.parent().map(Element::name), Some("nodes"));
    let odd = Document::parse("<a b='x\ty\r\nz&#10;&#x41;'/>").unwrap();
    assert_eq!(odd.root().attr("b"), Some("x y z\nA"));
}

#[test]
fn an_edit_changes_only_its_own_lines() {
    let mut doc = Document::parse(CIB).unwrap();
    let root = doc.root().node_id();
    doc.set(root, "epoch", "4");
    let resources = find(&doc, "resources").node_id();
    let primitive = doc.create(resources, "primitive");
    doc.set(primitive, "id", "a\"<b");
    doc.create(primitive, "operations");
    let nodes = find(&doc, "nodes").node_id();
    let second = doc.root().descendants().find(|e| e.id() == Some("2")).unwrap().node_id();
    doc.remove(second);
    let third = doc.create(nodes, "node");
    doc.set(third, "id", "3");
    let want = CIB
        .replace("epoch='3'  admin", "epoch=\"4\" admin")
        .replace("\n      <node id=\"2\" uname=\"two\"   />", "\n      <node id=\"3\"/>")
        .replace(
            "<resources/>",
            "<resources>
      <primitive id=\"a&quot;&lt;b\">
        <operations/>
      </primitive>
    </resources>",
        );
    assert_eq!(doc.write(), want);
    assert_eq!(Document::parse(want).unwrap().root().descendants().count(), 7);
}

#[test]
fn a_new_document_is_indented() {
    let mut doc = Document::new("cib");
    let root = doc.root().node_id();
    let status = doc.create(root, "status");
    doc.set(status, "a", "1");
    let first = doc.create(status, "x");
    doc.create_before(status, Some(first), "y");
    assert_eq!(doc.write(), "<cib>\n  <status a=\"1\">\n    <y/>\n    <x/>\n  </status>\n</cib>\n");
    doc.remove(status);
    assert_eq!(doc.write(), "<cib/>\n");
}

#[test]
fn attributes_are_replaced_taken_away_and_added_in_any_order() {
    let mut doc = Document::parse("<a x='1' y='2' z='3'><b q='&lt;'/></a>").unwrap();
    let (a, b) = (doc.root().node_id(), find(&doc, "b").node_id());
    doc.set(b, "r", "1");
    doc.set(a, "w", "4");
    doc.set(b, "s", "2");
    assert!(doc.unset(a, "y"));
    assert!(!doc.unset(a, "y"));
    doc.set(a, "v", "5");
    doc.set(a, "w", "6");
    doc.set(b, "q", "long enough");
    assert_eq!(
        doc.write(),
        "<a x=\"1\" z=\"3\" w=\"6\" v=\"5\"><b q=\"long enough\" r=\"1\" s=\"2\"/></a>"
    );
}

#[test]
fn moving_keeps_what_stands_inside() {
    let mut doc = Document::parse("<a>\n <b>\n  <!--x-->\n </b>\n <c/>\n</a>").unwrap();
    let (a, b, c) = (doc.root().node_id(), find(&doc, "b").node_id(), find(&doc, "c").node_id());
    doc.relocate(b, a, None);
    assert_eq!(doc.write(), "<a>\n <c/>\n <b>\n  <!--x-->\n </b>\n</a>");
    doc.relocate(c, b, None);
    let again = Document::parse(doc.write()).unwrap();
    assert_eq!(find(&again, "c").parent().map(Element::name), Some("b"));
}

#[test]
fn what_is_wrong_is_said_with_line_and_column() {
    let cases = [
        ("<a>\n  <b c='1' c='2'/></a>", 2, 12, "attribute c is given twice"),
        ("<a>\n</b>", 2, 1, "</b> where </a> is needed (it was opened on line 1)"),
        ("<a", 1, 3, "the text ends inside the tag <a"),
        ("<a><b>", 1, 7, "the text ends inside <b>"),
        ("<a b=1/>", 1, 6, "expected a quoted value"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a/>", 1, 1, "DOCTYPE"),
        ("<a b='&x;'/>", 1, 7, "unknown entity &x;"),
        ("<a b='&#0;'/>", 1, 7, "&#0; is no character"),
        ("<a b='&#+65;'/>", 1, 7, "&#+65; is no character"),
        ("<a b='x&y'/>", 1, 8, "'&' begins no reference"),
        ("<a b='\u{1}'/>", 1, 7, "U+0001"),
        ("<a/><b/>", 1, 5, "outside of the root"),
        ("<a/>x", 1, 6, "outside of the root"),
        ("", 1, 1, "no element"),
        ("<?xml version='1.0' encoding='latin1'?><a/>", 1, 1, "iconv"),
        ("<a b='1'c='2'/>", 1, 9, "expected a blank"),
        ("<a><!-- -- --></a>", 1, 9, "no -- within"),
        ("<1/>", 1, 2, "expected the name of an element"),
    ];
    for (text, line, column, reason) in cases {
        let error = Document::parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.reason.to_string().contains(reason), "{text}: {error}");
    }
}

#[test]
fn nesting_and_attributes_are_bounded() {
    let deep = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
    assert!(Document::parse(deep(limits::MAX_DEPTH)).is_ok());
    let error = Document::parse(deep(limits::MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error.reason, Reason::TooDeep);
    let wide = |n: usize| {
        let attrs: Vec<String> = (0..n).map(|i| format!("a{i}=''")).collect();
        format!("<a {}/>", attrs.join(" "))
    };
    assert!(Document::parse(wide(limits::MAX_ATTRIBUTES)).is_ok());
    let error = Document::parse(wide(limits::MAX_ATTRIBUTES + 1)).unwrap_err();
    assert_eq!(error.reason, Reason::TooManyAttributes("a".to_owned()));
}

#[test]
fn character_data_is_kept_and_told() {
    let text = "<a> <b>x &amp; y</b><c><![CDATA[<]]></c><?p i?></a>";
    let mut doc = Document::parse(text).unwrap();
    assert!(!doc.root().has_text() && find(&doc, "b").has_text() && find(&doc, "c").has_text());
    let b = find(&doc, "b").node_id();
    doc.set(b, "id", "1");
    assert_eq!(doc.write(), text.replace("<b>", "<b id=\"1\">"));
}

#[test]
fn no_value_leaves_its_quotes_and_none_has_what_xml_can_not_carry() {
    let escaped = escaped("a<b>&\"c\n\t\u{1b}\u{0}\u{ffff}ü\u{fffe}x\u{f000}");
    assert_eq!(
        escaped,
        "a&lt;b&gt;&amp;&quot;c&#10;&#9;\u{fffd}\u{fffd}\u{fffd}ü\u{fffd}x\u{f000}"
    );
    let doc = Document::parse(format!("<a b=\"{escaped}\"/>")).unwrap();
    assert_eq!(
        doc.root().attr("b"),
        Some("a<b>&\"c\n\t\u{fffd}\u{fffd}\u{fffd}ü\u{fffd}x\u{f000}")
    );
}
