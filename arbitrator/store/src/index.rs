//! The index: a sled database for questions, rebuildable from the journals.
//!
//! One index serves all tenants of a process. It answers history newest first, attributes and
//! status. Nothing safety depends on reads from it. Each tenant has a mark: how far in its ledger
//! the index has got; mark and rows change in one transaction, so after a killed process the mark
//! says exactly what is there, and the caller continues from it.
//!
//! After a power cut, or when there is damage, `needs_rebuild` is set and all marks are at zero.
//! The rows of status and attributes are gone then; rows of history that are still readable stay,
//! because the journals may not reach back as far. Writing them again is harmless: same key, same
//! value. A damaged database is renamed to `index.damaged-N` for a look.
//!
//! Layout of `dir`: `index/` (sled), `session` (see there), `index.damaged-N/`.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::Transactional;
use sled::transaction::TransactionError;

use crate::error::IndexError;
use crate::limits;
use crate::session::{Session, State};

const SLED: &str = "index";
const DAMAGED: &str = "index.damaged-";
const FORMAT_KEY: &[u8] = b"format";

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Key: [`HistoryKey`].
    History,
    /// Key: chosen by the caller.
    Attributes,
    /// Key: chosen by the caller.
    Status,
}

/// Place of a row of history: log index, then a number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryKey {
    /// Index in the ledger.
    pub log_index: u64,
    /// Which of several rows of that entry.
    pub sub: u32,
}

impl HistoryKey {
    fn bytes(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.log_index.to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    fn from_bytes(key: &[u8]) -> Option<HistoryKey> {
        let (log_index, sub) = key.split_first_chunk::<8>()?;
        let sub = sub.try_into().ok().map(u32::from_be_bytes)?;
        Some(HistoryKey { log_index: u64::from_be_bytes(*log_index), sub })
    }
}

/// How far the index has got with a tenant: everything up to this log index is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppliedMark(pub u64);

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Changes for one tenant, applied together.
#[derive(Clone, Debug, Default)]
pub struct IndexBatch {
    changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl IndexBatch {
    /// Adds a row of history.
    pub fn history(&mut self, key: HistoryKey, value: Vec<u8>) {
        self.changes.push((Table::History, key.bytes().to_vec(), Some(value)));
    }

    /// Sets a row of attributes or status.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.changes.push((table, key.to_vec(), Some(value)));
    }

    /// Removes a row of attributes or status.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.changes.push((table, key.to_vec(), None));
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// An opened index and what to do about it.
#[derive(Debug)]
pub struct OpenedIndex {
    /// The index.
    pub index: Index,
    /// All marks are at zero: feed it everything that the journals retain.
    pub needs_rebuild: bool,
    /// Where a damaged one was put.
    pub set_aside: Option<PathBuf>,
}

/// The open index.
#[derive(Debug)]
pub struct Index {
    dir: PathBuf,
    session: Session,
    db: sled::Db,
    history: sled::Tree,
    attributes: sled::Tree,
    status: sled::Tree,
    marks: sled::Tree,
}

struct Trees {
    db: sled::Db,
    history: sled::Tree,
    attributes: sled::Tree,
    status: sled::Tree,
    marks: sled::Tree,
}

// --- opening ------------------------------------------------------------------------------------

impl Index {
    /// Opens the index in `dir`, sets a damaged one aside, makes a new one where there is none.
    pub fn open(dir: &Path) -> Result<OpenedIndex, IndexError> {
        let io = |doing| move |source| IndexError::Io { doing, dir: dir.to_path_buf(), source };
        std::fs::create_dir_all(dir).map_err(io("creating its directory"))?;
        let session = Session::open(&dir.join("session")).map_err(io("opening its session"))?;
        let Some(mut session) = session else {
            return Err(IndexError::Locked { dir: dir.to_path_buf() });
        };
        let last = session.last().map_err(io("reading its session"))?;
        let attempts = match last {
            Some((State::Opening(attempts), _)) => attempts,
            _ => 0,
        };
        let existed = dir.join(SLED).exists();
        let doomed =
            matches!(last, Some((State::Damaged, _))) || attempts >= limits::INDEX_OPEN_ATTEMPTS;
        let mut set_aside = None;
        if existed && doomed {
            set_aside = Some(put_aside(dir, "the last session ended in it")?);
        }
        let attempts = if doomed { 1 } else { attempts + 1 };
        session.note(State::Opening(attempts)).map_err(io("noting its session"))?;

        let closed_whole = match last {
            Some((State::Closed(checksum), _)) if existed && set_aside.is_none() => {
                let found = checksum_of(&dir.join(SLED)).map_err(io("reading it"))?;
                if found != checksum {
                    set_aside = Some(put_aside(dir, "its files have changed since it was closed")?);
                }
                found == checksum
            }
            _ => false,
        };
        let expected = match last {
            _ if !existed || set_aside.is_some() => Expected::Nothing,
            _ if closed_whole => Expected::Whole,
            Some((State::Open, _)) => Expected::Used,
            _ => Expected::Anything,
        };
        let trees = match open_sled(dir, expected)? {
            Ok(trees) => trees,
            Err(what) => {
                set_aside = Some(put_aside(dir, &what)?);
                open_sled(dir, Expected::Nothing)?
                    .map_err(|what| IndexError::Damaged { dir: dir.to_path_buf(), what })?
            }
        };
        let trusted = existed
            && set_aside.is_none()
            && matches!(
                last,
                Some((State::Closed(_), _) | (State::Open | State::Opening(_), true))
            );
        let Trees { db, history, attributes, status, marks } = trees;
        let index =
            Index { dir: dir.to_path_buf(), session, db, history, attributes, status, marks };
        if !trusted {
            for tree in [&index.attributes, &index.status, &index.marks] {
                index.met(tree.clear())?;
            }
            index.sync()?;
        }
        index.session.note(State::Open).map_err(io("noting its session"))?;
        Ok(OpenedIndex { index, needs_rebuild: !trusted, set_aside })
    }

