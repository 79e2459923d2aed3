//! A site's file, as its operator would write it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{NAMES, PORT, TENANT, THIRD};
use crate::build::Programs;
use crate::error::Result;
use crate::net::{Net, Rule};

/// Lease times of a cluster in the rig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// T, which the words must result in.
    pub promise: Duration,
    /// The profile's word.
    pub profile: &'static str,
    /// Lease times that differ from it, as words of the file.
    pub timing: &'static str,
}

impl Lease {
    /// T = 1 s.
    pub const METRO_FAST: Self =
        Self { promise: Duration::from_secs(1), profile: "metro-fast", timing: "" };
    /// T = 10 s, for comparison with a lease of ten seconds; shares as in the profiles.
    pub const TEN_SECONDS: Self = Self {
        promise: Duration::from_secs(10),
        profile: "wan",
        timing: "promise = \"10s\", watchdog = \"1s\", stop-budget = \"3s\", \
                 renew-every = \"1s\", election = \"3s\"",
    };
    /// T = 30 s, for comparison with a lease of thirty seconds; shares as in the profiles.
    pub const HALF_A_MINUTE: Self = Self {
        promise: Duration::from_secs(30),
        profile: "wan",
        timing: "promise = \"30s\", watchdog = \"3s\", stop-budget = \"12s\", \
                 renew-every = \"4s\", election = \"6s\"",
    };
}

/// What a cluster is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network in all directions.
    pub rule: Rule,
    /// Lease times.
    pub lease: Lease,
    /// Tickets with a witness under each.
    pub witnessed: Vec<String>,
    /// So many more tickets with nothing to run: t00000, t00001 and on.
    pub bare: usize,
    /// Whether each site has its guard. Without one a killed agent's resources run on, which shows
    /// that the witness would see it.
    pub guarded: bool,
    /// A socket of a shared store that the witnesses write to.
    pub shared: Option<PathBuf>,
    /// Each member's data on a disk of its own. The rig must have mounts of its own then.
    pub disks: bool,
    /// Builds that a member can be given, the first one to begin with, each in a folder of its own
    /// on the disk of temporary files. None: the programs as found, which nobody replaces.
    pub builds: Vec<Programs>,
    /// Whether the network has one more place, for somebody who is no member.
    pub stranger: bool,
    /// Seed of the switch.
    pub seed: u64,
}

impl Options {
    /// One witnessed ticket, T = 1 s, 2 ms round trips.
    pub fn one_ticket(ticket: &str, seed: u64) -> Self {
        Self {
            rule: Rule::delayed(Duration::from_millis(1)),
            lease: Lease::METRO_FAST,
            witnessed: vec![ticket.to_owned()],
            bare: 0,
            guarded: true,
            shared: None,
            disks: false,
            builds: Vec::new(),
            stranger: false,
            seed,
        }
    }

    /// All tickets.
    pub fn tickets(&self) -> usize {
        self.witnessed.len() + self.bare
    }

    /// Name of a ticket with nothing to run.
    pub fn bare_name(n: usize) -> String {
        format!("t{n:05}")
    }
}

pub(super) fn site(o: &Options, dir: &Path, site: usize, programs: &Programs) -> Result<String> {
    let (name, dir) = (NAMES[site], dir.display());
    let guard = programs.path("tierce-guard")?;
    let mut text = format!(
        "tenant = \"{TENANT}\"\nsite = \"{name}\"\ndata = \"{dir}/{name}\"\n\
         listen = \"0.0.0.0:{PORT}\"\nprofile = \"{profile}\"\nocf-root = \"{dir}/ocf\"\n\
         recorder = \"/run/tierce/recorder\"\n",
        profile = o.lease.profile,
    );
    if site == 0 {
        let _ = writeln!(text, "ca = \"{dir}/ca\"");
    }
    if !o.lease.timing.is_empty() {
        let _ = writeln!(text, "timing = {{ {} }}", o.lease.timing);
    }
    let (guard, resort) = (guard.display(), if o.guarded { "kill" } else { "off" });
    let _ = writeln!(text, "\n[guard]\nlast-resort = \"{resort}\"\nprogram = [\"{guard}\"]");
    for (n, member) in NAMES.iter().enumerate() {
        let role = if n == THIRD { "arbitrator" } else { "site" };
        let _ = writeln!(
            text,
            "\n[[member]]\nname = \"{member}\"\nrole = \"{role}\"\naddresses = [\"{}:{PORT}\"]",
            Net::address(n)
        );
    }
    let shared = o.shared.as_ref().map_or(String::new(), |shared| {
        format!(", shared = \"{}\", site = \"{name}\"", shared.display())
    });
    for ticket in &o.witnessed {
        let _ = writeln!(
            text,
            "\n[[ticket]]\nname = \"{ticket}\"\nmode = \"auto\"\none-move-per = \"0s\"\n\
             [[ticket.resource]]\nid = \"witness\"\nagent = \"ocf:rig:witness\"\n\
             monitor-interval = \"1s\"\nparams = {{ log = \"{dir}/{ticket}-{name}.witness\"{shared} }}"
        );
    }
    for n in 0..o.bare {
        let ticket = Options::bare_name(n);
        let _ = writeln!(
            text,
            "\n[[ticket]]\nname = \"{ticket}\"\nmode = \"auto\"\none-move-per = \"0s\""
        );
    }
    Ok(text)
}
