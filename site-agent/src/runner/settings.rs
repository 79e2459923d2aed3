//! A ticket's settings at this site, with every default filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tierce_executor::{ResourceSpec, Settings as ExecutorSettings};
use tierce_ticket::timing::Timing;

use super::limits;
use super::machine::{PartPlan, Plan};
use crate::config::{
    AddressConfig, BgpConfig, Config, DnsConfig, GateConfig, ResourceConfig, Span, TicketConfig,
};

/// What happens with the dependents when the lease ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Loss {
    #[default]
    Stop,
    Fence,
    Freeze,
}

/// One ticket at this site.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) specs: Vec<ResourceSpec>,
    pub(crate) loss: Loss,
    pub(crate) gates: Vec<GateConfig>,
    pub(crate) lag: Option<Vec<String>>,
    pub(crate) address: Option<AddressConfig>,
    pub(crate) dns: Option<DnsConfig>,
    pub(crate) bgp: Option<BgpConfig>,
}

impl Setting {
    /// Whether the runner has anything to do for it; most of many tickets have not.
    pub(crate) fn has_work(ticket: &TicketConfig) -> bool {
        !ticket.resources.is_empty()
            || !ticket.gates.is_empty()
            || ticket.lag_command.is_some()
            || ticket.address.is_some()
            || ticket.dns.is_some()
            || ticket.bgp.is_some()
    }

    /// Of a ticket that left the file.
    pub(crate) fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            plan: Plan::default(),
            specs: Vec::new(),
            loss: Loss::Stop,
            gates: Vec::new(),
            lag: None,
            address: None,
            dns: None,
            bgp: None,
        }
    }

    /// From the file. `guard`: there is one on this node. A resource whose agent cannot be named
    /// forbids the start and says why; nothing is run half.
    pub(crate) fn new(ticket: &TicketConfig, timing: &Timing, guard: bool) -> Self {
        let own = ticket.stop_budget.map_or(timing.stop_budget, Duration::from);
        let stop_budget = own.min(timing.stop_budget);
        let loss = match ticket.loss_policy.as_deref() {
            Some("freeze") => Loss::Freeze,
            Some("fence") => Loss::Fence,
            _ => Loss::Stop,
        };
        let mut forbidden = None;
        let mut specs = Vec::new();
        for resource in &ticket.resources {
            match spec(resource) {
                Ok(spec) => specs.push(spec),
                Err(why) => forbidden = forbidden.or(Some(format!("{}: {why}", resource.id))),
            }
        }
        if forbidden.is_some() {
            specs.clear();
        }
        if loss == Loss::Fence && !guard {
            forbidden = Some("loss-policy fence needs the node guard, which is off".to_owned());
        }
        let doors = ticket.address.is_some() || ticket.dns.is_some() || ticket.bgp.is_some();
        let dependents = !specs.is_empty() || ticket.address.is_some();
        let parts = if specs.is_empty() { &[][..] } else { &ticket.resources[..] };
        let plan = Plan {
            parts: parts.iter().map(|r| part(r, stop_budget)).collect(),
            doors,
            guarded: guard && dependents && loss != Loss::Freeze,
            freeze: loss == Loss::Freeze,
            forbidden,
            stop_budget,
        };
        Self {
            name: ticket.name.clone(),
            plan,
            specs,
            loss,
            gates: ticket.gates.clone(),
            lag: ticket.lag_command.clone().filter(|words| !words.is_empty()),
            address: ticket.address.clone(),
            dns: ticket.dns.clone(),
            bgp: ticket.bgp.clone(),
        }
    }
}

fn spec(resource: &ResourceConfig) -> Result<ResourceSpec, tierce_executor::Error> {
    let mut spec = ResourceSpec::new(&resource.id, &resource.agent)?;
    spec.params.clone_from(&resource.params);
    spec.monitor_interval = interval(resource).unwrap_or(Duration::ZERO);
    spec.check()?;
    Ok(spec)
}

fn interval(resource: &ResourceConfig) -> Option<Duration> {
    let interval = resource.monitor_interval.map_or(limits::MONITOR_INTERVAL, Duration::from);
    (!interval.is_zero()).then_some(interval)
}

fn part(resource: &ResourceConfig, stop_budget: Duration) -> PartPlan {
    let span = |given: Option<Span>, default| given.map_or(default, Duration::from);
    PartPlan {
        name: resource.id.clone(),
        start_timeout: span(resource.start_timeout, limits::START_TIMEOUT),
        stop_timeout: span(resource.stop_timeout, stop_budget),
        monitor_timeout: span(resource.monitor_timeout, limits::MONITOR_TIMEOUT),
        monitor_interval: interval(resource),
        restarts: resource.restarts.unwrap_or(limits::RESTARTS),
    }
}

/// The executor's settings for this site: the same for the agent and for `stop-ticket`. State of
/// agents lies under `/run`, one folder per site, so that two sites on one machine do not share
/// it; without the rights for that, in the data directory.
pub fn executor_settings(config: &Config) -> ExecutorSettings {
    let mut settings = ExecutorSettings::new(&config.site);
    if let Some(root) = &config.ocf_root {
        settings.ocf_root.clone_from(root);
    }
    let run = PathBuf::from("/run/tierce").join(format!("{}-{}", config.tenant, config.site));
    settings.rsctmp =
        if nix::unistd::geteuid().is_root() { run } else { config.data.join("resource-agents") };
    // A killed stop must be over before the last resort is due.
    settings.term_grace = settings.term_grace.min(config.timing().watchdog / 3);
    settings
}

/// Path of the file that agent and `stop-ticket` lock while they act on a ticket.
pub(crate) fn lock_path(data: &Path, ticket: &str) -> PathBuf {
    data.join("locks").join(format!("{}.lock", ticket.replace('/', "%")))
}
