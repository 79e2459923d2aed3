//! What an operator sees: status, tickets, plans. Made from copies ([`Facts`], [`Local`]); nothing
//! here asks anybody or decides anything.
//!
//! Invariant: a member without a majority says `unknown`, never `free`: it cannot know.

pub(crate) mod plan;
pub(crate) mod status;
pub(crate) mod ticket;
pub(crate) mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::ids::{MemberName, TicketId};
use tierce_wire::control::AlarmView;

use crate::config::Config;
use crate::facts::{Eligibility, Facts};
use crate::limits::ASSUMED_FSYNC;
use crate::runner::RunnerView;
use crate::shared::{Blocked, Measured, Shared};

/// What this agent knows beside its member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    pub(crate) runner: RunnerView,
    pub(crate) blocked: BTreeMap<TicketId, Blocked>,
    pub(crate) measured: BTreeMap<TicketId, Measured>,
    pub(crate) alarms: Vec<AlarmView>,
    pub(crate) rtts: BTreeMap<MemberName, Duration>,
    pub(crate) fsync: Duration,
    pub(crate) fsync_measured: bool,
    pub(crate) certificate_left: Option<Duration>,
}

/// Everything that a view is made from.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) facts: Facts,
    pub(crate) local: Local,
    pub(crate) config: Arc<Config>,
}

impl Scene {
    /// Looks at everything once. `None`: the member has ended.
    pub(crate) async fn look(shared: &Shared, which: Eligibility) -> Option<Self> {
        let facts = shared.member.read(move |m, now| Facts::gather(m, now, &which)).await?;
        let config = shared.config();
        let runner = shared.runner.view().await;
        let rtts = shared
            .host
            .peers(&config.tenant)
            .into_iter()
            .filter_map(|p| Some((p.identity.name.as_str().parse().ok()?, p.rtt)))
            .collect();
        let us = shared.member.stats().persist_us;
        let shown = shared.host.link().tenants();
        let own = shown.into_iter().find(|c| c.identity.tenant.as_str() == config.tenant);
        let certificate_left = own.map(|c| c.left(std::time::SystemTime::now()));
        let state = shared.state();
        let local = Local {
            runner,
            blocked: state.blocked.clone(),
            measured: state.measured.clone(),
            alarms: state.alarms.iter().cloned().collect(),
            rtts,
            fsync: if us == 0 { ASSUMED_FSYNC } else { Duration::from_micros(us) },
            fsync_measured: us != 0,
            certificate_left,
        };
        drop(state);
        Some(Self { facts, local, config })
    }
}
