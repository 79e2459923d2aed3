//! A folder that always holds one whole CIB.
//!
//! A crash at any moment leaves the CIB before or the CIB after, never a part, and never one that
//! looks edited by hand. The order of a write:
//! 1. the new digest goes to `cib.xml.sig.next`, durably;
//! 2. the CIB there is gets a second name, `cib-N.raw`, with its digest;
//! 3. the new CIB is written beside, synced, and takes the name `cib.xml`: this is the moment;
//! 4. `cib.xml.sig.next` takes the name `cib.xml.sig`; versions beyond the last ten go.
//!
//! Opening takes the CIB if its digest is either of the two, and finishes what was begun. Any other
//! digest means that somebody edited the file behind the cluster's back: that is refused, because
//! nobody else would ever hear of it. One process at a time, by a lock on the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tierce_cib::canonical::disk_digest;
use tierce_cib::version::{NoVersion, Version};
use tierce_cib::xml::{Document, Element, ParseError};

/// How many versions before the last are kept.
pub const KEPT: usize = 10;

const CIB: &str = "cib.xml";
const DIGEST: &str = "cib.xml.sig";
const DIGEST_NEXT: &str = "cib.xml.sig.next";
const NEW: &str = "cib.xml.new";
const LOCK: &str = "cib.lock";

/// Why a store is not opened or written: what happened; what follows; what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{}: {error}; the CIB on disk is as it was; see to the disk and try again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "{} is in use by another process; nothing was done; wait for it, or stop it first",
        .0.display()
    )]
    Locked(PathBuf),
    /// The file is not what was written.
    #[error(
        "{} was edited by hand: its digest is {found}, {expected} was written; it is not used, \
         because no other node would hear of the change; move the file away, put the newest \
         cib-N.raw in its place, and make the change with tierce cib push",
        path.display()
    )]
    Edited {
        /// The file.
        path: PathBuf,
        /// The digest that was written.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// The file is no XML.
    #[error(
        "{}: {error}; it is not used; move the file away and put the newest cib-N.raw in its place",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why it can not be read.
        error: ParseError,
    },
    /// A CIB without version.
    #[error("{0}; nothing was written; write all three numbers")]
    NoVersion(#[from] NoVersion),
    /// The new version is not newer.
    #[error(
        "the store has version {stored}, the new one is {new}; nothing was written; begin at the \
         newest CIB and raise epoch (or admin_epoch, to have the last word)"
    )]
    NotNewer {
        /// What is stored.
        stored: Version,
        /// What was to be written.
        new: Version,
    },
}

impl StoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |error| StoreError::Io { path: path.to_owned(), error }
    }
}

/// Which versions may follow the one that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Only higher ones.
    Newer,
    /// Any: an operator's word.
    Any,
}

/// A version that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number: the highest is the newest.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
}

/// Reads the CIB of a folder that another process may be writing to; nothing if there is none.
pub fn peek(folder: &Path) -> Result<Option<Document>, StoreError> {
    // Between the new CIB and its digest a writer is for a moment; three in a row are no chance.
    let mut found = read_at(folder, &[DIGEST, DIGEST_NEXT]);
    for _ in 0..2 {
        if !matches!(found, Err(StoreError::Edited { .. })) {
            break;
        }
        found = read_at(folder, &[DIGEST, DIGEST_NEXT]);
    }
    found
}

/// The CIB of a folder, if its digest is in one of the files.
fn read_at(folder: &Path, digests: &[&str]) -> Result<Option<Document>, StoreError> {
    let Some(doc) = parse_at(folder, CIB)? else {
        return Ok(None);
    };
    let found = disk_digest(doc.root());
    let mut expected = None;
    for name in digests {
        let digest = text_at(folder, name)?.map(|text| text.trim().to_owned());
        if digest.as_ref() == Some(&found) {
            return Ok(Some(doc));
        }
        expected = expected.or(digest);
    }
    let expected = expected.unwrap_or_else(|| "none".to_owned());
    Err(StoreError::Edited { path: folder.join(CIB), expected, found })
}

fn text_at(folder: &Path, name: &str) -> Result<Option<String>, StoreError> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::Io { path, error }),
    }
}

fn parse_at(folder: &Path, name: &str) -> Result<Option<Document>, StoreError> {
    let Some(text) = text_at(folder, name)? else {
        return Ok(None);
    };
    let path = folder.join(name);
    Document::parse(text).map(Some).map_err(|error| StoreError::Unreadable { path, error })
}

