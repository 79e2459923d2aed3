//! The operator's command: looks at the cluster, changes it, and makes its certificates.
//!
//! An operator at three in the morning reads one sentence and types one command. So every answer
//! begins with what matters, every error has four parts (what happened, what follows, how to look
//! into it, the safer way), and the exit code tells a script the truth: a grant that is decided but
//! not running yet, or whose outcome nobody knows, is never 0.
//!
//! The command decides nothing about tickets. It asks a daemon over its control socket
//! (`tierce_wire::control`) and shows the answer; certificates, files and recordings it handles
//! itself, because that must work where no daemon runs.
//!
//! Data is on stdout, messages are on stderr; with `-o json` errors are data too.
//!
//! | module | what it does |
//! |---|---|
//! | `args` | the words of the command line |
//! | `client` | one question to a daemon, with every wait bounded |
//! | `status`, `tickets`, `sites`, `attributes` | what a daemon is asked |
//! | `config`, `pki`, `trace`, `advise`, `cib` | what works without a daemon |
//! | `plan`, `simulate` | what a cluster would do: in words, and as `crm_simulate` |
//! | `daemons` | this program as one of the daemons |
//! | `demo` | a cluster on this machine that is broken and held |
//! | `drill` | what the demo shows, with the cluster and the tickets that are there |
//! | `evidence` | how demo and drills are judged and shown |
//! | `shell` | completions and man pages |
//! | `approve` | questions before a change |
//! | `failure`, `codes` | errors and exit codes |
//! | `out`, `table`, `words` | how things look |
//! | `limits` | every bound |
//!
//! Invariants:
//! - exit code 0 only after a final `Done` or a shown answer; an error's code is never 0;
//! - nothing that comes from a daemon or a file reaches the terminal with control characters in it.

mod advise;
mod approve;
mod args;
mod attributes;
mod cib;
mod client;
mod codes;
mod config;
mod daemons;
mod demo;
mod drill;
mod evidence;
mod failure;
mod limits;
mod local_time;
mod out;
mod pki;
mod plan;
mod shell;
mod simulate;
mod sites;
mod status;
mod table;
mod tickets;
mod trace;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command, Globals};
use crate::codes::Exit;
use crate::failure::Failure;
use crate::out::{Format, Out};

/// What a command works with.
pub(crate) struct Ctx {
    pub(crate) out: Out,
    pub(crate) globals: Globals,
}

/// Reads a command line (its first word is the program's name) and does what it says.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(code) = daemons::act_as(&args) {
        return code;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // Help and version: asked for, so they are data and no error.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            let out = Out::new(if out::wants_json(&args) { Format::Json } else { Format::Table });
            return out.fail(&Failure::usage(&e));
        }
    };
    let out = Out::new(cli.globals.output);
    let ctx = Ctx { out, globals: cli.globals };
    let is_report = matches!(cli.command, Command::Drill(drill::DrillCommand::Report { .. }));
    if matches!(out.format(), Format::Junit | Format::Html) && !is_report {
        return out.fail(&Failure::new(
            codes::USAGE,
            "junit and html are forms of drill reports only",
            "nothing was done",
            "tierce drill report --help",
            "-o table or -o json; a drill's --report DIR writes all forms",
        ));
    }
    match dispatch(&ctx, cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => ctx.out.fail(&failure),
    }
}

fn dispatch(ctx: &Ctx, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Status(args) => status::run(ctx, &args),
        Command::Tickets(command) => tickets::run(ctx, command),
        Command::Sites(command) => sites::run(ctx, command),
        Command::Fence(command) => sites::fence(ctx, command),
        Command::Attributes(command) => attributes::run(ctx, command),
        Command::Config(command) => config::run(ctx, command),
        Command::Cib(command) => cib::run(ctx, command),
        Command::Plan(args) => plan::plan(ctx, &args),
        Command::Simulate(args) => plan::simulate(ctx, &args),
        Command::CrmSimulate(rest) => simulate::run(ctx, rest.args),
        Command::Pki(command) => pki::run(ctx, command),
        Command::Trace(command) => trace::run(ctx, command),
        Command::Advise(command) => advise::run(ctx, &command),
        Command::Demo(args) => Ok(Exit::Daemon(demo::run(&args, ctx.out.is_json()))),
        Command::Drill(command) => drill::run(ctx, command),
        Command::DemoService(args) => Ok(Exit::Daemon(demo::run_service(&args))),
        Command::Completion { shell } => shell::completion(ctx, shell),
        Command::Man { dir } => shell::man(ctx, dir.as_deref()),
        Command::Agent(rest) => Ok(Exit::Daemon(daemons::agent(rest.args))),
        Command::Arbitrator(rest) => Ok(Exit::Daemon(daemons::arbitrator(rest.args))),
        Command::Guard(rest) => Ok(Exit::Daemon(daemons::guard(rest.args))),
    }
}
