//! Where the programs are that a rig runs, another build of them, and small C helpers for a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use tierce_wire::{ALPN_V1, ALPN_V2};

use crate::error::{Result, RigError};

/// The variable that names another folder of programs than the one of the running program.
const FOLDER_VARIABLE: &str = "TIERCE_RIG_PROGRAMS";

/// What is installed at a member, and so replaced by an upgrade.
pub(crate) const INSTALLED: [&str; 3] = ["tierce-agent", "tierce-guard", "tierce-arbitrator"];

/// The programs of this workspace, as built.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Beside the running program (or above it, when that is a test), all of them there.
    pub fn find() -> Result<Self> {
        let found = Self::folder()?;
        for name in
            ["tierce", "tierce-agent", "tierce-guard", "tierce-arbitrator", "tierce-rig-tool"]
        {
            found.path(name)?;
        }
        Ok(found)
    }

    /// The folder, whatever is in it.
    pub fn folder() -> Result<Self> {
        if let Some(dir) = std::env::var_os(FOLDER_VARIABLE).filter(|dir| !dir.is_empty()) {
            return Ok(Self { dir: dir.into() });
        }
        let exe = std::env::current_exe().map_err(RigError::system("this program's own path"))?;
        let mut dir = exe.parent().unwrap_or(Path::new("/")).to_path_buf();
        if dir.ends_with("deps") {
            dir.pop();
        }
        Ok(Self { dir })
    }

    /// Those in a folder, of another release for instance.
    pub fn of(dir: PathBuf) -> Result<Self> {
        let found = Self { dir };
        for name in INSTALLED {
            found.path(name)?;
        }
        Ok(found)
    }

    /// Copies of what a member runs, so that later builds do not reach into a rig that runs.
    pub fn copy_to(&self, dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(RigError::system("a folder of programs"))?;
        for name in INSTALLED {
            let copied = std::fs::copy(self.path(name)?, dir.join(name));
            copied.map_err(RigError::system(format!("copying {name}")))?;
        }
        Self::of(dir)
    }

    /// Copies whose daemons offer only the previous version of the wire format: the words of the
    /// release before this one, spoken by this one's code. They stand in for that release's own
    /// programs until there is one. The name of the newest version is replaced where the program
    /// lists what it offers; what daemons then agree on is in their logs.
    pub fn held_back(&self, dir: PathBuf) -> Result<Self> {
        let held = self.copy_to(dir)?;
        for name in INSTALLED.into_iter().filter(|n| *n != "tierce-guard") {
            let what = || RigError::system(format!("holding {name} back"));
            let path = held.path(name)?;
            let mut bytes = std::fs::read(&path).map_err(what())?;
            if replace(&mut bytes, ALPN_V2, ALPN_V1) == 0 {
                let said = "it does not say what it offers".to_owned();
                return Err(RigError::Answer { what: format!("holding {name} back"), said });
            }
            std::fs::write(&path, bytes).map_err(what())?;
        }
        Ok(held)
    }

    /// A program's path.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        let next = format!("cargo build -p {}", package_of(name));
        Err(RigError::Missing { path, next })
    }
}

/// Replaces every occurrence by as many other bytes; how often.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) -> usize {
    assert_eq!(old.len(), new.len(), "nothing in a program may move");
    let (mut at, mut count) = (0, 0);
    while let Some(window) = bytes.get_mut(at..at + old.len()) {
        if window == old {
            window.copy_from_slice(new);
            count += 1;
        }
        at += 1;
    }
    count
}

/// The package that makes a program.
fn package_of(name: &str) -> &str {
    if name == "tierce-rig-tool" { "tierce-rig" } else { name }
}

/// Compiles one C file of the rig with gcc.
pub(crate) fn compile(source: &str, to: &Path, more: &[&str]) -> Result<()> {
    let from = to.with_extension("c");
    std::fs::write(&from, source).map_err(RigError::system("writing a C file"))?;
    let mut gcc = Command::new("gcc");
    gcc.arg("-O2").args(more).arg("-o").arg(to).arg(&from).arg("-ldl");
    let out = gcc.output().map_err(RigError::system("gcc (package gcc)"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(RigError::Program {
        what: format!("gcc {}", from.display()),
        code: out.status.code(),
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_replaced_and_nothing_moves() {
        let mut bytes = b"tierce/2, tierce/1tierce/2".to_vec();
        assert_eq!(replace(&mut bytes, ALPN_V2, ALPN_V1), 2);
        assert_eq!(bytes, b"tierce/1, tierce/1tierce/1");
        assert_eq!(replace(&mut bytes[..3], ALPN_V2, ALPN_V1), 0);
    }
}
