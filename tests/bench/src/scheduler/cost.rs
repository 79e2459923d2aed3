//! What a command costs: CPU seconds and the greatest memory, from the kernel's own books.
//!
//! The books of a process name only the sum of the CPU time and the greatest memory of all its children, and a child begins with the
//! memory of whoever made it. So each command is run by a small process of its own: this program again.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// CPU seconds, user and system.
    pub(crate) cpu: f64,
    /// Greatest memory, bytes.
    pub(crate) memory: f64,
    /// Whether it said that all went well.
    pub(crate) well: bool,
}

/// A command whose cost is to be told; see the module.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CostArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The small process: runs the command and prints what it cost.
pub(crate) fn tell(args: &CostArgs) -> anyhow::Result<()> {
    let (program, words) = args.command.split_first().context("no command")?;
    let status = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    let cost = Cost { cpu, memory: usage.max_rss() as f64 * 1024.0, well: status.success() };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// A program with its first words.
#[derive(Clone, Debug)]
pub(crate) struct Tool(pub(crate) Vec<OsString>);

impl Tool {
    /// The cost of one run over a CIB.
    pub(crate) fn cost(&self, cib: &Path, more: &[&str]) -> anyhow::Result<Cost> {
        let out = Command::new(std::env::current_exe()?)
            .arg("cost")
            .args(&self.0)
            .arg("-x")
            .arg(cib)
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        anyhow::ensure!(out.status.success(), "the cost of {:?} could not be told", self.0);
        Ok(serde_json::from_slice(&out.stdout)?)
    }
}

/// CPU seconds of this thread for one piece of work, with what the work gave.
pub(crate) fn own<T>(work: impl FnOnce() -> T) -> anyhow::Result<(f64, T)> {
    let clock = || {
        let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        anyhow::Ok(t.num_nanoseconds() as f64 / 1e9)
    };
    let begun = clock()?;
    let result = work();
    Ok((clock()? - begun, result))
}