/// The folder of a CIB, locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Opens a folder, makes it if it is not there, and finishes a write that was interrupted.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let path = folder.join(LOCK);
        let file = private().create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io(&path))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(StoreError::Locked(folder.to_owned()));
            }
            Err((_, error)) => return Err(StoreError::Io { path, error: error.into() }),
        };
        let store = Store { folder: folder.to_owned(), _lock: lock };
        store.finish()?;
        Ok(store)
    }

    /// The CIB that is stored; nothing if there is none yet.
    pub fn read(&self) -> Result<Option<Document>, StoreError> {
        read_at(&self.folder, &[DIGEST])
    }

    /// Writes a CIB, durably, without its status.
    pub fn write(&self, doc: &Document, rule: Rule) -> Result<Version, StoreError> {
        let stored = self.read()?;
        let new = Version::of(doc.root())?;
        let before = stored.as_ref().map(|stored| Version::of(stored.root())).transpose()?;
        if let Some(stored) = before
            && rule == Rule::Newer
            && (new.admin_epoch, new.epoch) <= (stored.admin_epoch, stored.epoch)
        {
            return Err(StoreError::NotNewer { stored, new });
        }
        let text = on_disk(doc).write();
        let path = self.folder.join(NEW);
        let read = Document::parse(text.clone())
            .map_err(|error| StoreError::Unreadable { path, error })?;
        self.create(DIGEST_NEXT, &format!("{}\n", disk_digest(read.root())))?;
        self.create(NEW, &text)?;
        self.sync()?;
        if stored.is_some() {
            self.keep()?;
        }
        self.rename(NEW, CIB)?;
        self.sync()?;
        self.rename(DIGEST_NEXT, DIGEST)?;
        self.forget()?;
        self.sync()?;
        Version::of(read.root()).map_err(StoreError::from)
    }

    /// The versions before, the newest first.
    pub fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        let mut kept = Vec::new();
        let entries = fs::read_dir(&self.folder).map_err(StoreError::io(&self.folder))?;
        for entry in entries {
            let path = entry.map_err(StoreError::io(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let number = name.strip_prefix("cib-").and_then(|rest| rest.strip_suffix(".raw"));
            if let Some(number) = number.and_then(|text| text.parse().ok()) {
                kept.push(Kept { number, path });
            }
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.number));
        Ok(kept)
    }

    /// Finishes a write whose moment had come, and forgets one whose had not.
    fn finish(&self) -> Result<(), StoreError> {
        let Some(next) = text_at(&self.folder, DIGEST_NEXT)? else {
            return self.remove(NEW);
        };
        if let Some(doc) = parse_at(&self.folder, CIB)?
            && disk_digest(doc.root()) == next.trim()
        {
            self.rename(DIGEST_NEXT, DIGEST)?;
        } else {
            self.remove(DIGEST_NEXT)?;
        }
        self.remove(NEW)?;
        self.sync()
    }

    /// Gives the stored CIB a second name, under the next number.
    fn keep(&self) -> Result<(), StoreError> {
        let number = self.kept()?.first().map_or(0, |newest| newest.number) + 1;
        let name = format!("cib-{number}.raw");
        // The digest first: a version without one can not be told from an edited one.
        for (from, to) in [(DIGEST, format!("{name}.sig")), (CIB, name)] {
            let to = self.folder.join(to);
            self.remove_path(&to)?;
            fs::hard_link(self.folder.join(from), &to).map_err(StoreError::io(&to))?;
        }
        Ok(())
    }

    fn forget(&self) -> Result<(), StoreError> {
        for old in self.kept()?.into_iter().skip(KEPT) {
            self.remove_path(&old.path)?;
            self.remove_path(&old.path.with_extension("raw.sig"))?;
        }
        Ok(())
    }

    fn create(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let write = || {
            let mut file = private().create(true).truncate(true).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(StoreError::io(&path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let to = self.folder.join(to);
        fs::rename(self.folder.join(from), &to).map_err(StoreError::io(&to))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.remove_path(&self.folder.join(name))
    }

    #[expect(clippy::unused_self, reason = "only an open store removes files")]
    fn remove_path(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { path: path.to_owned(), error })
            }
            _ => Ok(()),
        }
    }

    /// Names are durable only once the folder is.
    fn sync(&self) -> Result<(), StoreError> {
        let sync = || File::open(&self.folder)?.sync_all();
        sync().map_err(StoreError::io(&self.folder))
    }
}

