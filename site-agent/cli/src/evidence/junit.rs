//! The report for machines that count tests: every check and every phase is a test case.

use std::fmt::Write as _;

use tierce_cib::xml::escaped;

use super::report::{Report, Verdict};

/// The page.
pub(crate) fn page(r: &Report) -> String {
    let mut cases = Vec::new();
    let mut case = |group: &str, name: &str, ms: f64, failure: Option<String>| {
        cases.push((group.to_owned(), name.to_owned(), ms, failure));
    };
    for c in &r.preflight {
        case("preflight", &c.name, 0.0, (!c.passed).then(|| c.reason.clone()));
    }
    for p in &r.phases {
        let wrong = || match p.wrong.as_slice() {
            [] => "failed".to_owned(),
            wrong => wrong.join("; "),
        };
        case("phase", &p.name, p.end_ms - p.start_ms, (!p.passed).then(wrong));
    }
    for c in &r.validation {
        case("validation", &c.name, 0.0, (!c.passed).then(|| c.reason.clone()));
    }
    for l in &r.losses {
        let failure = (!l.unattended).then(|| l.why.clone());
        case("loss", &format!("{} without {}", l.ticket, l.site), 0.0, failure);
    }
    let twice = r.overlap_ms > 0.0 || r.stale_answers > 0;
    let overlap = format!("{} ms at two sites, {} stale answers", r.overlap_ms, r.stale_answers);
    if r.verdict != Verdict::Refused {
        case("safety", "overlap", 0.0, twice.then_some(overlap));
    }
    case("verdict", "verdict", 0.0, (!r.passed()).then(|| r.summary.clone()));
    let failures = cases.iter().filter(|c| c.3.is_some()).count();
    let (name, tests, time) = (escaped(&format!("tierce {}", r.drill)), cases.len(), r.took_ms);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tierce\" \
         tests=\"{tests}\" failures=\"{failures}\">\n<testsuite name=\"{name}\" tests=\"{tests}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\" timestamp=\"{}\">\n",
        time / 1e3,
        escaped(&r.started)
    );
    properties(&mut out, r);
    for (group, name, ms, failure) in &cases {
        let _ = write!(
            out,
            "<testcase classname=\"tierce.{}.{group}\" name=\"{}\" time=\"{:.3}\"",
            escaped(&r.drill),
            escaped(name),
            ms / 1e3
        );
        let _ = match failure {
            Some(why) => {
                writeln!(out, "><failure message=\"{}\"/></testcase>", escaped(why))
            }
            None => writeln!(out, "/>"),
        };
    }
    out + "</testsuite>\n</testsuites>\n"
}

fn properties(out: &mut String, r: &Report) {
    let score = r.score.as_ref().map(|s| s.total.to_string());
    let known = [
        ("verdict", Some(r.verdict.word().to_owned())),
        ("score", score),
        ("operator", Some(r.operator.clone())),
        ("digest", r.digest.clone()),
        ("ticket", r.scope.as_ref().map(|s| s.ticket.clone())),
        ("left", r.left.clone()),
    ];
    *out += "<properties>\n";
    for (name, value) in known.into_iter().filter_map(|(n, v)| Some((n, v?))) {
        let _ = writeln!(out, "<property name=\"{name}\" value=\"{}\"/>", escaped(&value));
    }
    *out += "</properties>\n";
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn every_check_and_phase_is_a_case_and_what_failed_is_a_failure() {
        let page = page(&sample());
        // quorum, two phases, term, overlap, verdict.
        assert_eq!(page.matches("<testcase ").count(), 6, "{page}");
        assert!(page.contains("tests=\"6\" failures=\"3\""), "{page}");
        assert_eq!(page.matches("<failure ").count(), 3, "{page}");
        assert!(page.contains("it \u{fffd}[31mended &amp; &lt;b&gt;\u{fffd}"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("<script>"), "{page}");
        assert!(page.contains("name=\"score\""), "{page}");
    }
}
