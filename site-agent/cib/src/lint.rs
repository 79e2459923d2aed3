//! Values that a schema takes as any text, and that will not do what was meant.
//!
//! A date that is none makes its condition false for ever, a misspelt option is an option that nobody
//! reads, and a timeout that is no duration is the default. Pacemaker takes all of them, so they are
//! warnings.

use crate::rules;
use crate::schema::{Problem, Severity};
use crate::time::Moment;
use crate::values;
use crate::views::options::KNOWN;
use crate::words;
use crate::xml::{Document, Element};

/// All such values of a configuration, in the order of the text.
pub fn check(doc: &Document) -> Vec<Problem> {
    let mut problems = Vec::new();
    let configuration = doc.root().child("configuration");
    for element in configuration.into_iter().flat_map(Element::descendants) {
        let mut warn = |what: String, allowed: &str| {
            let problem = Problem::new(element, what, allowed);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        };
        match element.name() {
            "date_expression" => dates(element, &mut warn),
            "duration" if rules::span(element).is_none() => {
                warn("its parts are no whole numbers".to_owned(), "as in hours=\"12\"");
            }
            "date_spec" => ranges(element, &mut warn),
            "op" => durations(element, &["interval", "timeout", "start-delay"], &mut warn),
            "op_expression" => durations(element, &["interval"], &mut warn),
            "nvpair" => option(element, &mut warn),
            _ => {}
        }
    }
    problems
}

fn dates(expression: Element<'_>, warn: &mut dyn FnMut(String, &str)) {
    let Some(now) = Moment::from_epoch(0, 0) else {
        return;
    };
    for name in ["start", "end"] {
        if let Some(text) = expression.attr(name)
            && Moment::parse(text, now).is_none()
        {
            let what = format!("{name}={text:?} is no date: the condition never holds");
            warn(what, "as in 2026-09-24 00:30:00 +01:00, 2026-267 or 2026-W39-4");
        }
    }
}

fn ranges(spec: Element<'_>, warn: &mut dyn FnMut(String, &str)) {
    for (name, range) in spec.attrs().filter(|(name, _)| !matches!(*name, "id" | "moon")) {
        if rules::in_number_range(range, 0).is_none() {
            let what = format!("{name}={range:?} is no range: the condition never holds");
            warn(what, "as in 12, 9-17, 9- or -17");
        }
    }
}

fn durations(op: Element<'_>, names: &[&str], warn: &mut dyn FnMut(String, &str)) {
    for name in names {
        if let Some(text) = op.attr(name)
            && values::duration_ms(text).is_none()
        {
            let what = format!("{name}={text:?} is no duration: the default counts");
            warn(what, "as in 10s, 1min, 500ms or PT5M");
        }
    }
}

/// A cluster option that is nearly, but not quite, one that we know.
fn option(pair: Element<'_>, warn: &mut dyn FnMut(String, &str)) {
    let in_options = pair.parent().is_some_and(|set| set.name() == "cluster_property_set");
    let Some(name) = pair.attr("name").filter(|_| in_options) else {
        return;
    };
    let known = || KNOWN.iter().flat_map(|known| [Some(known.name), known.old_name]).flatten();
    if known().any(|known| known == name) {
        return;
    }
    if let Some(near) = words::nearest(name, known()) {
        warn(format!("nothing reads the option {name}"), &format!("did you mean {near}?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(inside: &str) -> Vec<String> {
        let text = format!("<cib><configuration>{inside}</configuration></cib>");
        check(&Document::parse(text).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_means_something_is_no_problem() {
        let found = problems(
            "<cluster_property_set><nvpair name='stonith-enabled'/><nvpair name='fencing-enabled'/>
             <nvpair name='my-own-thing'/></cluster_property_set>
             <meta_attributes><nvpair name='stonith-enabledd'/></meta_attributes>
             <date_expression start='2005-020' end='12:30'><duration hours='1'/></date_expression>
             <date_spec id='x' hours='9-17' weekdays='1-' moon='?'/>
             <op interval='0' timeout='PT5M' start-delay='5 sec'/>",
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn what_means_nothing_is_a_warning() {
        for (inside, want) in [
            (
                "<cluster_property_set><nvpair name='stonith-enabeld'/></cluster_property_set>",
                "did you mean stonith-enabled?",
            ),
            ("<date_expression start='tomorrow'/>", "start=\"tomorrow\" is no date"),
            ("<duration hours='x'/>", "no whole numbers"),
            ("<date_spec hours='9-17,20'/>", "hours=\"9-17,20\" is no range"),
            ("<op interval='1d'/>", "interval=\"1d\" is no duration"),
            ("<op_expression interval='often'/>", "is no duration"),
        ] {
            let found = problems(inside);
            assert!(found.len() == 1 && found[0].contains(want), "{inside}: {found:?}");
            assert!(found[0].contains("warning"), "{found:?}");
        }
    }
}
