//! Cluster options: names, defaults, and both names of those that were renamed.

use tierce_cib::nvset::Pairs;
use tierce_cib::values;

/// What a partition without quorum does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoQuorum {
    /// Stop everything.
    Stop,
    /// Start nothing.
    Freeze,
    /// Carry on.
    Ignore,
    /// Demote, then as `Stop` for what can not be demoted.
    Demote,
    /// Fence the nodes of this partition.
    Fence,
}

/// How capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Not at all.
    Default,
    /// As a limit.
    Utilization,
    /// As a limit, on few nodes.
    Minimal,
    /// As a limit, spread.
    Balanced,
}

/// Cluster options.
#[derive(Debug, Clone)]
pub(crate) struct Options<'a> {
    /// Every option as written.
    pub raw: Pairs<'a>,
    /// `fencing-enabled`.
    pub fencing_enabled: bool,
    /// `fencing-action`.
    pub fencing_action: &'a str,
    /// `have-watchdog`.
    pub have_watchdog: bool,
    /// `startup-fencing`.
    pub startup_fencing: bool,
    /// `concurrent-fencing`.
    pub concurrent_fencing: bool,
    /// `priority-fencing-delay`, milliseconds.
    pub priority_fencing_delay: u64,
    /// `fence-remote-without-quorum`.
    pub fence_remote_without_quorum: bool,
    /// `no-quorum-policy`.
    pub no_quorum: NoQuorum,
    /// `symmetric-cluster`.
    pub symmetric: bool,
    /// `maintenance-mode`.
    pub maintenance: bool,
    /// `stop-all-resources`.
    pub stop_all: bool,
    /// `stop-removed-resources`.
    pub stop_removed: bool,
    /// `cancel-removed-actions`.
    pub cancel_removed: bool,
    /// `start-failure-is-fatal`.
    pub start_failure_fatal: bool,
    /// `enable-startup-probes`.
    pub startup_probes: bool,
    /// `shutdown-lock`.
    pub shutdown_lock: bool,
    /// `shutdown-lock-limit`, seconds; 0 is without end.
    pub shutdown_lock_limit: i64,
    /// `placement-strategy`.
    pub placement: Placement,
    /// `node-pending-timeout`, milliseconds.
    pub node_pending_timeout: u64,
    /// `remove-after-stop`.
    pub remove_after_stop: bool,
}

impl<'a> Options<'a> {
    /// Reads the options from their raw words.
    pub(crate) fn new(raw: Pairs<'a>) -> Self {
        let get = |names: &[&str]| names.iter().find_map(|n| raw.get(n));
        let flag =
            |names: &[&str], default: bool| get(names).and_then(values::boolean).unwrap_or(default);
        let span = |names: &[&str], default: u64| {
            get(names).and_then(values::duration_ms).unwrap_or(default)
        };
        let fencing_enabled = flag(&["fencing-enabled", "stonith-enabled"], true);
        let action = get(&["fencing-action", "stonith-action"]).unwrap_or("reboot");
        Self {
            fencing_enabled,
            fencing_action: if action == "poweroff" { "off" } else { action },
            have_watchdog: flag(&["have-watchdog"], false),
            startup_fencing: flag(&["startup-fencing", "startup_fencing"], true),
            concurrent_fencing: flag(&["concurrent-fencing"], true),
            priority_fencing_delay: span(&["priority-fencing-delay"], 0),
            fence_remote_without_quorum: flag(&["fence-remote-without-quorum"], false),
            no_quorum: match get(&["no-quorum-policy", "no_quorum_policy"])
                .map(str::to_ascii_lowercase)
                .as_deref()
            {
                Some("ignore") => NoQuorum::Ignore,
                Some("freeze") => NoQuorum::Freeze,
                Some("demote") => NoQuorum::Demote,
                Some("suicide" | "fence") if fencing_enabled => NoQuorum::Fence,
                _ => NoQuorum::Stop,
            },
            symmetric: flag(&["symmetric-cluster", "symmetric_cluster"], true),
            maintenance: flag(&["maintenance-mode"], false),
            stop_all: flag(&["stop-all-resources"], false),
            stop_removed: flag(&["stop-removed-resources", "stop-orphan-resources"], true),
            cancel_removed: flag(&["cancel-removed-actions", "stop-orphan-actions"], true),
            start_failure_fatal: flag(&["start-failure-is-fatal"], true),
            startup_probes: flag(&["enable-startup-probes"], true),
            shutdown_lock: flag(&["shutdown-lock"], false),
            shutdown_lock_limit: (span(&["shutdown-lock-limit"], 0) / 1000).cast_signed(),
            placement: match get(&["placement-strategy"]) {
                Some("utilization") => Placement::Utilization,
                Some("minimal") => Placement::Minimal,
                Some("balanced") => Placement::Balanced,
                _ => Placement::Default,
            },
            node_pending_timeout: span(&["node-pending-timeout"], 0),
            remove_after_stop: flag(&["remove-after-stop"], false),
            raw,
        }
    }
}
