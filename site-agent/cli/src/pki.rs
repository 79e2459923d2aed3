//! `tierce pki`: the tenant's certificate authority, and members' certificates.
//!
//! What goes to stdout is what is handed on: the join string and nothing else, so that it can be
//! piped to where it is used. Everything that an operator should know besides is on stderr.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use tierce_link::join::{self, JoinStringError};
use tierce_link::pki::{InviteState, IssuedInfo, MemberDir, Revoke, Serial};
use tierce_link::{
    Ca, CertInfo, IdentityError, JoinError, JoinRefusal, JoinString, Name, PkiError, Role, Tenant,
};

use crate::Ctx;
use crate::approve;
use crate::args::duration;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::limits::{CERTIFICATE_WARN, INVITE_TTL, MAX_INVITE_TTL, MAX_TYPED_BYTES};
use crate::table::{Cell, Paint, Table};
use crate::words::{moment, span, utc};

/// Commands on certificates.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Makes the certificate authority of a tenant.
    Init {
        /// Name of the tenant.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// A new folder for the authority.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Makes a member's folder with key and certificate, where the authority is.
    Issue {
        #[command(flatten)]
        who: Who,
        /// The member's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Makes a join string: it works once, until it expires.
    Invite {
        #[command(flatten)]
        who: Who,
        /// Where a member that serves joins listens; several are tried in order.
        #[arg(long = "address", value_name = "HOST:PORT", required = true, value_delimiter = ',')]
        addresses: Vec<String>,
        /// How long it is good [default: 24h].
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
    },
    /// Joins a tenant with a join string: makes a key here and fetches its certificate.
    Join {
        /// The join string, or - to read it from stdin, where no process list shows it.
        string: String,
        /// The member's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Gives a member a new key and certificate, in place.
    Rotate(RotateArgs),
    /// Certificates and invitations of an authority, or a member's own certificate.
    List {
        /// The authority's folder.
        #[arg(long, value_name = "DIR", required_unless_present = "dir", conflicts_with = "dir")]
        ca: Option<PathBuf>,
        /// A member's folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Takes certificates back.
    #[command(group(ArgGroup::new("what").required(true).args(["serial", "name"])))]
    Revoke {
        /// The authority's folder.
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The one with this serial number.
        #[arg(long, value_name = "HEX")]
        serial: Option<String>,
        /// All of this member.
        #[arg(long, value_name = "NAME", requires = "role")]
        name: Option<String>,
        /// The member's role: site or arbitrator.
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
    },
}

/// For whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct Who {
    /// The authority's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// What the member may do: site or arbitrator.
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// The member's name.
    #[arg(long, value_name = "NAME")]
    name: String,
}

/// With the authority at hand, or over the network.
#[derive(Clone, Debug, Args)]
pub(crate) struct RotateArgs {
    /// The authority's folder.
    #[arg(long, value_name = "DIR", requires = "member_dir", required_unless_present = "dir")]
    ca: Option<PathBuf>,
    /// The member's folder, where the authority is at hand.
    #[arg(long, value_name = "DIR", requires = "ca")]
    member_dir: Option<PathBuf>,
    /// The member's folder, where the authority is asked over the network.
    #[arg(long, value_name = "DIR", requires = "addresses", conflicts_with = "ca")]
    dir: Option<PathBuf>,
    /// Where a member that serves joins listens; several are tried in order.
    #[arg(long = "address", value_name = "HOST:PORT", value_delimiter = ',')]
    addresses: Vec<String>,
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: PkiCommand) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init { tenant, dir } => init(ctx, &tenant, &dir),
        PkiCommand::Issue { who, dir } => {
            let info =
                open(&who.ca)?.issue_to(who.role, &name(&who.name)?, &dir).map_err(|e| pki(&e))?;
            certificate(ctx, &info, &dir, "made")
        }
        PkiCommand::Invite { who, addresses, ttl } => {
            invite(ctx, &who, &addresses, ttl.unwrap_or(INVITE_TTL))
        }
        PkiCommand::Join { string, dir } => join_tenant(ctx, &string, &dir),
        PkiCommand::Rotate(args) => rotate(ctx, &args),
        PkiCommand::List { ca: Some(ca), .. } => list(ctx, &ca),
        PkiCommand::List { dir, .. } => {
            let dir = dir.unwrap_or_default();
            let info = MemberDir::load(&dir).map_err(|e| pki(&e))?.info;
            certificate(ctx, &info, &dir, "found")
        }
        PkiCommand::Revoke { ca, serial, name: member, role } => {
            revoke(ctx, &ca, serial.as_deref(), member.as_deref(), role)
        }
    }
}

// ----- the authority -------------------------------------------------------------------------

