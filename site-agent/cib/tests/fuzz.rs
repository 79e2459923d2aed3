//! Hostile input: documents, patches, queries, times.
//!
//! As tests these run for a moment each; `docs/evidence/fuzz.md` tells how to run them for long.

use tierce_cib::ids::Ids;
use tierce_cib::rules::{Agent, Operation, Situation};
use tierce_cib::schema::Schema;
use tierce_cib::time::{Moment, Span};
use tierce_cib::xml::{Document, Element, NodeId};
use tierce_cib::xpath::Query;
use tierce_cib::{canonical, nvset, patch, values, verify, views};
use tierce_tests::fuzz;
use tierce_tests::memory::{Counting, peak};

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a document may take in memory while it is read: the shortest element is four bytes long and
/// a record of some 50, whose arena is made in one piece.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY_FIXED: usize = 64 << 10;

const RICH: &str = include_str!("data/rich.xml");

fn samples() -> Vec<Vec<u8>> {
    let small = [
        "<cib admin_epoch='0' epoch='1' num_updates='0'><a id='1'/><!--c--><b><c/><c/></b></cib>",
        "<?xml version='1.0'?>\n<!--x--><a b=\"&#x41;&lt;\" c='\t'>t<![CDATA[u]]><?p i?></a>\n",
        "<a><rule id='r' boolean-op='or'><expression id='e' attribute='a' operation='lt' value='1' \
         type='version'/><date_expression id='d' operation='in_range' start='2005-W01-1'><duration \
         id='u' months='1'/></date_expression></rule></a>",
    ];
    let mut all = vec![RICH.as_bytes().to_vec()];
    all.extend(small.map(|text| text.as_bytes().to_vec()));
    all
}

/// Reads what is text; only that gets to a parser.
fn read(bytes: Vec<u8>) -> Option<Document> {
    Document::parse(String::from_utf8(bytes).ok()?).ok()
}

#[test]
fn any_text_is_a_document_that_comes_back_byte_for_byte_or_an_error() {
    let samples = samples();
    bolero::check!().for_each(move |bytes| {
        for input in fuzz::inputs(&samples, bytes) {
            let Ok(text) = String::from_utf8(input) else {
                continue;
            };
            let bound = MEMORY_FIXED + MEMORY_PER_BYTE * text.len();
            let (doc, used) = peak(|| Document::parse(text.clone()));
            assert!(used <= bound, "{used} bytes for a text of {}", text.len());
            let Ok(doc) = doc else {
                continue;
            };
            assert_eq!(doc.write(), text);
            let again = Document::parse(doc.root().write()).expect("what is written is read");
            assert_eq!(canonical::text(again.root()), canonical::text(doc.root()));
        }
    });
}

#[test]
fn any_document_can_be_checked_viewed_and_asked() {
    let samples = samples();
    bolero::check!().for_each(move |bytes| {
        for input in fuzz::inputs(&samples, bytes) {
            let Some(doc) = read(input) else {
                continue;
            };
            let _ = verify::verify(&doc);
            let _ = Schema::NEWEST.check(&doc);
            let ids = Ids::of(&doc);
            let look = |_: &str| Some("1.5");
            let at = Situation {
                now: Moment::from_epoch(1_700_000_000, 3600),
                node: Some(&look),
                parameter: Some(&look),
                meta: Some(&look),
                captures: &["x", "y"],
                agent: Some(Agent { class: "ocf", provider: None, kind: "t" }),
                operation: Some(Operation { name: "monitor", interval_ms: 10_000 }),
                ..Situation::default()
            };
            for element in std::iter::once(doc.root()).chain(doc.root().descendants()) {
                let _ = at.holds(element, &ids);
                let _ = nvset::Pairs::of(element, "instance_attributes", &ids, &at);
            }
            for resource in views::resources::resources(&doc, &ids) {
                let _ = (resource.operations(), resource.agent(), resource.children(&ids));
            }
            let _ = views::constraints::constraints(&doc, &ids);
            let _ = views::options::Options::of(&doc, &ids, &at);
        }
    });
}

