//! What can go wrong, in the four parts that an operator reads: error, effect, inspect, safer.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;
use tierce_link::join::JoinStringError;
use tierce_link::{Identity, IdentityError, JoinError, PkiError};
use tierce_member::HostError;
use tierce_wire::control::ErrorView;

/// Exit codes of the commands; the same list as everywhere in Tierce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Something failed.
    Error = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A service or resource is not available.
    Unavailable = 69,
    /// Try again.
    Retry = 75,
    /// The configuration is wrong.
    Config = 78,
    /// The daemon is not reached.
    NotConnected = 102,
    /// There is no such thing.
    NoSuch = 105,
    /// Not safe without being told so.
    Unsafe = 107,
    /// It has ended by time.
    Expired = 110,
    /// It is not known whether it was done.
    OutcomeUnknown = 112,
    /// Not in this state.
    NotNow = 113,
}

/// Why a command or the daemon did not do what it was asked.
#[derive(Debug, Error)]
pub enum Trouble {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] IdentityError),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the data directory makes no sense.
    #[error("{}: {what}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The data directory is in use.
    #[error("{} is in use{}", dir.display(), pid.map_or(String::new(), |p| format!(" by process {p}")))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// By whom, if known.
        pid: Option<u32>,
    },
    /// The data directory belongs to somebody else than the user that the daemon runs as.
    #[error("{} belongs to user {owner}, and the daemon is to run as user {user}", dir.display())]
    Owner {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// The daemon's user.
        user: u32,
    },
    /// The user cannot be had.
    #[error("cannot run as user {user}: {why}")]
    User {
        /// Which user.
        user: String,
        /// Why not.
        why: String,
    },
    /// The certificate is somebody else's.
    #[error(
        "the certificate is that of {found}; here it must be an arbitrator's of tenant {tenant}"
    )]
    Certificate {
        /// The tenant asked for.
        tenant: String,
        /// Whose it is.
        found: Identity,
    },
    /// The certificate has ended.
    #[error("the certificate of tenant {tenant} ended at {at}")]
    CertificateEnded {
        /// The tenant.
        tenant: String,
        /// When.
        at: String,
    },
    /// A certificate's folder.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The join string is not one.
    #[error(transparent)]
    JoinString(#[from] JoinStringError),
    /// The join string's time is over.
    #[error("the join string for {identity} has expired")]
    JoinExpired {
        /// Who was invited.
        identity: Identity,
    },
    /// Joining failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The tenant is there.
    #[error("tenant {0} is here already")]
    Exists(String),
    /// The tenant is not there.
    #[error("there is no tenant {0} here")]
    NoSuch(String),
    /// Removal needs a word.
    #[error("removing tenant {0} was not confirmed")]
    NotConfirmed(String),
    /// Socket, journal or member.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An address that must be local.
    #[error("{0} is not a loopback address")]
    NotLocal(std::net::SocketAddr),
    /// The daemon is there and does not answer.
    #[error("the daemon does not answer at {}: {why}", socket.display())]
    NoAnswer {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        why: String,
        /// Whether the request had been sent.
        sent: bool,
    },
    /// The daemon's own words.
    #[error("{}", .0.error)]
    Daemon(ErrorView),
    /// The flight recorder or the log.
    #[error(transparent)]
    Trace(#[from] tierce_trace::Error),
}

impl Trouble {
    /// Puts path and deed to an error of the system.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        match self {
            Self::Name(_) | Self::JoinString(_) | Self::NotLocal(_) => Code::Usage,
            Self::File { .. }
            | Self::Owner { .. }
            | Self::User { .. }
            | Self::Certificate { .. }
            | Self::Pki(_) => Code::Config,
            Self::CertificateEnded { .. } | Self::JoinExpired { .. } => Code::Expired,
            Self::InUse { .. } => Code::Retry,
            Self::Exists(_) => Code::NotNow,
            Self::NoSuch(_) => Code::NoSuch,
            Self::NotConfirmed(_) => Code::Unsafe,
            Self::Host(HostError::Link(_)) => Code::Unavailable,
            Self::NoAnswer { sent: true, .. } => Code::OutcomeUnknown,
            Self::Join(JoinError::Unreachable { .. }) | Self::NoAnswer { sent: false, .. } => {
                Code::NotConnected
            }
            Self::Io { .. } | Self::Join(_) | Self::Host(_) | Self::Daemon(_) | Self::Trace(_) => {
                Code::Error
            }
        }
    }

    /// All four parts, and the code.
    pub fn view(&self) -> ErrorView {
        if let Self::Daemon(view) = self {
            return view.clone();
        }
        let (effect, inspect, safer) = self.rest();
        ErrorView {
            code: self.code() as u8,
            error: self.to_string(),
            effect: effect.to_owned(),
            inspect,
            safer: safer.to_owned(),
        }
    }

    fn rest(&self) -> (&'static str, String, &'static str) {
        let look = |path: &Path| format!("ls -ld {}", path.display());
        match self {
            Self::Name(_) => (
                "nothing was changed",
                "tierce-arbitrator tenant list".to_owned(),
                "names are those of the certificates",
            ),
            Self::Io { path, .. } => (
                "nothing more was changed",
                look(path),
                "correct owner or space of the path, then repeat the command",
            ),
            Self::File { path, .. } => (
                "it is not used and nothing was changed",
                format!("cat {}", path.display()),
                "correct the file, or remove it to get the defaults",
            ),
            Self::InUse { pid, .. } => (
                "nothing was started or changed",
                pid.map_or("tierce-arbitrator tenant list".to_owned(), |p| format!("ps -p {p}")),
                "let the other process end, then repeat the command",
            ),
            Self::Owner { dir, .. } => (
                "nothing was started",
                look(dir),
                "chown -R the directory to that user, or choose with --user",
            ),
            Self::User { .. } => (
                "nothing was started",
                "getent passwd".to_owned(),
                "make the user (useradd --system tierce), or choose with --user",
            ),
            Self::Certificate { .. } => (
                "the tenant is not served",
                "tierce pki list".to_owned(),
                "invite an arbitrator with that tenant's own authority (tierce pki invite)",
            ),
            Self::CertificateEnded { .. } => (
                "no peer would accept it: the tenant is not served; its store is kept",
                "date; tierce pki list".to_owned(),
                "check the wall clock, then put a new certificate in place (tierce pki rotate)",
            ),
            Self::Pki(_) => (
                "the tenant is not served; others go on",
                "tierce pki list".to_owned(),
                "restore the folder, or join anew",
            ),
            Self::JoinString(_) | Self::JoinExpired { .. } | Self::Join(_) => (
                "the tenant was not added",
                "tierce pki list (at the authority)".to_owned(),
                "ask for a new join string (tierce pki invite)",
            ),
            Self::Exists(_) => (
                "nothing was changed",
                "tierce-arbitrator tenant list".to_owned(),
                "change its quotas with tenant quota; renew its certificate with tierce pki rotate",
            ),
            Self::NoSuch(_) => (
                "nothing was changed",
                "tierce-arbitrator tenant list".to_owned(),
                "check the name and the data directory",
            ),
            Self::NotConfirmed(_) => (
                "nothing was changed; the tenant keeps this vote",
                "tierce-arbitrator tenant list".to_owned(),
                "let the tenant's sites remove this member first; then --yes",
            ),
            Self::Host(_) => (
                "what is named was not started",
                "tierce-arbitrator tenant list; journalctl -u tierce-arbitrator".to_owned(),
                "do what the error says; another tenant is not concerned",
            ),
            Self::NotLocal(_) => (
                "nothing was started",
                "ip address show lo".to_owned(),
                "metrics carry names of tenants: serve them on 127.0.0.1 and let a proxy guard them",
            ),
            Self::NoAnswer { sent, socket, .. } => (
                if *sent {
                    "it is not known whether the request was carried out"
                } else {
                    "nothing was asked and nothing was changed"
                },
                look(socket),
                "look at tenant list, then repeat the command",
            ),
            Self::Daemon(_) => ("", String::new(), ""),
            Self::Trace(_) => (
                "nothing was started",
                "ls -ld /run/tierce /dev/shm".to_owned(),
                "make room on tmpfs, or correct TIERCE_LOG",
            ),
        }
    }

    /// Prints the four parts to stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let view = self.view();
        let mut text = format!("error: {}\n", view.error);
        for (word, part) in
            [("effect", &view.effect), ("inspect", &view.inspect), ("safer", &view.safer)]
        {
            if !part.is_empty() {
                let _ = writeln!(text, "{word}: {part}");
            }
        }
        eprint!("{text}");
        ExitCode::from(view.code)
    }
}
