//! Simulation: what a cluster would do, and what would be then.
//!
//! `run` takes the text of a CIB and gives the texts that `crm_simulate` would print and write. The graph is played in waves
//! against the document itself: every action writes its result into the status, and at the end the status is read again.

mod extras;
pub mod inject;
pub mod options;
mod play;
mod resources;
mod situation;
mod status;
pub(crate) mod summary;

use tierce_cib::time::Moment;
use tierce_cib::values;
use tierce_cib::xml::Document;

use crate::Error;
use crate::plan::{decide, make_ready};
use crate::reasons::ActionReason;
use crate::steps::Step;
pub use options::{Request, Usage};
pub use situation::{Located, Situation};
pub use summary::Change;

/// What a simulation gives: texts to print and to write.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// The graph as XML, if a file was named for it.
    pub graph: String,
    /// The graph as dot, if a file was named for it.
    pub dot: String,
    /// The CIB after injections, before the transition.
    pub input: String,
    /// The CIB after the transition.
    pub output: String,
    /// A transition stopped because an action failed.
    pub failed: bool,
    /// The graph as SVG, if it was asked for.
    pub svg: String,
    /// The events that were put in, in a sentence each. This and all that follows only if details were asked for.
    pub events: Vec<String>,
    /// What happens to nodes and resources.
    pub changes: Vec<Change>,
    /// What is done, in an order in which it can be done.
    pub steps: Vec<Step>,
    /// What should be done and can not.
    pub blocked: Vec<ActionReason>,
    /// When to plan again at the latest, seconds since 1970.
    pub look_again: Option<i64>,
    /// What is where before the plan.
    pub before: Situation,
    /// What is where after it, if it was played.
    pub after: Situation,
}

/// Reads a text and simulates; see [`run_document`].
pub fn run(text: String, request: &Request, clock: Moment) -> Result<Outcome, Error> {
    let doc = Document::parse(text).map_err(|e| Error::Xml(e.to_string()))?;
    run_document(doc, request, clock)
}

/// Runs a simulation as a request asks. `clock` is the wall clock, for a CIB that names no time of its
/// own; dates without an offset are in its local time.
pub fn run_document(mut doc: Document, request: &Request, clock: Moment) -> Result<Outcome, Error> {
    if doc.root().name() != "cib" {
        return Err(Error::NotACib(doc.root().name().to_owned()));
    }
    let mut out = Outcome::default();
    let now = moment(&doc, request.date.as_deref(), clock)?;
    let heading = heading(&doc, request, clock);
    if !request.quiet {
        out.text.push_str(&heading);
    }
    let injected = inject::apply(&mut doc, request)?;
    let modified = !injected.is_empty();
    if request.save_input {
        out.input = doc.write();
    }
    make_ready(&mut doc)?;
    let changes;
    {
        let cluster = crate::unpack::unpack(&doc, now)?;
        let current = status::render(&cluster, "Current cluster status:", request);
        let capacity = request.utilization.then(|| extras::capacity(&cluster, "Original"));
        let plan = decide(cluster)?;
        if !request.quiet {
            out.text.push_str(&current);
        }
        if modified && !request.quiet {
            out.text.push_str("\nPerforming Requested Modifications:\n");
            out.text.push_str(&injected);
        }
        if request.scores {
            if !request.quiet {
                out.text.push_str("\nAssignment Scores:\n");
            }
            out.text.push_str(&plan.scores());
        }
        if let Some(capacity) = capacity {
            if !request.quiet {
                out.text.push_str("\nUtilization Information:\n");
            }
            out.text.push_str(&capacity);
            out.text.push_str(&extras::capacity(&plan.cluster, "Remaining"));
        }
        if !request.quiet && (request.run || request.simulate) {
            out.text.push_str(&summary::render(&plan));
        }
        if request.graph_file.is_some() {
            out.graph = plan.graph_xml();
        }
        if request.svg {
            out.svg = plan.graph_svg();
        }
        if request.details {
            out.events =
                injected.lines().map(|l| l.trim_start_matches([' ', '*']).to_owned()).collect();
            out.changes = plan.changes();
            out.steps = plan.steps();
            out.blocked = plan.blocked();
            out.look_again = plan.look_again();
            out.before = situation::of(&plan.cluster);
        }
        if request.dot_file.is_some() {
            out.dot = plan.graph_dot(request.all_actions);
        }
        changes = request.simulate.then(|| play::play(&plan, request));
    }
    let Some(played) = changes else { return Ok(out) };
    if !request.quiet {
        out.text.push_str("\nExecuting Cluster Transition:\n");
        out.text.push_str(&played.text);
        if request.date.is_some() {
            out.text.push_str(&heading);
        }
    }
    out.failed = played.failed;
    played.write_into(&mut doc);
    if request.save_output {
        let mut output = doc.clone();
        crate::implied::take_out(&mut output);
        out.output = output.write();
    }
    if !request.quiet || request.details {
        let mut after = crate::unpack::unpack(&doc, now)?;
        for rsc in after.rscs.keys() {
            // A transition that is over has left nothing in flight.
            after.rscs[rsc].pending = None;
        }
        if !request.quiet {
            out.text.push_str(&status::render(&after, "\nRevised Cluster Status:", request));
        }
        if request.details {
            out.after = situation::of(&after);
        }
    }
    Ok(out)
}

/// The moment that counts as now: one that is asked for, else the one that the CIB names, else the clock's.
pub fn moment(doc: &Document, date: Option<&str>, clock: Moment) -> Result<Moment, Error> {
    if let Some(date) = date {
        return Moment::parse(date, clock).ok_or_else(|| Error::Invalid {
            what: "not a time in ISO 8601".into(),
            place: format!("set-datetime {date}"),
        });
    }
    Ok(recorded(doc, clock).unwrap_or(clock))
}

/// The moment for which the CIB was made, in the local time of `clock`.
fn recorded(doc: &Document, clock: Moment) -> Option<Moment> {
    clock.at(doc.root().attr("execution-date").and_then(values::leading_integer)?)
}

fn heading(doc: &Document, request: &Request, clock: Moment) -> String {
    if let Some(date) = &request.date {
        return format!("Setting effective cluster time: {date}\n");
    }
    recorded(doc, clock).map_or_else(String::new, |moment| {
        format!("Using the original execution date of: {}\n", moment.utc())
    })
}
