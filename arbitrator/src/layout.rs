//! The data directory: which tenants there are, and who may change that now.
//!
//! The directory is the configuration, so it must never be half of something. A tenant is prepared
//! beside its place (`tenants/.NAME.new`) and appears by one rename; it leaves by one rename. The
//! daemon holds `lock` for as long as it runs and has written into it where it takes commands;
//! commands that find the lock free hold it while they work, so a daemon that starts at the same
//! moment waits for them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg};
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use serde::{Deserialize, Serialize};
use tierce_link::pki::{CA_FILE, CERT_FILE, CRL_FILE, KEY_FILE, MemberDir};
use tierce_link::{CertInfo, Role, Tenant, TenantQuota};

use crate::times;
use crate::trouble::Trouble;

/// Largest file of ours that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What one tenant may use of the arbitrator.
///
/// Connections and datagrams are enforced by the link. Tickets and store are the tenant's own
/// decisions, which a voter cannot refuse without being another voter than its peers: they are
/// reported when over the quota. Only a store over twice its quota stops the tenant's member, since
/// the disk is everybody's, and a stopped voter is a safe one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Connections at once.
    pub max_connections: usize,
    /// Datagrams per second that each connection may bring in.
    pub datagrams_per_second: u32,
    /// Tickets.
    pub max_tickets: u32,
    /// Bytes of the store.
    pub store_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        // A site renews a few times per second whatever the number of its tickets; seven voters are
        // the most that a cluster has; a store with its audit history stays below 256 MiB.
        Self {
            max_connections: 16,
            datagrams_per_second: 500,
            max_tickets: 16_384,
            store_bytes: 512 << 20,
        }
    }
}

impl Quota {
    /// The link's part.
    pub(crate) fn link(&self) -> TenantQuota {
        TenantQuota {
            max_connections: self.max_connections,
            datagrams_per_second: self.datagrams_per_second,
            datagram_burst: (self.datagrams_per_second / 4).max(16),
        }
    }

    pub(crate) fn check(&self, path: &Path) -> Result<(), Trouble> {
        let bad = |what: &str| Err(Trouble::File { path: path.to_owned(), what: what.to_owned() });
        if self.max_connections == 0 || self.datagrams_per_second == 0 {
            return bad("connections and datagrams per second must be above zero");
        }
        if self.store_bytes < 1 << 20 {
            return bad("the store needs a quota of 1 MiB at least");
        }
        Ok(())
    }
}

/// The data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// One tenant's part of it.
#[derive(Clone, Debug)]
pub(crate) struct TenantDir {
    dir: PathBuf,
}

/// A place where a tenant is prepared.
#[derive(Debug)]
pub(crate) struct Staged {
    dir: PathBuf,
}

/// Who holds the directory.
pub(crate) enum Held {
    /// We do, until this is dropped.
    Ours(Lock),
    /// A running process.
    Theirs(Holder),
}

/// The lock, and the file behind it.
pub(crate) struct Lock(Flock<File>);

/// What a daemon writes into its lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// Where it takes commands.
    pub(crate) control: Option<PathBuf>,
}

// --- the directory --------------------------------------------------------------------------

impl DataDir {
    /// Makes what is missing; a new directory belongs to `owner`.
    pub(crate) fn prepare(root: &Path, owner: Option<(Uid, Gid)>) -> Result<Self, Trouble> {
        let root = std::path::absolute(root).map_err(Trouble::io("using", root))?;
        let data = Self { root };
        let made = !data.root.exists();
        make_dir(&data.root)?;
        if made && let Some((uid, gid)) = owner {
            chown(&data.root, uid, gid)?;
        }
        data.make(&data.tenants())?;
        Ok(data)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn tenants(&self) -> PathBuf {
        self.root.join("tenants")
    }

    pub(crate) fn dumps(&self) -> PathBuf {
        self.root.join("dumps")
    }

    pub(crate) fn tenant(&self, name: &str) -> TenantDir {
        TenantDir { dir: self.tenants().join(name) }
    }

    /// Makes a directory that belongs to whom the data directory belongs.
    pub(crate) fn make(&self, dir: &Path) -> Result<(), Trouble> {
        make_dir(dir)?;
        self.adopt(dir)
    }

    /// User and group of the directory.
    pub(crate) fn owner(&self) -> Result<(Uid, Gid), Trouble> {
        let meta = fs::metadata(&self.root).map_err(Trouble::io("looking at", &self.root))?;
        Ok((Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid())))
    }

