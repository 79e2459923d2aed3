//! All checks of a configuration together, as `verify` and `push` need them.

use crate::ids::Ids;
use crate::lint;
use crate::refs;
use crate::rings;
use crate::schema::{Problem, Schema, SchemaError, Severity};
use crate::xml::Document;

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The schema that it was held to.
    pub schema: Schema,
    /// All problems in the order of the text.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether the configuration can be taken.
    pub fn is_valid(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}

/// Checks a document by the schema that it declares, its references, its orderings and its values.
pub fn verify(doc: &Document) -> Result<Report, SchemaError> {
    let schema = Schema::declared(doc)?;
    let ids = Ids::of(doc);
    let mut problems = refs::check(doc, &ids);
    // Both find an id that nothing has: the check of references knows more about it.
    let told = |problem: &Problem| {
        let reference = |other: &Problem| {
            let (what, _) = other.what.split_once(" names ")?;
            let (own, _) = problem.what.split_once(" names nothing")?;
            (other.line == problem.line && other.element == problem.element && what == own)
                .then_some(())
        };
        problems.iter().any(|other| reference(other).is_some())
    };
    let more: Vec<Problem> =
        schema.check(doc).into_iter().filter(|problem| !told(problem)).collect();
    problems.extend(more);
    problems.extend(rings::check(doc, &ids));
    problems.extend(lint::check(doc));
    problems.sort();
    Ok(Report { schema, problems })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_reference_is_told_once() {
        let doc = Document::parse(
            "<cib validate-with='pacemaker-3.9' admin_epoch='0' epoch='1' num_updates='0'>
<configuration><crm_config/><nodes><node id='1' uname='n'/></nodes>
<resources><primitive id='web' class='lsb' type='x'/></resources>
<constraints><rsc_location id='l' rsc='wed' node='n' score='1'/>
<rsc_location id='m' rsc='web' node='gone' score='1'/></constraints></configuration></cib>",
        )
        .unwrap();
        let report = verify(&doc).unwrap();
        let told: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told[0].contains("did you mean web?") && !report.is_valid(), "{told:#?}");
        assert_eq!(report.problems[1].severity, Severity::Warning);
    }
}
