//! `tierce plan` and `tierce simulate`: what a cluster would do with a CIB, now or after events told in words.
//!
//! Both ask the same engine as `tierce crm-simulate` (`tierce_scheduler::simulate`); here are the words of people and how the
//! answer looks. `plan` touches nothing and plays nothing. `simulate` plays the plan on a copy and shows what would be then.

mod event;
mod show;

use std::path::{Path, PathBuf};

use clap::Args;
use tierce_scheduler::simulate::{self, Outcome, Request};

use crate::Ctx;
use crate::cib::Source;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use event::Event;

/// What is planned.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    picture: Picture,
    /// Exit with 1 when there is anything to do, or something that should be done can not.
    #[arg(long)]
    check: bool,
}

/// What is simulated.
#[derive(Clone, Debug, Args)]
#[command(after_help = event::HELP)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    source: Source,
    /// An event: 'node n1 fails', 'ticket T revoked', 'quorum lost', 'web monitor 10s on n1 returns 7'; again for more.
    #[arg(long, value_name = "EVENT", value_parser = event::parse)]
    what_if: Vec<Event>,
    #[command(flatten)]
    picture: Picture,
}

/// When, and what is drawn.
#[derive(Clone, Debug, Args)]
struct Picture {
    /// The moment that counts as now, in ISO 8601 [default: the one that the CIB names, else now].
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Draw the graph for Graphviz into this file.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Draw the graph as SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Steps that only hold an order, too.
    #[arg(long)]
    all: bool,
}

impl Picture {
    fn request(&self) -> Request {
        let name = |path: &PathBuf| path.display().to_string();
        Request {
            date: self.at.clone(),
            dot_file: self.dot.as_ref().map(name),
            svg: self.svg.is_some(),
            details: true,
            quiet: true,
            ..Request::default()
        }
    }

    fn draw(&self, outcome: &Outcome) -> Result<(), Failure> {
        for (path, text) in [(&self.dot, &outcome.dot), (&self.svg, &outcome.svg)] {
            if let Some(path) = path {
                std::fs::write(path, text).map_err(|e| not_written(path, &e))?;
            }
        }
        Ok(())
    }
}

fn not_written(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(
        codes::ERROR,
        format!("{} can not be written: {e}", path.display()),
        "the picture is missing; nothing else was changed",
        format!("ls -ld {}", path.parent().unwrap_or(path).display()),
        "name a file in a folder that exists",
    )
}

/// Plans.
pub(crate) fn plan(ctx: &Ctx, args: &PlanArgs) -> Result<Exit, Failure> {
    let outcome = ask(&args.source, &args.picture.request())?;
    args.picture.draw(&outcome)?;
    if ctx.out.is_json() {
        ctx.out.json(&show::plan_view(&outcome))?;
    } else {
        ctx.out.text(&show::plan_text(&outcome, args.picture.all))?;
    }
    let anything = !outcome.changes.is_empty() || !outcome.blocked.is_empty();
    Ok(if args.check && anything { Exit::Unwell(codes::ERROR) } else { Exit::Ok })
}

/// Plans after events, and plays the plan.
pub(crate) fn simulate(ctx: &Ctx, args: &SimulateArgs) -> Result<Exit, Failure> {
    let mut request = args.picture.request();
    request.simulate = true;
    for event in &args.what_if {
        event.put_into(&mut request);
    }
    let outcome = ask(&args.source, &request)?;
    args.picture.draw(&outcome)?;
    if ctx.out.is_json() {
        ctx.out.json(&show::simulation_view(&outcome))?;
    } else {
        ctx.out.text(&show::simulation_text(&outcome, args.picture.all))?;
    }
    Ok(if outcome.failed { Exit::Unwell(codes::ERROR) } else { Exit::Ok })
}

fn ask(source: &Source, request: &Request) -> Result<Outcome, Failure> {
    let (doc, name) = source.load()?;
    crate::simulate::valid(&name, &doc)?;
    simulate::run_document(doc, request, crate::simulate::clock()?).map_err(|e| {
        Failure::sentence(codes::CONFIG, &format!("{name}: {e}"), "tierce cib verify FILE")
    })
}