    /// All tenants, by name. What is no tenant's name is named in the second list.
    pub(crate) fn names(&self) -> Result<(Vec<String>, Vec<String>), Trouble> {
        let (mut names, mut strange) = (Vec::new(), Vec::new());
        let dir = self.tenants();
        let listing = fs::read_dir(&dir).map_err(Trouble::io("listing", &dir))?;
        for entry in listing {
            let entry = entry.map_err(Trouble::io("listing", &dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue; // being prepared or taken away
            }
            match Tenant::new(&name) {
                Ok(_) => names.push(name),
                Err(_) => strange.push(name),
            }
        }
        names.sort();
        Ok((names, strange))
    }

    /// When we are root and the directory is not: gives a tree to the directory's owner, without
    /// following links.
    pub(crate) fn adopt(&self, tree: &Path) -> Result<(), Trouble> {
        let (uid, gid) = self.owner()?;
        if !geteuid().is_root() || uid.is_root() {
            return Ok(());
        }
        let meta = fs::symlink_metadata(tree).map_err(Trouble::io("looking at", tree))?;
        if meta.is_dir() {
            for entry in fs::read_dir(tree).map_err(Trouble::io("listing", tree))? {
                self.adopt(&entry.map_err(Trouble::io("listing", tree))?.path())?;
            }
        }
        chown(tree, uid, gid)
    }
}

fn chown(path: &Path, uid: Uid, gid: Gid) -> Result<(), Trouble> {
    fchownat(AT_FDCWD, path, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| Trouble::io("giving away", path)(e.into()))
}

fn make_dir(dir: &Path) -> Result<(), Trouble> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Trouble::io("making", dir))
}

fn sync_dir(dir: &Path) -> Result<(), Trouble> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Trouble::io("syncing", dir))
}

// --- who holds it ---------------------------------------------------------------------------

impl DataDir {
    /// Takes the lock, or says who has it.
    pub(crate) fn lock(&self) -> Result<Held, Trouble> {
        let path = self.root.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Trouble::io("opening", &path))?;
        let mut text = String::new();
        (&mut file)
            .take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(Trouble::io("reading", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                self.adopt(&path)?;
                Ok(Held::Ours(Lock(lock)))
            }
            // An older daemon's words, or none: whoever has the lock now is a command.
            Err((_, nix::errno::Errno::EAGAIN)) => {
                Ok(Held::Theirs(serde_json::from_str(&text).unwrap_or_default()))
            }
            Err((_, e)) => Err(Trouble::io("locking", &path)(e.into())),
        }
    }
}

impl Lock {
    /// Writes into the lock who has it.
    pub(crate) fn sign(&mut self, holder: &Holder) -> std::io::Result<()> {
        let text = serde_json::to_string(holder)?;
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes())
    }
}

// --- one tenant -----------------------------------------------------------------------------

impl TenantDir {
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.exists()
    }

    fn quota_file(&self) -> PathBuf {
        self.dir.join("quota.json")
    }

    /// The quota; a missing file means the defaults.
    pub(crate) fn quota(&self) -> Result<Quota, Trouble> {
        let path = self.quota_file();
        let mut text = String::new();
        match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Quota::default()),
            file => file
                .and_then(|f| f.take(MAX_FILE_BYTES).read_to_string(&mut text))
                .map_err(Trouble::io("reading", &path))?,
        };
        let quota: Quota = serde_json::from_str(&text)
            .map_err(|e| Trouble::File { path: path.clone(), what: e.to_string() })?;
        quota.check(&path)?;
        Ok(quota)
    }

    /// Replaces the quota.
    pub(crate) fn set_quota(&self, quota: &Quota) -> Result<(), Trouble> {
        let path = self.quota_file();
        quota.check(&path)?;
        let text = serde_json::to_string_pretty(quota)
            .map_err(|e| Trouble::File { path: path.clone(), what: e.to_string() })?;
        write_whole(&path, text.as_bytes())
    }

    /// The member's certificate, checked to be this tenant's and an arbitrator's.
    pub(crate) fn certificate(&self, tenant: &str) -> Result<CertInfo, Trouble> {
        certificate_for(&self.pki(), tenant)
    }

    /// Bytes of the store's files.
    pub(crate) fn store_bytes(&self) -> u64 {
        let files = fs::read_dir(self.store()).into_iter().flatten().filter_map(Result::ok);
        files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
    }
}

/// Reads a member's folder and checks that it is an arbitrator's of that tenant.
pub(crate) fn certificate_for(pki: &Path, tenant: &str) -> Result<CertInfo, Trouble> {
    let info = MemberDir::load(pki)?.info;
    if info.identity.tenant.as_str() != tenant || info.identity.role != Role::Arbitrator {
        return Err(Trouble::Certificate { tenant: tenant.to_owned(), found: info.identity });
    }
    Ok(info)
}

/// A file is seen whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let temp = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    write().map_err(Trouble::io("writing", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

// --- coming and going -----------------------------------------------------------------------

impl DataDir {
    /// A place to prepare a tenant in. What an interrupted attempt left there is kept when it
    /// holds a certificate: a join string works only once.
    pub(crate) fn stage(&self, name: &str) -> Result<Staged, Trouble> {
        let dir = self.tenants().join(format!(".{name}.new"));
        if dir.exists() && certificate_for(&dir.join("pki"), name).is_err() {
            fs::remove_dir_all(&dir).map_err(Trouble::io("clearing", &dir))?;
        }
        make_dir(&dir)?;
        Ok(Staged { dir })
    }

