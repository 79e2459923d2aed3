//! This program as one of the daemons: `tierce agent …`, or under the daemon's own name.
//!
//! One file to copy is worth a lot on a broken machine, and the demo starts everything from it. The
//! words after the daemon's name are its own: they are not read here.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use tierce_agent::AgentArgs;

use crate::failure::Failure;
use crate::out::{Format, Out};

/// The agent's command line, as its own binary has it.
#[derive(Debug, Parser)]
#[command(name = "tierce-agent", version)]
struct AgentCli {
    #[command(flatten)]
    args: AgentArgs,
}

/// Acts as a daemon if the program's name or the first word says so.
pub(crate) fn act_as(args: &[OsString]) -> Option<ExitCode> {
    let program = args.first().and_then(|a| Path::new(a).file_name()?.to_str());
    let rest = |from: usize| args.get(from..).unwrap_or_default().to_vec();
    match program {
        Some("tierce-agent") => return Some(agent(rest(1))),
        Some("tierce-arbitrator") => return Some(arbitrator(rest(1))),
        Some("tierce-guard") => return Some(guard(rest(1))),
        _ => {}
    }
    match args.get(1)?.to_str()? {
        "agent" => Some(agent(rest(2))),
        "arbitrator" => Some(arbitrator(rest(2))),
        "guard" => Some(guard(rest(2))),
        // An agent that runs under its own name as a link to this file has the guard call the file.
        "stop-ticket" => Some(agent(rest(1))),
        _ => None,
    }
}

/// The node daemon of a site.
pub(crate) fn agent(rest: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("tierce-agent")).chain(rest);
    match AgentCli::try_parse_from(words) {
        Ok(cli) => tierce_agent::run(cli.args),
        Err(e) if !e.use_stderr() => {
            let _ = e.print();
            ExitCode::SUCCESS
        }
        Err(e) => Out::new(Format::Table).fail(&Failure::usage(&e)),
    }
}

/// The third site's daemon.
pub(crate) fn arbitrator(rest: Vec<OsString>) -> ExitCode {
    tierce_arbitrator::run(std::iter::once(OsString::from("tierce-arbitrator")).chain(rest))
}

/// The node's own dead man.
pub(crate) fn guard(rest: Vec<OsString>) -> ExitCode {
    tierce_guard::main_with_args(rest)
}

/// The daemons' command lines, for their manual pages.
pub(crate) fn commands() -> [clap::Command; 2] {
    [AgentCli::command(), tierce_arbitrator::Cli::command()]
}
