//! The first process of a machine: mounts what a machine has of its own, then reaps orphans.

use std::ffi::CStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::wait;

/// What programs expect below a fresh `/run`.
const RUN: &[&str] = &["/run/lock", "/run/resource-agents", "/run/booth", "/run/tierce"];

pub(crate) fn run() -> ExitCode {
    if let Err(e) = prepare() {
        eprintln!("a machine cannot be prepared: {e}");
        return ExitCode::FAILURE;
    }
    println!("ready");
    let _ = std::io::stdout().flush();
    loop {
        // Without children there is nothing to reap until somebody is adopted.
        if wait() == Err(nix::errno::Errno::ECHILD) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn prepare() -> std::io::Result<()> {
    const NONE: Option<&CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // A slave: what is mounted here stays here, and a disk that the rig unmounts goes here, too.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NONE)?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), NONE)?;
    for dir in RUN {
        fs::create_dir_all(dir)?;
    }
    // boothd gives up its rights before it writes its lock file.
    fs::set_permissions("/run/booth", fs::Permissions::from_mode(0o777))
}