/// Edits a document as a script of bytes says.
fn edit(doc: &mut Document, script: &[u8]) {
    for step in script.chunks_exact(3).take(32) {
        let all: Vec<NodeId> = doc.root().descendants().map(Element::node_id).collect();
        let Some(node) = all.get(usize::from(step[1]) % all.len().max(1)).copied() else {
            return;
        };
        let other = all[usize::from(step[2]) % all.len()];
        match step[0] % 7 {
            0 => doc.set(node, "id", &step[2].to_string()),
            1 => doc.set(node, "x", "<&'\"\n>"),
            2 => drop(doc.unset(node, "id")),
            3 => doc.remove(node),
            4 => {
                doc.create_before(node, None, if step[2] % 2 == 0 { "a" } else { "b" });
            }
            5 => {
                doc.create_comment(node, None, "--x-");
            }
            _ => {
                let copy = doc.clone();
                doc.copy(other, None, copy.element(node));
            }
        }
    }
}

#[test]
fn edits_are_written_as_they_are_and_patches_lead_from_any_document_to_any() {
    let samples = samples();
    bolero::check!().for_each(move |bytes: &[u8]| {
        let Some((which, script)) = bytes.split_first() else {
            return;
        };
        let sample = samples[usize::from(*which) % samples.len()].clone();
        let Some(old) = read(sample) else {
            return;
        };
        let mut new = old.clone();
        edit(&mut new, script);
        let read = Document::parse(new.write()).expect("what is written is read");
        assert_eq!(canonical::text(read.root()), canonical::text(new.root()));
        let Ok(patch) = patch::make(&old, &new) else {
            return;
        };
        let patch = Document::parse(patch.write()).expect("a patch is read");
        let result = patch::apply(&old, &patch).expect("a patch fits what it was made of");
        assert_eq!(canonical::text(result.root()), canonical::text(new.root()));
    });
}

#[test]
fn any_patch_is_applied_or_refused() {
    let old = Document::parse(RICH).expect("our own");
    let mut new = old.clone();
    edit(&mut new, &[3, 9, 0, 4, 7, 1, 0, 5, 2, 5, 3, 0, 6, 20, 4]);
    let patch = patch::make(&old, &new).expect("a patch").write();
    let samples = vec![
        patch.clone().into_bytes(),
        // Without digest and versions more gets through.
        patch
            .replace("digest=", "d=")
            .replace("<version>", "<v>")
            .replace("</version>", "</v>")
            .into_bytes(),
    ];
    bolero::check!().for_each(move |bytes| {
        for input in fuzz::inputs(&samples, bytes) {
            let Some(patch) = read(input) else {
                continue;
            };
            if let Ok(result) = patch::apply(&old, &patch) {
                let read = Document::parse(result.write()).expect("what is written is read");
                assert_eq!(canonical::text(read.root()), canonical::text(result.root()));
            }
        }
    });
}

#[test]
fn any_text_is_a_value_a_time_or_a_query_or_none() {
    let samples = [
        "2005-020T12:30:00 +01:00",
        "P1Y2M3DT4H5M6S",
        "10 sec",
        "-INFINITY",
        "1e5",
        "0x1f",
        "//a[@id='1' and (b or not(@c))]/d[2]/@e | /x",
    ];
    let samples: Vec<Vec<u8>> = samples.iter().map(|text| text.as_bytes().to_vec()).collect();
    let doc = Document::parse(RICH).expect("our own");
    let now = Moment::from_epoch(1_700_000_000, -5 * 3600).expect("a moment");
    bolero::check!().for_each(move |bytes| {
        for input in fuzz::inputs(&samples, bytes) {
            let Ok(text) = String::from_utf8(input) else {
                continue;
            };
            if let Some(moment) = Moment::parse(&text, now) {
                let span = Span::parse("P1M").expect("a span");
                let _ = moment.plus(&span).map(Moment::fields);
                let shown = moment.to_string();
                assert_eq!(Moment::parse(&shown, now), Some(moment), "{text}: {shown}");
            }
            if let Some(span) = Span::parse(&text) {
                let _ = now.plus(&span);
                let _ = span.nominal_seconds();
            }
            let _ = (values::duration_ms(&text), values::score(&text), values::boolean(&text));
            let _ = (values::leading_integer(&text), values::leading_number(&text));
            if text.len() < 200
                && let Ok(query) = Query::parse(&text)
            {
                let _ = query.find(doc.root());
            }
        }
    });
}
