//! The words of the command line. Each group of commands has its own words in its own file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tierce_agent::config::Span;

use crate::out::Format;
use crate::{
    advise, attributes, cib, config, demo, drill, pki, plan, sites, status, tickets, trace,
};

/// Moves services between sites, one holder at a time.
#[derive(Debug, Parser)]
#[command(
    name = "tierce",
    version,
    after_help = "Exit codes: 0 done, 1 error, 64 usage, 69 unavailable, 75 try again, 78 file \
                  refused, 102 no daemon, 105 no such thing, 106 no majority, 107 unsafe without \
                  force, 110 expired, 112 outcome unknown, 113 not now, 124 not in time, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Control socket of the daemon [default: /run/tierce/control.sock, else the one that
    /// /etc/tierce/agent.toml names].
    #[arg(long, global = true, value_name = "PATH", env = "TIERCE_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value = "table")]
    pub(crate) output: Format,
    /// Give up a daemon that says nothing for this long [default: 15s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Do not ask before a change.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How it is, why, and what to do next.
    Status(status::StatusArgs),
    /// Tickets: who may run what.
    #[command(subcommand, alias = "ticket")]
    Tickets(tickets::TicketsCommand),
    /// Sites and other members.
    #[command(subcommand, alias = "site")]
    Sites(sites::SitesCommand),
    /// An operator's word on lost sites.
    #[command(subcommand)]
    Fence(sites::FenceCommand),
    /// Attributes that tickets may require.
    #[command(subcommand, alias = "attribute")]
    Attributes(attributes::AttributesCommand),
    /// The site's file.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Configurations in Pacemaker's format: shown, compared, checked, stored.
    #[command(subcommand)]
    Cib(cib::CibCommand),
    /// What a cluster would do with this CIB now: every step, and why.
    Plan(plan::PlanArgs),
    /// What a cluster would do after events, and what would be then.
    Simulate(plan::SimulateArgs),
    /// What a cluster would do, from its CIB, with the options of Pacemaker's `crm_simulate`.
    #[command(disable_help_flag = true)]
    CrmSimulate(Rest),
    /// Certificates: the tenant's authority, invitations, members' certificates.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Flight recordings of all members, in the order of cause and effect.
    #[command(subcommand)]
    Trace(trace::TraceCommand),
    /// Advice on sizes.
    #[command(subcommand)]
    Advise(advise::AdviseCommand),
    /// Runs a cluster on this machine, breaks it in eight ways, and shows that it held.
    Demo(demo::DemoArgs),
    /// Drills: failover tried on purpose, judged, and taken back.
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// The demo's service.
    #[command(hide = true)]
    DemoService(demo::ServiceArgs),
    /// Prints the completion of a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or writes all of them.
    Man {
        /// Write one page per command into this folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Acts as tierce-agent, the node daemon of a site.
    #[command(disable_help_flag = true)]
    Agent(Rest),
    /// Acts as tierce-arbitrator, the third site's daemon.
    #[command(disable_help_flag = true)]
    Arbitrator(Rest),
    /// Acts as tierce-guard, the node's own dead man.
    #[command(disable_help_flag = true)]
    Guard(Rest),
}

/// Words for a daemon.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rest {
    /// Its own arguments; --help shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) args: Vec<OsString>,
}

/// A duration with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(Duration::from).map_err(|e| e.to_string())
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use clap::CommandFactory as _;
    use tierce_tests::fuzz;

    use super::*;
    use crate::failure::Failure;

    /// What the agent recommends to operators, and more.
    const LINES: &[&str] = &[
        "tierce status",
        "tierce status -w",
        "tierce sites list",
        "tierce config diff",
        "tierce config check --config /etc/tierce/agent.toml",
        "tierce trace show",
        "tierce tickets set web",
        "tierce tickets show web",
        "tierce tickets plan web --to rome",
        "tierce tickets grant web --to rome",
        "tierce tickets move web --to rome",
        "tierce tickets resume web",
        "tierce fence confirm rome --note burnt",
        "tierce plan --check",
        "tierce cib explain web cib.xml --node n1",
        "tierce drill check --ticket web",
        "tierce drill run plan --site paris",
        "tierce drill run lab --fault cut --fault arbitrator-lost",
        "tierce drill run switch-over --ticket web --to rome --hold 30s --yes",
        "tierce drill run L2 --ticket web",
        "tierce drill report /tmp/drill -o junit",
    ];

    #[test]
    fn the_words_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert!(duration("10").unwrap_err().contains("unit"));
    }

    #[test]
    fn every_command_that_the_agent_recommends_can_be_read() {
        for line in LINES {
            let read = Cli::try_parse_from(line.split(' '));
            assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
        }
    }

    /// Whatever is typed: a command, or an error with its four parts. Words are separated by line
    /// feeds, so that an argument may have spaces in it or be empty.
    #[test]
    fn any_words_are_a_command_or_an_error_with_four_parts() {
        let lines: Vec<Vec<u8>> =
            LINES.iter().map(|line| line.replace(' ', "\n").into_bytes()).collect();
        bolero::check!().for_each(|bytes: &[u8]| {
            for line in fuzz::inputs(&lines, bytes) {
                let words = line.split(|b| *b == b'\n').map(OsStr::from_bytes);
                let Err(e) = Cli::try_parse_from(words) else { continue };
                if e.use_stderr() {
                    let text = Failure::usage(&e).text();
                    let parts: Vec<&str> =
                        text.lines().filter_map(|l| Some(l.split_once(": ")?.0)).collect();
                    assert_eq!(parts, ["error", "effect", "inspect", "safer"], "{text}");
                    let control = |c: char| c.is_control() && c != '\n';
                    assert!(!text.contains(control), "{text:?}");
                }
            }
        });
    }
}
