//! Where agents are and how they are run on this node.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::{DEFAULT_PARALLEL, MAX_PARALLEL, TERM_GRACE};
use crate::{Error, Result};

/// How systemd is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// A bus at this D-Bus address: labs and tests.
    Address(String),
}

/// The executor's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name, which agents are told.
    pub node: String,
    /// Where OCF agents are; usually `/usr/lib/ocf`.
    pub ocf_root: PathBuf,
    /// Where init scripts are.
    pub lsb_dir: PathBuf,
    /// Where agents keep their state until reboot (`HA_RSCTMP`): on tmpfs, one per node. Two
    /// nodes on one machine (a lab) must not share it.
    pub rsctmp: PathBuf,
    /// The agents' `PATH`.
    pub path: String,
    /// Actions at once, beside stops.
    pub max_parallel: usize,
    /// Between TERM and KILL.
    pub term_grace: Duration,
    /// Network namespace in which agents run (such as `/run/netns/paris`); ours when none.
    pub enter_netns: Option<PathBuf>,
    /// How systemd is reached.
    pub bus: Bus,
}

impl Settings {
    /// The usual places of a Linux system.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            ocf_root: "/usr/lib/ocf".into(),
            lsb_dir: "/etc/init.d".into(),
            rsctmp: "/run/resource-agents".into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            max_parallel: DEFAULT_PARALLEL,
            term_grace: TERM_GRACE,
            enter_netns: None,
            bus: Bus::System,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=MAX_PARALLEL).contains(&self.max_parallel) {
            return Err(Error::Setting {
                what: "parallel actions",
                found: self.max_parallel.to_string(),
                allowed: format!("1 to {MAX_PARALLEL}"),
            });
        }
        if self.node.is_empty() || self.node.contains('\0') {
            return Err(Error::Setting {
                what: "node name",
                found: format!("{:?}", self.node),
                allowed: "a name".to_owned(),
            });
        }
        Ok(())
    }
}
