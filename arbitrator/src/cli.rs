//! The command line: the daemon and the commands for its tenants.
//!
//! stdout is data, stderr messages. Nothing returns 0 for what was not done.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tierce_link::JoinString;

use crate::admin::{Admin, Source};
use crate::layout::Quota;
use crate::trouble::{Code, Trouble};
use crate::{daemon, listing};

/// The third site: votes for many tenants, holds no tickets.
#[derive(Debug, Parser)]
#[command(name = "tierce-arbitrator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon: serve every tenant of the data directory on one UDP socket.
    Run(RunArgs),
    /// Add, list and remove tenants, with the daemon running or not.
    #[command(subcommand)]
    Tenant(TenantVerb),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Data directory; made when missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where QUIC listens: the only address that is open to the world.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served; a loopback address.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// The control socket [default: DIR/control.sock].
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Run as this user; `root` stays root [default, when started by root: tierce, if it exists].
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// The tenant commands.
#[derive(Debug, Subcommand)]
pub enum TenantVerb {
    /// Serve a tenant from now on.
    Add {
        /// The tenant's name, as in its certificates.
        name: String,
        /// Data directory of the arbitrator.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Join string from `tierce pki invite` at the tenant's authority.
        #[arg(long, value_name = "STRING", required_unless_present = "member_dir")]
        join: Option<String>,
        /// Or: folder with ca.pem, cert.pem and key.pem; it is copied.
        #[arg(long, value_name = "DIR", conflicts_with = "join")]
        member_dir: Option<PathBuf>,
        /// What the tenant may use.
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// Show all tenants and their states.
    List {
        /// Data directory of the arbitrator.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value = "table")]
        output: OutputAs,
    },
    /// Serve a tenant no longer. Its data is set aside under removed/.
    Remove {
        /// The tenant's name.
        name: String,
        /// Data directory of the arbitrator.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Delete its data: this vote can only come back by a new admission.
        #[arg(long)]
        purge: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Change what a tenant may use; what is left out stays.
    Quota {
        /// The tenant's name.
        name: String,
        /// Data directory of the arbitrator.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// What the tenant may use.
        #[command(flatten)]
        quota: QuotaArgs,
    },
}

/// What a tenant may use.
#[derive(Debug, Clone, Default, Args)]
pub struct QuotaArgs {
    /// Connections at once.
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,
    /// Datagrams per second and connection; more are dropped and counted.
    #[arg(long, value_name = "N")]
    pub datagrams_per_second: Option<u32>,
    /// Tickets; more are reported (a voter cannot refuse what its cluster decides).
    #[arg(long, value_name = "N")]
    pub max_tickets: Option<u32>,
    /// Bytes of its store; more are reported, twice as many stop the tenant here.
    #[arg(long, value_name = "N")]
    pub store_bytes: Option<u64>,
}

impl QuotaArgs {
    fn change(&self, quota: &mut Quota) {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut quota.max_connections, self.max_connections);
        set(&mut quota.datagrams_per_second, self.datagrams_per_second);
        set(&mut quota.max_tickets, self.max_tickets);
        set(&mut quota.store_bytes, self.store_bytes);
    }
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputAs {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Parses a command line (its first word is the program) and does what it says.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => execute(cli.verb),
        Err(e) => {
            // Help and version go to stdout and are no error.
            let _ = e.print();
            if e.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
        }
    }
}

/// Does what was asked.
pub fn execute(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Run(args) => return daemon::serve(&args),
        Verb::Tenant(verb) => tenant(verb),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(trouble) => trouble.report(),
    }
}

fn tenant(verb: TenantVerb) -> Result<String, Trouble> {
    let line = |text: String| text + "\n";
    match verb {
        TenantVerb::Add { name, data, join, member_dir, quota: wanted } => {
            let source = match (join, member_dir) {
                (Some(string), _) => Source::Join(Box::new(string.parse::<JoinString>()?)),
                (None, dir) => Source::MemberDir(dir.unwrap_or_default()),
            };
            let mut quota = Quota::default();
            wanted.change(&mut quota);
            quota.check(Path::new("quotas on the command line"))?;
            Admin::open(&data, true)?.add(&name, &source, &quota).map(line)
        }
        TenantVerb::List { data, output } => {
            let tenants = Admin::open(&data, false)?.list()?;
            Ok(match output {
                OutputAs::Table => listing::table(&tenants),
                OutputAs::Json => line(listing::json(&tenants)),
            })
        }
        TenantVerb::Remove { name, data, purge, yes } => {
            if !yes && !confirmed(&name, purge) {
                return Err(Trouble::NotConfirmed(name));
            }
            Admin::open(&data, false)?.remove(&name, purge).map(line)
        }
        TenantVerb::Quota { name, data, quota } => {
            Admin::open(&data, false)?.set_quota(&name, |q| quota.change(q)).map(line)
        }
    }
}

/// Asks for the tenant's name on a terminal.
fn confirmed(name: &str, purge: bool) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    let fate = if purge { "deleted for good" } else { "set aside" };
    eprintln!(
        "tenant {name} loses this vote, and its data here is {fate}; type its name to go on:"
    );
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).is_ok() && typed.trim() == name
}
