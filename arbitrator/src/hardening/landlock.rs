//! Which files the process may still reach, and that it may open no TCP socket to the world.
//!
//! Reading and writing: the data directory and the recorder's. Reading: what resolving the names
//! of join servers needs, and the source of random numbers. Everything else is out of reach, also
//! for root. Certificates of the system are not among it: only the tenants' own authorities count.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};

use super::Step;

/// Read only; what is missing on a system is left out.
const READ: &[&str] = &[
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/dev/urandom",
    "/proc/sys/kernel/random",
];

/// Directories that are read and written.
#[derive(Debug)]
pub(crate) struct Places(pub(crate) Vec<PathBuf>);

/// Restricts this thread and all that it starts.
pub(crate) fn restrict_files(places: &Places) -> Step {
    const NAME: &str = "landlock";
    // The newest rights that this code was written for; an older kernel enforces what it knows.
    let abi = ABI::V5;
    let without_programs = AccessFs::from_all(abi) & !AccessFs::Execute;
    let files = AccessFs::ReadFile | AccessFs::ReadDir;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|r| r.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp))
        .and_then(Ruleset::create)
        .and_then(|r| r.add_rules(path_beneath_rules(READ, files)))
        .and_then(|r| r.add_rules(path_beneath_rules(&places.0, without_programs)))
        .and_then(landlock::RulesetCreated::restrict_self);
    let reach: Vec<_> = places.0.iter().map(|p| p.display().to_string()).collect();
    let reach = reach.join(", ");
    match restricted.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => {
            Step::applied(NAME, format!("writes only below {reach}; opens no TCP socket"))
        }
        Ok(RulesetStatus::PartiallyEnforced) => Step::applied(
            NAME,
            format!("writes only below {reach}, as far as this kernel knows how"),
        ),
        Ok(RulesetStatus::NotEnforced) => Step::missing(NAME, "this kernel does not have it"),
        Err(e) => Step::missing(NAME, e.to_string()),
    }
}
