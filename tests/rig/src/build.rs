//! Where the programs are that a rig runs, and small C helpers for a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, RigError};

/// The variable that names another folder of programs than the one of the running program.
const FOLDER_VARIABLE: &str = "TIERCE_RIG_PROGRAMS";

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