    /// Makes everything durable and closes in order: the next opening trusts it.
    pub fn close(self) -> Result<(), IndexError> {
        self.sync()?;
        let Index { dir, session, db, history, attributes, status, marks } = self;
        // sled writes its last bytes when the last handle goes.
        drop((history, attributes, status, marks, db));
        let noted = checksum_of(&dir.join(SLED)).and_then(|sum| session.note(State::Closed(sum)));
        noted.map_err(|source| IndexError::Io { doing: "closing it", dir, source })
    }
}

/// What must be found in the database.
#[derive(Clone, Copy)]
enum Expected {
    /// It is new.
    Nothing,
    /// Opening it was interrupted: it may not even have been begun.
    Anything,
    /// It was in use and not closed.
    Used,
    /// It was closed, and its files are as they were.
    Whole,
}

/// One number for all files of the database, names included. sled makes empty or shorter databases
/// of some damaged files and panics over others, so it is not shown files that have changed.
fn checksum_of(dir: &Path) -> io::Result<u32> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    let mut sum = 0;
    let mut piece = vec![0; 64 * 1024];
    for path in files {
        let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
        sum = crc32c::crc32c_append(sum, name);
        let mut file = File::open(&path)?;
        loop {
            let got = file.read(&mut piece)?;
            if got == 0 {
                break;
            }
            sum = crc32c::crc32c_append(sum, &piece[..got]);
        }
    }
    Ok(sum)
}

/// Without an orderly end there is no checksum, and sled finds damage in the middle only when it
/// is read. So everything is read once, here, where dying of it is counted.
fn verify(trees: &Trees, expected: Expected) -> sled::Result<Result<(), String>> {
    match (trees.db.get(FORMAT_KEY)?, expected) {
        (Some(found), _) if *found != limits::FORMAT_VERSION.to_le_bytes() => {
            return Ok(Err("it has another format".to_owned()));
        }
        (None, Expected::Used | Expected::Whole) => {
            return Ok(Err("it was used and is empty".to_owned()));
        }
        _ => {}
    }
    if matches!(expected, Expected::Used | Expected::Anything) {
        for tree in [&trees.history, &trees.attributes, &trees.status, &trees.marks] {
            for row in tree {
                row?;
            }
        }
    }
    trees.db.insert(FORMAT_KEY, &limits::FORMAT_VERSION.to_le_bytes())?;
    Ok(Ok(()))
}

/// Opens sled. The outer error is the system's and says nothing about the database; the inner one
/// is damage, in words.
fn open_sled(dir: &Path, expected: Expected) -> Result<Result<Trees, String>, IndexError> {
    let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<Result<Trees, String>> {
        let db = sled::Config::new()
            .path(dir.join(SLED))
            .cache_capacity(limits::INDEX_CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false)
            .open()?;
        let trees = Trees {
            history: db.open_tree("history")?,
            attributes: db.open_tree("attributes")?,
            status: db.open_tree("status")?,
            marks: db.open_tree("marks")?,
            db,
        };
        Ok(verify(&trees, expected)?.map(|()| trees))
    }));
    match opened {
        Ok(Ok(trees)) => Ok(trees),
        Ok(Err(sled::Error::Io(source))) if is_the_systems(&source) => {
            Err(IndexError::Io { doing: "opening it", dir: dir.to_path_buf(), source })
        }
        Ok(Err(e)) => Ok(Err(e.to_string())),
        Err(_) => Ok(Err("sled panicked while opening it".to_owned())),
    }
}