fn open(dir: &Path) -> Result<Ca, Failure> {
    Ca::open(dir).map_err(|e| pki(&e))
}

fn init(ctx: &Ctx, tenant: &str, dir: &Path) -> Result<Exit, Failure> {
    let tenant = Tenant::new(tenant).map_err(|e| identity(&e))?;
    let ca = Ca::init(dir, &tenant).map_err(|e| pki(&e))?;
    let fingerprint = ca.fingerprint().to_string();
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "tenant": tenant, "dir": dir, "fingerprint": fingerprint }))?;
    } else {
        ctx.out.line(&format!("authority of tenant {tenant} made in {}", dir.display()))?;
        ctx.out.line(&format!("fingerprint {fingerprint}"))?;
        eprintln!("keep that folder private and copy it to a safe place: it makes members");
        let at = dir.display();
        eprintln!("next: tierce pki issue --ca {at} --role site --name NAME --dir DIR");
    }
    Ok(Exit::Ok)
}

fn invite(ctx: &Ctx, who: &Who, addresses: &[String], ttl: Duration) -> Result<Exit, Failure> {
    if ttl > MAX_INVITE_TTL || ttl < Duration::from_secs(1) {
        return Err(Failure::new(
            codes::USAGE,
            format!("an invitation of {} is refused", span(ttl)),
            "no invitation was made",
            "tierce pki invite --help",
            format!("choose --ttl from 1s to {}", span(MAX_INVITE_TTL)),
        ));
    }
    let ca = open(&who.ca)?;
    let string = ca.invite(who.role, &name(&who.name)?, addresses, ttl).map_err(|e| pki(&e))?;
    let expires = utc(string.expires);
    if ctx.out.is_json() {
        ctx.out.json(&json!({
            "joinString": string.to_string(),
            "identity": string.identity.uri(),
            "addresses": string.addresses,
            "ca": string.ca.to_string(),
            "expires": expires,
        }))?;
    } else {
        eprintln!("invitation of {}; it works once, until {expires}:", string.identity);
        ctx.out.line(&string.to_string())?;
        eprintln!("next, at the new member: tierce pki join - --dir DIR, and paste it");
    }
    Ok(Exit::Ok)
}

fn list(ctx: &Ctx, dir: &Path) -> Result<Exit, Failure> {
    let ca = open(dir)?;
    let listing = ca.list().map_err(|e| pki(&e))?;
    let now = SystemTime::now();
    let in_use = newest(&listing.certificates);
    let state =
        |c: &IssuedInfo| state_of(c, in_use.get(&c.identity.uri()) == Some(&&c.serial), now);
    let word = |s: InviteState| match s {
        InviteState::Open => "open",
        InviteState::Used => "used",
        InviteState::Expired => "expired",
    };
    let warnings: Vec<String> = listing
        .certificates
        .iter()
        .filter(|c| matches!(state(c).0, "ending" | "ended"))
        .map(|c| format!("the certificate of {} ends {}", c.identity, moment(c.not_after, now)))
        .collect();
    if ctx.out.is_json() {
        let certificates: Vec<Value> = listing
            .certificates
            .iter()
            .map(|c| {
                json!({ "identity": c.identity.uri(), "serial": c.serial.to_string(),
                        "ends": utc(c.not_after), "state": state(c).0, "revoked": c.revoked })
            })
            .collect();
        let invites: Vec<Value> = listing
            .invites
            .iter()
            .map(|i| {
                json!({ "identity": i.identity.uri(), "expires": utc(i.expires),
                        "state": word(i.state) })
            })
            .collect();
        ctx.out.json(&json!({
            "tenant": ca.tenant(), "fingerprint": ca.fingerprint().to_string(),
            "certificates": certificates, "invitations": invites, "warnings": warnings,
        }))?;
        return Ok(Exit::Ok);
    }
    let colour = ctx.out.colour();
    let mut text = format!("tenant {}, authority {}\n", ca.tenant(), ca.fingerprint());
    let mut table = Table::new(&["MEMBER", "ROLE", "STATE", "ENDS", "SERIAL"]);
    for c in &listing.certificates {
        let (word, paint) = state(c);
        let (name, role) = (c.identity.name.as_str(), c.identity.role.as_str());
        let (state, ends) = (Cell::painted(word, paint), moment(c.not_after, now));
        table.row(vec![name.into(), role.into(), state, ends.into(), c.serial.to_string().into()]);
    }
    let mut invites = Table::new(&["INVITED", "ROLE", "STATE", "EXPIRES"]);
    for i in &listing.invites {
        let (name, role) = (i.identity.name.as_str(), i.identity.role.as_str());
        let expires = moment(i.expires, now);
        invites.row(vec![name.into(), role.into(), word(i.state).into(), expires.into()]);
    }
    for table in [table, invites] {
        let shown = table.text(colour);
        if !shown.is_empty() {
            text.push('\n');
            text.push_str(&shown);
        }
    }
    ctx.out.text(&text)?;
    for warning in warnings {
        eprintln!("warning: {warning}; tierce pki rotate");
    }
    Ok(Exit::Ok)
}

