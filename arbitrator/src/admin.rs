//! The tenant commands: with a daemon through its socket, without one on the directory.
//!
//! Adding is prepared by the command itself in both cases, because joining needs the network for
//! seconds and a daemon has better to do. The files are given to the owner of the directory, so
//! that root may add what an unprivileged daemon reads.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tierce_link::{CertInfo, JoinString, Role, Tenant, join};
use tierce_wire::control::{Ask, Reply};

use crate::client;
use crate::hardening::default_user;
use crate::layout::{DataDir, Held, Holder, Quota, certificate_for};
use crate::listing::{Listed, Live};
use crate::times;
use crate::trouble::Trouble;

/// Where a new tenant's certificate comes from.
pub(crate) enum Source {
    /// A join string.
    Join(Box<JoinString>),
    /// A member's folder.
    MemberDir(PathBuf),
}

/// The directory, and what speaks for it.
pub(crate) struct Admin {
    data: DataDir,
    held: Held,
}

impl Admin {
    /// Opens the directory; makes it when `make`.
    pub(crate) fn open(dir: &Path, make: bool) -> Result<Self, Trouble> {
        if !make && !dir.is_dir() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Trouble::io("opening", dir)(missing));
        }
        let owner = default_user(None)?.map(|u| (u.uid, u.gid));
        let data = DataDir::prepare(dir, owner)?;
        let held = data.lock()?;
        Ok(Self { data, held })
    }

    fn daemon(&self) -> Result<Option<PathBuf>, Trouble> {
        match &self.held {
            Held::Ours(_) => Ok(None),
            Held::Theirs(Holder { control: Some(socket), .. }) => Ok(Some(socket.clone())),
            Held::Theirs(holder) => {
                Err(Trouble::InUse { dir: self.data.root().to_owned(), pid: holder.pid })
            }
        }
    }

    /// Adds a tenant. Gives what was done, in words.
    pub(crate) fn add(
        &self,
        name: &str,
        source: &Source,
        quota: &Quota,
    ) -> Result<String, Trouble> {
        Tenant::new(name)?;
        let daemon = self.daemon()?;
        if self.data.tenant(name).exists() {
            return Err(Trouble::Exists(name.to_owned()));
        }
        let staged = self.data.stage(name)?;
        let prepared = match source {
            Source::MemberDir(from) => staged.copy_member(from),
            Source::Join(string) => join_as(name, string, &staged.pki()),
        }
        .and_then(|()| certificate_for(&staged.pki(), name))
        .and_then(|info| not_ended(name, info))
        .and_then(|info| staged.tenant().set_quota(quota).map(|()| info));
        let info = prepared.inspect_err(|_| {
            // A certificate that a join string has paid for is kept for the next attempt.
            if certificate_for(&staged.pki(), name).is_err() {
                staged.discard();
            }
        })?;
        self.data.commit(&staged, name)?;
        let ends = times::utc(info.not_after);
        let added =
            format!("tenant {name} added as {}; its certificate ends {ends}", info.identity);
        let Some(socket) = daemon else {
            return Ok(format!(
                "{added}; no daemon runs here: it is served from its next start on"
            ));
        };
        client::ask(&socket, Ask::TenantAdd { tenant: name.to_owned() })?;
        Ok(format!("{added}; it is served now"))
    }

    /// Removes a tenant.
    pub(crate) fn remove(&self, name: &str, purge: bool) -> Result<String, Trouble> {
        Tenant::new(name)?;
        let Some(socket) = self.daemon()? else {
            return Ok(removed(name, self.data.take_away(name, purge)?.as_deref()));
        };
        match client::ask(&socket, Ask::TenantRemove { tenant: name.to_owned(), purge })? {
            Reply::Done { text, .. } => Ok(text),
            _ => Ok(removed(name, None)),
        }
    }

    /// Changes a tenant's quotas.
    pub(crate) fn set_quota(
        &self,
        name: &str,
        change: impl FnOnce(&mut Quota),
    ) -> Result<String, Trouble> {
        Tenant::new(name)?;
        let daemon = self.daemon()?;
        let tenant = self.data.tenant(name);
        if !tenant.exists() {
            return Err(Trouble::NoSuch(name.to_owned()));
        }
        let mut quota = tenant.quota()?;
        change(&mut quota);
        tenant.set_quota(&quota)?;
        self.data.adopt(tenant.path())?;
        if let Some(socket) = daemon {
            client::ask(&socket, Ask::Reload)?;
        }
        Ok(format!("tenant {name} has new quotas"))
    }

    /// All tenants: what the daemon says, and what the files say.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Trouble> {
        let running = match self.daemon()? {
            None => None,
            Some(socket) => match client::ask(&socket, Ask::TenantList)? {
                Reply::Tenants { tenants } => Some(tenants),
                _ => Some(Vec::new()),
            },
        };
        let (names, _) = self.data.names()?;
        let now = SystemTime::now();
        let of = |name: &str, live| Listed::of(name, &self.data.tenant(name), live, now);
        let mut all: Vec<Listed> = names
            .iter()
            .map(|name| {
                let live = match &running {
                    None => Live::NoDaemon,
                    Some(all) => {
                        all.iter().find(|v| v.name == *name).map_or(Live::Unknown, Live::Is)
                    }
                };
                of(name, live)
            })
            .collect();
        // What the daemon still serves although its folder is gone is shown, too.
        let gone = running.iter().flatten().filter(|v| !names.contains(&v.name));
        all.extend(gone.map(|v| of(&v.name, Live::Is(v))));
        Ok(all)
    }
}

/// What a removal did, in words.
pub(crate) fn removed(name: &str, kept: Option<&Path>) -> String {
    match kept {
        Some(path) => format!("tenant {name} removed; its data is kept in {}", path.display()),
        None => format!("tenant {name} removed; its data is deleted"),
    }
}

/// An ended certificate is refused here, where somebody is looking.
fn not_ended(name: &str, info: CertInfo) -> Result<CertInfo, Trouble> {
    if info.not_after <= SystemTime::now() {
        let at = times::utc(info.not_after);
        return Err(Trouble::CertificateEnded { tenant: name.to_owned(), at });
    }
    Ok(info)
}

/// Redeems a join string. The identity is checked before the string is spent.
fn join_as(name: &str, string: &JoinString, pki: &Path) -> Result<(), Trouble> {
    let identity = &string.identity;
    if identity.tenant.as_str() != name || identity.role != Role::Arbitrator {
        let found = identity.clone();
        return Err(Trouble::Certificate { tenant: name.to_owned(), found });
    }
    if certificate_for(pki, name).is_ok() {
        return Ok(()); // an interrupted attempt has it already
    }
    if string.is_expired(SystemTime::now()) {
        return Err(Trouble::JoinExpired { identity: identity.clone() });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Trouble::io("starting a runtime for", pki))?;
    let result = runtime.block_on(join::join(string, pki)).map(|_| ());
    runtime.shutdown_background();
    Ok(result?)
}