/// An error of the system carries its number; sled makes up its own for what it cannot read.
fn is_the_systems(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || error.to_string().contains("acquire lock")
}

/// Renames the database and deletes the oldest renamed ones beyond the bound.
fn put_aside(dir: &Path, why: &str) -> Result<PathBuf, IndexError> {
    let io = |source| IndexError::Io {
        doing: "setting the damaged one aside",
        dir: dir.to_path_buf(),
        source,
    };
    let mut kept: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(DAMAGED));
        kept.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    kept.sort_unstable();
    let to = dir.join(format!("{DAMAGED}{}", kept.last().map_or(1, |last| last + 1)));
    tracing::warn!(to = %to.display(), why, "the index is damaged; it is set aside and rebuilt");
    std::fs::rename(dir.join(SLED), &to).map_err(io)?;
    let beyond = (kept.len() + 1).saturating_sub(limits::INDEX_DAMAGED_KEPT);
    for number in &kept[..beyond] {
        std::fs::remove_dir_all(dir.join(format!("{DAMAGED}{number}"))).map_err(io)?;
    }
    Ok(to)
}

// --- use ----------------------------------------------------------------------------------------

impl Index {
    /// Applies a batch and moves the mark, in one transaction. Not durable before [`Index::sync`],
    /// and need not be.
    pub fn apply(
        &self,
        tenant: &str,
        batch: &IndexBatch,
        mark: Option<AppliedMark>,
    ) -> Result<(), IndexError> {
        let owner = tenant_prefix(tenant)?;
        for (_, key, value) in &batch.changes {
            check_size("a key", key.len(), limits::INDEX_KEY_MAX_BYTES)?;
            let size = value.as_ref().map_or(0, Vec::len);
            check_size("a value", size, limits::INDEX_VALUE_MAX_BYTES)?;
        }
        let trees = (&self.history, &self.attributes, &self.status, &self.marks);
        let done = trees.transaction(|(history, attributes, status, marks)| {
            for (table, key, value) in &batch.changes {
                let tree = match table {
                    Table::History => history,
                    Table::Attributes => attributes,
                    Table::Status => status,
                };
                let key = [owner.as_slice(), key].concat();
                match value {
                    Some(value) => drop(tree.insert(key, value.as_slice())?),
                    None => drop(tree.remove(key)?),
                }
            }
            if let Some(mark) = mark {
                marks.insert(owner.as_slice(), &mark.0.to_be_bytes())?;
            }
            Ok(())
        });
        self.met(done.map_err(|error: TransactionError<()>| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(()) => sled::Error::Unsupported("aborted".to_owned()),
        }))
    }

    /// One row.
    pub fn get(
        &self,
        table: Table,
        tenant: &str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let key = [tenant_prefix(tenant)?.as_slice(), key].concat();
        Ok(self.met(self.tree(table).get(key))?.map(|value| value.to_vec()))
    }

    /// Rows of history, newest first, older than `before` (or the newest), at most `limit`.
    pub fn newest(
        &self,
        tenant: &str,
        before: Option<HistoryKey>,
        limit: usize,
    ) -> Result<Vec<(HistoryKey, Vec<u8>)>, IndexError> {
        let from = tenant_prefix(tenant)?;
        let to = match before {
            Some(key) => [from.as_slice(), &key.bytes()].concat(),
            None => end_of(&from),
        };
        let mut rows = Vec::new();
        let range = self.history.range(from.clone()..to).rev();
        for row in range.take(limit.min(limits::INDEX_ROWS_MAX)) {
            let (key, value) = self.met(row)?;
            if let Some(key) = HistoryKey::from_bytes(&key[from.len()..]) {
                rows.push((key, value.to_vec()));
            }
        }
        Ok(rows)
    }

    /// Rows whose key begins with `prefix`, in order of key, at most `limit`.
    pub fn with_prefix(
        &self,
        table: Table,
        tenant: &str,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, IndexError> {
        let owner = tenant_prefix(tenant)?;
        let prefix = [owner.as_slice(), prefix].concat();
        let rows = self.tree(table).scan_prefix(prefix);
        rows.take(limit.min(limits::INDEX_ROWS_MAX))
            .map(|row| {
                let (key, value) = self.met(row)?;
                Ok((key[owner.len()..].to_vec(), value.to_vec()))
            })
            .collect()
    }

    /// How far the index has got with a tenant; zero when it has not begun.
    pub fn applied_mark(&self, tenant: &str) -> Result<AppliedMark, IndexError> {
        let mark = self.met(self.marks.get(tenant_prefix(tenant)?))?;
        let mark = mark.and_then(|bytes| bytes.as_ref().try_into().ok());
        Ok(AppliedMark(mark.map_or(0, u64::from_be_bytes)))
    }

    /// Moves the mark alone; [`Index::apply`] moves it together with rows.
    pub fn set_applied_mark(&self, tenant: &str, mark: AppliedMark) -> Result<(), IndexError> {
        self.apply(tenant, &IndexBatch::default(), Some(mark))
    }

    /// Removes everything of a tenant.
    pub fn forget(&self, tenant: &str) -> Result<(), IndexError> {
        let owner = tenant_prefix(tenant)?;
        self.met(self.marks.remove(&owner))?;
        for tree in [&self.history, &self.attributes, &self.status] {
            for key in tree.scan_prefix(&owner).keys() {
                self.met(tree.remove(self.met(key)?))?;
            }
        }
        Ok(())
    }

    /// Makes everything durable. sled's own flush does not: it never calls fsync, so its file is
    /// synced here. Worth doing every minute or so: it bounds what a power cut makes us rebuild.
    pub fn sync(&self) -> Result<(), IndexError> {
        self.met(self.db.flush())?;
        let synced = File::open(self.dir.join(SLED).join("db")).and_then(|file| file.sync_data());
        let dir = self.dir.clone();
        synced.map_err(|source| IndexError::Io { doing: "syncing it", dir, source })?;
        Ok(())
    }

    /// Bytes on the disk.
    pub fn size_on_disk(&self) -> Result<u64, IndexError> {
        self.met(self.db.size_on_disk())
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        match table {
            Table::History => &self.history,
            Table::Attributes => &self.attributes,
            Table::Status => &self.status,
        }
    }

    fn note(&self, state: State) -> Result<(), IndexError> {
        let dir = self.dir.clone();
        let noted = self.session.note(state);
        noted.map_err(|source| IndexError::Io { doing: "noting its session", dir, source })
    }

    /// Takes sled's word; damage is noted, so that the next opening sets it aside.
    fn met<T>(&self, result: sled::Result<T>) -> Result<T, IndexError> {
        let dir = self.dir.clone();
        match result {
            Ok(value) => Ok(value),
            Err(sled::Error::Io(source)) if is_the_systems(&source) => {
                Err(IndexError::Io { doing: "using it", dir, source })
            }
            Err(error) => {
                self.note(State::Damaged)?;
                Err(IndexError::Damaged { dir, what: error.to_string() })
            }
        }
    }
}

fn tenant_prefix(tenant: &str) -> Result<Vec<u8>, IndexError> {
    check_size("a tenant name", tenant.len(), limits::NAME_MAX_BYTES)?;
    if tenant.contains('\0') {
        return Err(IndexError::BadTenant);
    }
    Ok([tenant.as_bytes(), &[0]].concat())
}

/// The first key after all keys of a tenant: its NUL becomes the byte after NUL.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), IndexError> {
    if size <= limit { Ok(()) } else { Err(IndexError::TooLarge { what, size, limit }) }
}