/// The certificate of each member that counts: the last one that was not taken back.
fn newest(certificates: &[IssuedInfo]) -> BTreeMap<String, &Serial> {
    let live = certificates.iter().filter(|c| !c.revoked);
    live.map(|c| (c.identity.uri(), &c.serial)).collect()
}

fn state_of(c: &IssuedInfo, in_use: bool, now: SystemTime) -> (&'static str, Paint) {
    let left = c.not_after.duration_since(now).unwrap_or_default();
    match (c.revoked, in_use, left) {
        (true, ..) => ("revoked", Paint::Plain),
        (_, false, _) => ("replaced", Paint::Plain),
        (_, true, Duration::ZERO) => ("ended", Paint::Bad),
        (_, true, left) if left < CERTIFICATE_WARN => ("ending", Paint::Warn),
        _ => ("good", Paint::Good),
    }
}

fn revoke(
    ctx: &Ctx,
    dir: &Path,
    serial: Option<&str>,
    member: Option<&str>,
    role: Option<Role>,
) -> Result<Exit, Failure> {
    let ca = open(dir)?;
    let (what, text) = match (serial, member, role) {
        (Some(serial), ..) => {
            let parsed = serial.parse::<Serial>().map_err(|e| {
                Failure::sentence(codes::USAGE, &e.to_string(), "tierce pki list --ca DIR")
            })?;
            (Revoke::Serial(parsed), format!("certificate {serial}"))
        }
        (None, Some(member), Some(role)) => {
            let text = format!("every certificate of {role} {member}");
            (Revoke::Member(role, name(member)?), text)
        }
        _ => {
            return Err(Failure::usage(&clap::Error::new(
                clap::error::ErrorKind::MissingRequiredArgument,
            )));
        }
    };
    approve::ordinary(ctx, &format!("{text} of tenant {} is taken back. Go on?", ca.tenant()))?;
    let count = ca.revoke(&what).map_err(|e| pki(&e))?;
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "revoked": count }))?;
    } else {
        ctx.out.line(&format!("{text} taken back ({count})"))?;
        eprintln!("members enforce it once they have the new list ({}/crl.pem)", dir.display());
    }
    Ok(Exit::Ok)
}

// ----- members -------------------------------------------------------------------------------

fn join_tenant(ctx: &Ctx, string: &str, dir: &Path) -> Result<Exit, Failure> {
    let typed;
    let string = if string == "-" {
        if std::io::stdin().is_terminal() {
            eprintln!("paste the join string:");
        }
        let mut line = String::new();
        // What cannot be read is no join string, and is refused as such.
        let _ = std::io::stdin().lock().take(MAX_TYPED_BYTES).read_line(&mut line);
        typed = line;
        typed.as_str()
    } else {
        string
    };
    let string: JoinString = string.parse().map_err(|e: JoinStringError| {
        Failure::sentence(
            codes::USAGE,
            &e.to_string(),
            "tierce pki list --ca DIR, at the authority",
        )
    })?;
    let now = SystemTime::now();
    if string.is_expired(now) {
        return Err(Failure::new(
            codes::EXPIRED,
            format!("the join string expired {}", moment(string.expires, now)),
            "nothing was asked and nothing was changed",
            "date; tierce pki list --ca DIR, at the authority",
            "ask for a new one: tierce pki invite",
        ));
    }
    let info = block_on(join::join(&string, dir))?.map_err(|e| joining(&e))?;
    certificate(ctx, &info, dir, "fetched")
}

fn rotate(ctx: &Ctx, args: &RotateArgs) -> Result<Exit, Failure> {
    let (info, dir) = match (&args.ca, &args.member_dir, &args.dir) {
        (Some(ca), Some(member), _) => (open(ca)?.rotate(member).map_err(|e| pki(&e))?, member),
        (_, _, Some(dir)) => {
            let renewed = block_on(join::renew(dir, &args.addresses))?;
            (renewed.map_err(|e| joining(&e))?, dir)
        }
        _ => {
            return Err(Failure::usage(&clap::Error::new(
                clap::error::ErrorKind::MissingRequiredArgument,
            )));
        }
    };
    certificate(ctx, &info, dir, "renewed")
}

