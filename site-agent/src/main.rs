//! The agent as a program of its own.

use std::process::ExitCode;

use clap::Parser;

/// The node daemon of a site: voter, session and runner of its resources.
#[derive(Parser)]
#[command(name = "tierce-agent", version, about)]
struct Cli {
    #[command(flatten)]
    args: tierce_agent::AgentArgs,
}

fn main() -> ExitCode {
    tierce_agent::run(Cli::parse().args)
}
