//! Becoming an ordinary user, for good.

use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};

use super::Step;
use crate::trouble::Trouble;

/// The user that a daemon started by root becomes unless told otherwise.
const DEFAULT_USER: &str = "tierce";

/// Whom the process becomes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// Whom a process that was told `asked` becomes; `None`: it stays who it is.
pub(crate) fn default_user(asked: Option<&str>) -> Result<Option<Target>, Trouble> {
    let name = asked.unwrap_or(DEFAULT_USER);
    let refused = |why: String| Trouble::User { user: name.to_owned(), why };
    let user = User::from_name(name).map_err(|e| refused(e.to_string()))?;
    match (user, asked) {
        (None, Some(_)) => Err(refused("there is no such user".to_owned())),
        (None, None) => Ok(None),
        (Some(user), _) if user.uid == geteuid() => Ok(None),
        (Some(_), Some(_)) if !geteuid().is_root() => {
            Err(refused("only root may change users".to_owned()))
        }
        (Some(_), None) if !geteuid().is_root() => Ok(None),
        (Some(user), _) => Ok(Some(Target { name: user.name, uid: user.uid, gid: user.gid })),
    }
}

/// Becomes that user, in all threads and with no way back.
pub(crate) fn become_user(target: Option<&Target>) -> Result<Step, Trouble> {
    let Some(target) = target else {
        return Ok(if geteuid().is_root() {
            Step::missing("user", "runs as root: no user to change to (useradd --system tierce)")
        } else {
            Step::applied("user", format!("runs unprivileged as uid {}", geteuid()))
        });
    };
    let refused = |e: nix::Error| Trouble::User { user: target.name.clone(), why: e.to_string() };
    setgroups(&[]).map_err(refused)?;
    setresgid(target.gid, target.gid, target.gid).map_err(refused)?;
    setresuid(target.uid, target.uid, target.uid).map_err(refused)?;
    if !target.uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        let why = "the change could be undone".to_owned();
        return Err(Trouble::User { user: target.name.clone(), why });
    }
    Ok(Step::applied("user", format!("dropped to {} (uid {})", target.name, target.uid)))
}

/// No program that this process could start gains privileges.
pub(crate) fn no_new_privileges() -> Step {
    match nix::sys::prctl::set_no_new_privs() {
        Ok(()) => Step::applied("no-new-privileges", "set"),
        Err(e) => Step::missing("no-new-privileges", e.to_string()),
    }
}
