//! Where recordings live: on tmpfs, in a directory that is ours alone.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::{Error, Result};

/// The first usable of `/run/tierce`, `$XDG_RUNTIME_DIR/tierce` and `/dev/shm/tierce-UID`; made
/// when missing.
pub fn default_recorder_dir() -> Result<PathBuf> {
    let mut tried = Vec::new();
    for place in places() {
        match prepare_dir(&place) {
            Ok(()) => return Ok(place),
            Err(e) => tried.push(format!("{}: {e}", place.display())),
        }
    }
    Err(Error::NoPlace { tried: tried.join(", ") })
}

/// The first of the same places that a reboot surely empties, if there is one.
pub fn default_volatile_dir() -> Option<PathBuf> {
    places().into_iter().find(|place| prepare_dir(place).is_ok() && is_volatile(place))
}

/// Whether a directory is on a tmpfs: what is there goes with the power.
pub fn is_volatile(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

fn places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/run/tierce")];
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        places.push(Path::new(&dir).join("tierce"));
    }
    places.push(PathBuf::from(format!("/dev/shm/tierce-{}", geteuid())));
    places
}

/// Makes a directory of mode 0700 or checks the one that is there: a directory of somebody else
/// in a world-writable place would let them choose what we overwrite.
pub(crate) fn prepare_dir(dir: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    let ours = found.uid() == geteuid().as_raw() || found.uid() == 0;
    if !ours || found.mode() & 0o002 != 0 {
        return Err(std::io::Error::other("belongs to somebody else or is open to everybody"));
    }
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK)?;
    Ok(())
}

/// A name that is safe in a path: everything unusual becomes a dash.
pub(crate) fn file_safe(name: &str, limit: usize) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-');
    let name: String = name.chars().take(limit).map(|c| if safe(c) { c } else { '-' }).collect();
    name.trim_start_matches('.').to_owned()
}
