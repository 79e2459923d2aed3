//! `tierce crm-simulate`: what a cluster would do, from its CIB, with the options of Pacemaker's `crm_simulate`.
//!
//! The scheduler is a pure function; reading and writing files, and the clock, are here.

use std::ffi::OsString;
use std::io::Read as _;

use tierce_cib::schema::{Problem, Schema, Severity};
use tierce_cib::time::Moment;
use tierce_cib::xml::Document;
use tierce_scheduler::simulate::{self, Outcome, Request, Usage};

use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::local_time;

/// Runs a simulation.
pub(crate) fn run(ctx: &Ctx, args: Vec<OsString>) -> Result<Exit, Failure> {
    let words = args.into_iter().map(|w| w.to_string_lossy().into_owned());
    let request = match Request::parse(words) {
        Ok(request) => request,
        Err(Usage::Help) => {
            ctx.out.line(&Usage::Help.to_string())?;
            return Ok(Exit::Ok);
        }
        Err(usage) => {
            return Err(Failure::sentence(
                codes::USAGE,
                &usage.to_string(),
                "tierce crm-simulate --help",
            ));
        }
    };
    let input = request.input.as_deref().unwrap_or("-");
    let text = read(input).map_err(|e| file_failure(input, &e))?;
    let refused = |e: &str| {
        Failure::sentence(codes::CONFIG, &format!("{input}: {e}"), "tierce cib verify FILE")
    };
    let doc = Document::parse(text).map_err(|e| refused(&e.to_string()))?;
    valid(input, &doc)?;
    let outcome =
        simulate::run_document(doc, &request, clock()?).map_err(|e| refused(&e.to_string()))?;
    write_all(&request, input, &outcome)?;
    ctx.out.text(&outcome.text)?;
    Ok(if outcome.failed { Exit::Unwell(codes::ERROR) } else { Exit::Ok })
}

/// The wall clock, in local time.
pub(crate) fn clock() -> Result<Moment, Failure> {
    local_time::now().ok_or_else(|| {
        let error = "the system's clock shows no date";
        Failure::new(codes::ERROR, error, "nothing was simulated", "date", "set the clock")
    })
}

/// What its own schema does not allow is not simulated: it would be read as something else.
pub(crate) fn valid(input: &str, doc: &Document) -> Result<(), Failure> {
    // A schema that is unknown here says nothing.
    let Ok(schema) = Schema::declared(doc) else { return Ok(()) };
    let wrong: Vec<Problem> =
        schema.check(doc).into_iter().filter(|p| p.severity == Severity::Error).collect();
    let Some(first) = wrong.first() else { return Ok(()) };
    let more =
        if wrong.len() > 1 { format!(", and {} more", wrong.len() - 1) } else { String::new() };
    Err(Failure::new(
        codes::CONFIG,
        format!("{input} is not valid by {schema}: {first}{more}"),
        "nothing was simulated",
        format!("tierce cib verify {input}"),
        "correct what is named there",
    ))
}

fn read(input: &str) -> std::io::Result<String> {
    if input != "-" {
        return std::fs::read_to_string(input);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn write_all(request: &Request, input: &str, outcome: &Outcome) -> Result<(), Failure> {
    let in_place = (request.in_place && input != "-").then(|| input.to_owned());
    for (path, text) in [
        (&request.graph_file, &outcome.graph),
        (&request.dot_file, &outcome.dot),
        (&request.input_file, &outcome.input),
        (&request.output_file, &outcome.output),
        (&in_place, &outcome.output),
    ] {
        if let Some(path) = path {
            std::fs::write(path, text).map_err(|e| file_failure(path, &e))?;
        }
    }
    Ok(())
}

fn file_failure(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        codes::NO_SUCH,
        format!("{path}: {error}"),
        "nothing was simulated",
        format!("ls -l {path}"),
        "name a file that can be read, or a place that can be written",
    )
}
