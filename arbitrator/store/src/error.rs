//! What can go wrong, what it means, and what to do next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::Owner;
use crate::limits::ROOM_BYTES;

/// Why a store refuses. `Display` says what happened; [`StoreError::effect`] and
/// [`StoreError::next_step`] say the rest. Cloneable, because one failed group commit is the
/// answer to several batches.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no store here.
    #[error("{dir} holds no store", dir = .dir.display())]
    Empty {
        /// Where one was expected.
        dir: PathBuf,
    },
    /// A new store needs an empty directory.
    #[error("{dir} is not empty, so no store is created in it", dir = .dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The store is another voter's.
    #[error("the store belongs to {found}, not to {expected}")]
    Foreign {
        /// Who asked.
        expected: Owner,
        /// Whose it is.
        found: Owner,
    },
    /// Written by an older release whose format this one does not read.
    #[error("the store has format {found}, older than {oldest}, the oldest that is read here")]
    OlderFormat {
        /// Version found.
        found: u32,
        /// Oldest version read.
        oldest: u32,
    },
    /// Written by a newer release.
    #[error("the store has format {found}, newer than {newest}, the newest that is read here")]
    NewerFormat {
        /// Version found.
        found: u32,
        /// Newest version read.
        newest: u32,
    },
    /// Something is wrong that no crash of a sound disk can leave behind.
    #[error("{file} is damaged at byte {offset}: {what}", file = .file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// Another process has it open.
    #[error("the store is in use{}", .pid.map_or(String::new(), |pid| format!(" by process {pid}")))]
    Locked {
        /// Which process, if it left its number.
        pid: Option<u32>,
    },
    /// The disk or the quota is full.
    #[error("no space left while {doing} {file}", file = .file.display())]
    Full {
        /// The step that failed.
        doing: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// There is too little room to begin: the next decision would stop the voter again.
    #[error("no space left in {dir}: {} KiB are free, and {} KiB are needed to begin",
            .free >> 10, ROOM_BYTES >> 10, dir = .dir.display())]
    NoRoom {
        /// Where.
        dir: PathBuf,
        /// Bytes that are free there.
        free: u64,
    },
    /// The system refused a read, a write or a sync.
    #[error("{doing} {file} failed: {source}", file = .file.display())]
    Io {
        /// The step that failed.
        doing: &'static str,
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// An earlier failure; nothing is tried again.
    #[error("the store stopped after an earlier failure: {cause}")]
    Poisoned {
        /// The first failure, in words.
        cause: Arc<str>,
    },
    /// The request breaks a bound; nothing was written and the store goes on.
    #[error("{what} of {size} is over the bound of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// The name cannot be written into a control file.
    #[error("a name is not usable: {what}")]
    BadName {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl StoreError {
    /// What this means for the voter.
    pub fn effect(&self) -> &'static str {
        match self {
            StoreError::Empty { .. } => "there is no voter here: nothing is promised or voted",
            StoreError::NotEmpty { .. } => "nothing was created and nothing was changed",
            StoreError::Foreign { .. } => "it is not this voter's truth: this voter does not run",
            StoreError::OlderFormat { .. } | StoreError::NewerFormat { .. } => {
                "nothing was changed; this release does not run on it"
            }
            StoreError::Damaged { .. } => {
                "acknowledged decisions may be gone: this store is no voter any more (R5)"
            }
            StoreError::Locked { .. } => "nothing was changed; the other process keeps the store",
            StoreError::Full { .. } | StoreError::Io { .. } | StoreError::Poisoned { .. } => {
                "what was not acknowledged may be lost; the voter must stop (R6)"
            }
            StoreError::NoRoom { .. } => {
                "nothing was changed; the voter does not begin, and what it has answered is safe"
            }
            StoreError::TooLarge { .. } | StoreError::BadName { .. } => {
                "nothing was written; the store goes on"
            }
        }
    }

    /// What to do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            StoreError::Empty { .. } => "create the store, or have the member re-admitted",
            StoreError::NotEmpty { .. } => "name another directory, or look at what is in this one",
            StoreError::Foreign { .. } => "check tenant, member name and data directory",
            StoreError::OlderFormat { .. } => "upgrade it with the release that follows its own",
            StoreError::NewerFormat { .. } => "run the release that wrote it, or a newer one",
            StoreError::Damaged { .. } => {
                "keep the directory for a look, check the disk, re-admit the member"
            }
            StoreError::Locked { .. } => "stop the other process, or leave it to its work",
            StoreError::Full { .. } | StoreError::NoRoom { .. } => {
                "free space: it begins again by itself, and what was answered is safe"
            }
            StoreError::Io { .. } | StoreError::Poisoned { .. } => {
                "read the kernel log for this disk, then start again"
            }
            StoreError::TooLarge { .. } => "make it smaller, or checkpoint first",
            StoreError::BadName { .. } => "choose a shorter name without control characters",
        }
    }

    /// True when the process must stop (R6): going on could answer from memory that no disk has.
    pub fn must_stop(&self) -> bool {
        !matches!(self, StoreError::TooLarge { .. } | StoreError::BadName { .. })
    }
}

/// Why the index refuses. None of these touches the truth.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has it open.
    #[error("the index in {dir} is in use by another process", dir = .dir.display())]
    Locked {
        /// Where.
        dir: PathBuf,
    },
    /// Damage was met while it was open. It is marked and will be set aside at the next opening.
    #[error("the index in {dir} is damaged ({what}); open it again and rebuild it",
            dir = .dir.display())]
    Damaged {
        /// Where.
        dir: PathBuf,
        /// What sled said.
        what: String,
    },
    /// The system refused.
    #[error("the index in {dir} failed while {doing}: {source}", dir = .dir.display())]
    Io {
        /// The step that failed.
        doing: &'static str,
        /// Where.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key, a value or a tenant name breaks its bound; nothing was written.
    #[error("{what} of {size} bytes is over the bound of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// The tenant name holds a NUL, which separates names from keys.
    #[error("a tenant name with a NUL byte cannot be indexed")]
    BadTenant,
}