    /// Puts a prepared tenant in its place.
    pub(crate) fn commit(&self, staged: &Staged, name: &str) -> Result<(), Trouble> {
        let place = self.tenant(name);
        if place.exists() {
            return Err(Trouble::Exists(name.to_owned()));
        }
        self.adopt(&staged.dir)?;
        sync_dir(&staged.dir)?;
        fs::rename(&staged.dir, place.path()).map_err(Trouble::io("placing", place.path()))?;
        sync_dir(&self.tenants())
    }

    /// Takes a tenant's data away: to `removed/`, or for good. Gives where it is now.
    pub(crate) fn take_away(&self, name: &str, purge: bool) -> Result<Option<PathBuf>, Trouble> {
        let place = self.tenant(name);
        if !place.exists() {
            return Err(Trouble::NoSuch(name.to_owned()));
        }
        let now = times::stamp(SystemTime::now());
        let away = if purge {
            self.tenants().join(format!(".{name}.purged-{now}"))
        } else {
            let removed = self.root.join("removed");
            self.make(&removed)?;
            removed.join(format!("{name}-{now}"))
        };
        // First out of service by one rename; a crash then leaves litter, never half a tenant.
        fs::rename(place.path(), &away).map_err(Trouble::io("taking away", place.path()))?;
        sync_dir(&self.tenants())?;
        if purge {
            fs::remove_dir_all(&away).map_err(Trouble::io("deleting", &away))?;
            return Ok(None);
        }
        Ok(Some(away))
    }
}

impl Staged {
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn tenant(&self) -> TenantDir {
        TenantDir { dir: self.dir.clone() }
    }

    /// Copies a member's folder.
    pub(crate) fn copy_member(&self, from: &Path) -> Result<(), Trouble> {
        let pki = self.pki();
        make_dir(&pki)?;
        for (file, needed) in
            [(CA_FILE, true), (CERT_FILE, true), (KEY_FILE, true), (CRL_FILE, false)]
        {
            let source = from.join(file);
            match fs::read(&source) {
                Ok(bytes) => write_whole(&pki.join(file), &bytes)?,
                Err(e) if !needed && e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Trouble::io("reading", &source)(e)),
            }
        }
        Ok(())
    }

    /// Gives up what was prepared.
    pub(crate) fn discard(&self) {
        // Best effort: the next attempt clears it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::prepare(&dir.path().join("data"), None).unwrap();
        (dir, data)
    }

    #[test]
    fn only_one_process_holds_the_directory_and_it_says_where_it_listens() {
        let (_dir, data) = data();
        let Held::Ours(mut lock) = data.lock().unwrap() else { panic!("it is free") };
        let holder = Holder { pid: Some(7), control: Some("/x/control.sock".into()) };
        lock.sign(&holder).unwrap();
        let Held::Theirs(found) = data.lock().unwrap() else { panic!("it is held") };
        assert_eq!(found, holder);
        drop(lock);
        assert!(matches!(data.lock().unwrap(), Held::Ours(_)));
    }

    #[test]
    fn what_is_being_prepared_is_no_tenant_and_strange_names_are_named() {
        let (_dir, data) = data();
        let staged = data.stage("acme").unwrap();
        fs::create_dir(data.tenants().join("Not-A-Name")).unwrap();
        assert_eq!(data.names().unwrap(), (vec![], vec!["Not-A-Name".to_owned()]));
        data.commit(&staged, "acme").unwrap();
        assert_eq!(data.names().unwrap().0, ["acme"]);
        let again = data.stage("acme").unwrap();
        assert!(matches!(data.commit(&again, "acme"), Err(Trouble::Exists(_))));
    }

    #[test]
    fn a_removed_tenant_is_kept_aside_and_a_purged_one_is_gone() {
        let (_dir, data) = data();
        for (name, purge) in [("kept", false), ("gone", true)] {
            let staged = data.stage(name).unwrap();
            data.commit(&staged, name).unwrap();
            let away = data.take_away(name, purge).unwrap();
            assert_eq!(away.is_none(), purge);
            assert!(away.is_none_or(|a| a.is_dir()));
            assert!(matches!(data.take_away(name, purge), Err(Trouble::NoSuch(_))));
        }
        assert!(data.names().unwrap().0.is_empty());
    }

    #[test]
    fn a_quota_survives_its_file_and_unknown_words_are_refused() {
        let (_dir, data) = data();
        let staged = data.stage("acme").unwrap();
        data.commit(&staged, "acme").unwrap();
        let tenant = data.tenant("acme");
        assert_eq!(tenant.quota().unwrap(), Quota::default());
        let quota = Quota { max_tickets: 7, ..Quota::default() };
        tenant.set_quota(&quota).unwrap();
        assert_eq!(tenant.quota().unwrap(), quota);
        fs::write(tenant.quota_file(), r#"{"max_tickts": 9}"#).unwrap();
        assert!(tenant.quota().unwrap_err().to_string().contains("max_tickts"));
        let none = Quota { max_connections: 0, ..Quota::default() };
        assert!(tenant.set_quota(&none).is_err());
    }
}