/// Files that only the owner reads: a CIB has passwords of fencing devices in it.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// What of a CIB goes to disk: all but the status, which counts from the start of the cluster.
fn on_disk(doc: &Document) -> Document {
    let mut doc = doc.clone();
    let root = doc.root();
    let (id, status) = (root.node_id(), root.child("status").map(Element::node_id));
    if let Some(status) = status {
        doc.remove(status);
    }
    doc.set(id, "num_updates", "0");
    doc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(epoch: u64) -> Document {
        let text = format!(
            "<cib admin_epoch=\"0\" epoch=\"{epoch}\" num_updates=\"7\">\n  <!-- ours -->\n  \
             <configuration/>\n  <status><node_state id=\"1\"/></status>\n</cib>\n"
        );
        Document::parse(text).unwrap()
    }

    fn epoch(store: &Store) -> Option<u64> {
        let doc = store.read().unwrap()?;
        Some(Version::of(doc.root()).unwrap().epoch)
    }

    #[test]
    fn what_is_written_is_read_without_status_and_the_last_ten_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(epoch(&store), None);
        for number in 1..=15 {
            store.write(&cib(number), Rule::Newer).unwrap();
        }
        assert_eq!(epoch(&store), Some(15));
        let text = fs::read_to_string(folder.path().join(CIB)).unwrap();
        assert!(text.contains("num_updates=\"0\"") && !text.contains("status"), "{text}");
        assert!(text.contains("  <!-- ours -->"), "{text}");
        let kept = store.kept().unwrap();
        assert_eq!(
            kept.iter().map(|kept| kept.number).collect::<Vec<_>>(),
            (5..15).rev().collect::<Vec<_>>()
        );
        let oldest = fs::read_to_string(&kept[9].path).unwrap();
        assert!(oldest.contains("epoch=\"5\""), "{oldest}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3 + 2 * KEPT);
    }

    #[test]
    fn an_older_version_is_refused_unless_somebody_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.write(&cib(5), Rule::Newer).unwrap();
        for number in [4, 5] {
            let error = store.write(&cib(number), Rule::Newer).unwrap_err();
            assert!(matches!(error, StoreError::NotNewer { .. }), "{error}");
        }
        assert_eq!(epoch(&store), Some(5));
        store.write(&cib(4), Rule::Any).unwrap();
        assert_eq!(epoch(&store), Some(4));
    }

    #[test]
    fn a_file_that_was_edited_by_hand_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.write(&cib(5), Rule::Newer).unwrap();
        let path = folder.path().join(CIB);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("epoch=\"5\"", "epoch=\"6\"")).unwrap();
        let error = store.read().unwrap_err();
        assert!(matches!(error, StoreError::Edited { .. }), "{error}");
        assert_eq!(error.to_string().split("; ").count(), 3, "{error}");
        assert!(store.write(&cib(9), Rule::Any).is_err(), "it is not written over either");
        // Blanks and line breaks are no change.
        fs::write(&path, text.replace("\n  ", "\n")).unwrap();
        assert_eq!(epoch(&store), Some(5));
    }

    #[test]
    fn two_processes_do_not_share_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Locked(_))));
        assert!(peek(folder.path()).unwrap().is_none(), "reading needs no lock");
        first.write(&cib(5), Rule::Newer).unwrap();
        assert!(peek(folder.path()).unwrap().is_some());
        drop(first);
        assert!(Store::open(folder.path()).is_ok());
    }

    #[test]
    fn an_interrupted_write_is_finished_or_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = Store::open(folder.path()).unwrap();
        store.write(&cib(1), Rule::Newer).unwrap();
        let (old, old_digest) = (fs::read(at(CIB)).unwrap(), fs::read(at(DIGEST)).unwrap());
        store.write(&cib(2), Rule::Newer).unwrap();
        let (new, new_digest) = (fs::read(at(CIB)).unwrap(), fs::read(at(DIGEST)).unwrap());
        drop(store);
        let seen = || Version::of(peek(folder.path()).unwrap().unwrap().root()).unwrap().epoch;
        // Before the moment: the new one is only beside.
        fs::write(at(CIB), &old).unwrap();
        fs::write(at(DIGEST), &old_digest).unwrap();
        fs::write(at(DIGEST_NEXT), &new_digest).unwrap();
        assert_eq!(seen(), 1);
        fs::write(at(NEW), &new[..new.len() / 2]).unwrap();
        assert_eq!(epoch(&Store::open(folder.path()).unwrap()), Some(1));
        assert!(!at(NEW).exists() && !at(DIGEST_NEXT).exists());
        // After it: only its digest has not taken its name.
        fs::write(at(CIB), &new).unwrap();
        fs::write(at(DIGEST_NEXT), &new_digest).unwrap();
        assert_eq!(seen(), 2);
        assert_eq!(epoch(&Store::open(folder.path()).unwrap()), Some(2));
    }
}