fn certificate(ctx: &Ctx, info: &CertInfo, dir: &Path, verb: &str) -> Result<Exit, Failure> {
    let now = SystemTime::now();
    if ctx.out.is_json() {
        ctx.out.json(&json!({
            "identity": info.identity.uri(), "dir": dir, "serial": info.serial.to_string(),
            "begins": utc(info.not_before), "ends": utc(info.not_after),
            "fingerprint": info.fingerprint.to_string(), "ending": info.is_expiring(now),
        }))?;
    } else {
        let ends = moment(info.not_after, now);
        let (who, at) = (&info.identity, dir.display());
        ctx.out.line(&format!("certificate of {who} {verb} in {at}; it ends {ends}"))?;
    }
    if info.is_expiring(now) {
        eprintln!("warning: it ends {}; tierce pki rotate", moment(info.not_after, now));
    }
    Ok(Exit::Ok)
}

fn block_on<F: Future>(work: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("no socket can be used: {e}"),
            "nothing was asked and nothing was changed",
            "ulimit -n",
            "raise the limit, then try again",
        )
    })?;
    let output = runtime.block_on(work);
    // A name that is still being looked up does not keep the command.
    runtime.shutdown_background();
    Ok(output)
}

// ----- errors --------------------------------------------------------------------------------

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|e| identity(&e))
}

fn identity(e: &IdentityError) -> Failure {
    Failure::sentence(codes::USAGE, &e.to_string(), "tierce pki --help")
}

fn pki(e: &PkiError) -> Failure {
    let code = match e {
        PkiError::Identity(_) | PkiError::BadInvite(_) => codes::USAGE,
        PkiError::NothingToRevoke(_) => codes::NO_SUCH,
        PkiError::Damaged { .. } => codes::CONFIG,
        PkiError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            codes::NO_SUCH
        }
        _ => codes::ERROR,
    };
    Failure::sentence(code, &e.to_string(), "tierce pki list; ls -l the folder")
}

fn joining(e: &JoinError) -> Failure {
    let code = match e {
        JoinError::Pki(e) => return pki(e),
        JoinError::Unreachable { .. } | JoinError::Refused(JoinRefusal::Internal) => {
            codes::UNAVAILABLE
        }
        JoinError::Addresses(_) => codes::USAGE,
        JoinError::Refused(JoinRefusal::Expired) => codes::EXPIRED,
        JoinError::Refused(JoinRefusal::UnknownSecret) => codes::NO_SUCH,
        _ => codes::ERROR,
    };
    let inspect = "tierce pki list --ca DIR, at the authority";
    let text = e.to_string();
    match (e, text.split_once("; ")) {
        // Nobody but this side can say what a refusal changed here.
        (JoinError::Refused(_), Some((error, safer))) => {
            Failure::new(code, error, "nothing was changed here", inspect, safer)
        }
        _ => Failure::sentence(code, &text, inspect),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tierce_link::Identity;

    use super::*;

    #[test]
    fn only_the_certificate_in_use_is_warned_about() {
        let now = UNIX_EPOCH + Duration::from_hours(1_000_000);
        let made = |serial: &str, days: u64, revoked: bool| IssuedInfo {
            identity: Identity::new("shop", Role::Site, "paris").unwrap(),
            serial: serial.parse().unwrap(),
            not_after: now + Duration::from_hours(days * 24),
            revoked,
        };
        let all = [made("01", 5, false), made("02", 10, false), made("03", 80, true)];
        let in_use = newest(&all);
        let states: Vec<&str> = all
            .iter()
            .map(|c| state_of(c, in_use.get(&c.identity.uri()) == Some(&&c.serial), now).0)
            .collect();
        assert_eq!(states, ["replaced", "ending", "revoked"]);
        assert_eq!(state_of(&made("04", 80, false), true, now).0, "good");
        assert_eq!(state_of(&made("05", 0, false), true, now).0, "ended");
    }

    #[test]
    fn each_refusal_of_a_join_has_its_exit_code() {
        let code = |r: JoinRefusal| joining(&JoinError::Refused(r)).view.code;
        assert_eq!(code(JoinRefusal::Expired), codes::EXPIRED);
        assert_eq!(code(JoinRefusal::UnknownSecret), codes::NO_SUCH);
        assert_eq!(code(JoinRefusal::Used), codes::ERROR);
        let used = joining(&JoinError::Refused(JoinRefusal::Used)).view;
        assert_eq!(used.effect, "nothing was changed here");
        assert!(used.safer.contains("revoke that member"), "{used:?}");
        let e = JoinError::Unreachable { tried: "a:1: no answer in time".to_owned() };
        assert_eq!(joining(&e).view.code, codes::UNAVAILABLE);
    }
}
