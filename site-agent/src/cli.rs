//! The agent's command line, for the thin binary `tierce-agent` and for `tierce agent …`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::agent;
use crate::config::{Config, ConfigError};
#[cfg(target_env = "gnu")]
use crate::limits::{LARGE_BLOCK_BYTES, MAX_HEAPS};
use crate::runner;

/// Exit codes, as everywhere in Tierce.
const ERROR: u8 = 1;
const CONFIG: u8 = 78;

/// What the agent is told.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// What the agent can do.
#[derive(Subcommand, Clone, Debug)]
pub enum AgentCommand {
    /// Runs the agent of this site.
    Run {
        /// The site's file.
        #[arg(long, default_value = "/etc/tierce/agent.toml")]
        config: PathBuf,
        /// Logs readable lines also where stderr is no terminal. (The agent never leaves the
        /// foreground.)
        #[arg(long)]
        foreground: bool,
    },
    /// Stops everything of a ticket at this site, without the agent: what the node guard runs.
    StopTicket {
        /// The site's file.
        #[arg(long, default_value = "/etc/tierce/agent.toml")]
        config: PathBuf,
        /// The ticket.
        #[arg(long)]
        ticket: String,
    },
}

/// Does what the arguments say, until it is done.
pub fn run(args: AgentArgs) -> ExitCode {
    match args.command {
        AgentCommand::Run { config, foreground } => run_agent(&config, foreground),
        AgentCommand::StopTicket { config, ticket } => stop_ticket(&config, &ticket),
    }
}

fn run_agent(path: &Path, foreground: bool) -> ExitCode {
    save_memory();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(e) => return bad_config(&path, &e),
    };
    // First of all: two agents of one site must never run.
    let _lock = match agent::lock(&config.data) {
        Ok(lock) => lock,
        Err(e) => return fail(&e.to_string(), "the agent was not started", "tierce status"),
    };
    let options = tierce_trace::Options {
        json: foreground.then_some(false),
        recorder: config
            .recorder
            .clone()
            .map_or(tierce_trace::RecorderAt::DefaultDir, tierce_trace::RecorderAt::Dir),
        dump_dir: Some(config.data.join("dumps")),
        ..tierce_trace::Options::daemon(format!("agent@{}", config.site))
    };
    let _trace = match start_trace(options) {
        Ok(guard) => guard,
        Err(e) => return fail(&e.to_string(), "the agent was not started", "the message above"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            return fail(&format!("no runtime: {e}"), "the agent was not started", "ulimit -n");
        }
    };
    let code = match runtime.block_on(agent::run(config, path, stop_command())) {
        Ok(code) => code,
        Err(e) => {
            let (effect, inspect, safer) = e.advice();
            refuse(&e.to_string(), &effect, inspect, safer)
        }
    };
    // Blocking work that still waits for a disk does not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// Tells the allocator what this process is like; of 33 MB with 1,000 tickets it saves 7.
///
/// Large blocks come from the system and go back to it whole. Otherwise, once one is freed, glibc
/// serves larger and larger ones from its heap: the text of a file with a thousand tickets is such a
/// block, and the tables of the history, which stay nearly empty, fill what it left and are zeroed
/// there. And one thread does nearly all the work here: the dozen others need no heap each.
#[cfg(target_env = "gnu")]
fn save_memory() {
    for (what, value) in
        [(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES), (libc::M_ARENA_MAX, MAX_HEAPS)]
    {
        // SAFETY: mallopt only sets a number of the allocator; no thread has been started yet.
        let set = unsafe { libc::mallopt(what, value) };
        debug_assert_eq!(set, 1, "glibc takes these");
    }
}

#[cfg(not(target_env = "gnu"))]
fn save_memory() {}

/// Log and recorder; a recorder that cannot be had is a warning: the service comes first.
fn start_trace(options: tierce_trace::Options) -> tierce_trace::Result<tierce_trace::Guard> {
    tierce_trace::init(options.clone()).or_else(|why| {
        let off = tierce_trace::Options { recorder: tierce_trace::RecorderAt::Off, ..options };
        let guard = tierce_trace::init(off)?;
        tracing::warn!("there is no flight recorder: {why}");
        Ok(guard)
    })
}

fn stop_ticket(path: &Path, ticket: &str) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(e) => return bad_config(path, &e),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("no runtime: {e}"), "nothing was stopped", "ulimit -n"),
    };
    match runtime.block_on(runner::stop_ticket(&config, ticket)) {
        Ok(took) => {
            eprintln!("{ticket} is stopped, it took {} ms", took.as_millis());
            ExitCode::SUCCESS
        }
        Err(e) => fail(&e.to_string(), "something of it may still run", "tierce status"),
    }
}

/// How this program is called to stop a ticket: itself, with the words before `run`.
fn stop_command() -> Option<Vec<String>> {
    let program = std::env::current_exe().ok()?.to_str()?.to_owned();
    let before = std::env::args().skip(1).take_while(|a| a != "run");
    let mut words = vec![program];
    words.extend(before);
    words.push("stop-ticket".to_owned());
    Some(words)
}

fn bad_config(path: &Path, e: &ConfigError) -> ExitCode {
    eprintln!("error: {e}");
    eprintln!("effect: nothing was started");
    eprintln!("inspect: tierce config check --config {}", path.display());
    eprintln!("safer: correct the file first");
    ExitCode::from(CONFIG)
}

fn fail(error: &str, effect: &str, inspect: &str) -> ExitCode {
    refuse(error, effect, inspect, "remove the cause, then try again")
}

fn refuse(error: &str, effect: &str, inspect: &str, safer: &str) -> ExitCode {
    eprintln!("error: {error}");
    eprintln!("effect: {effect}");
    eprintln!("inspect: {inspect}");
    eprintln!("safer: {safer}");
    ExitCode::from(ERROR)
}
