//! What the member knows at one moment, taken out of its task as plain data.
//!
//! The member's task has leases to renew, so nobody looks at it for long: one short look copies what
//! is needed, and views are made from the copy, elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tierce_ticket::configuration::Configuration;
use tierce_ticket::docket::{Docket, Ticket};
use tierce_ticket::entry::FenceTarget;
use tierce_ticket::holder::{Holder, VoterView};
use tierce_ticket::ids::{ClusterId, MemberId, MemberName, SessionId, Term, TicketId, TicketName};
use tierce_ticket::member::{Member, Standing};
use tierce_ticket::quorum;
use tierce_ticket::time::{HolderTime, Now};

use crate::limits::MAX_ELIGIBILITY;

/// For which tickets it is asked what stands against each site.
#[derive(Clone, Debug)]
pub(crate) enum Eligibility {
    /// For all, if they are not too many.
    All,
    /// For one.
    Of(TicketName),
    /// For none.
    None,
}

/// A peer as it presented itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerFacts {
    pub(crate) digest: [u8; 16],
    pub(crate) wall_ms: u64,
}

/// What the member knew.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) now: Now,
    pub(crate) me: MemberName,
    pub(crate) digest: [u8; 16],
    pub(crate) standing: Standing,
    pub(crate) identity: Option<(ClusterId, MemberId)>,
    pub(crate) leader: Option<MemberName>,
    pub(crate) leads: bool,
    pub(crate) docket: Option<Docket>,
    /// The newest configuration in the log.
    pub(crate) configuration: Option<Configuration>,
    /// Own session and its deadline D.
    pub(crate) session: Option<SessionId>,
    pub(crate) deadline: Option<HolderTime>,
    pub(crate) distrusted: Option<String>,
    pub(crate) voters: Vec<VoterView>,
    pub(crate) peers: BTreeMap<MemberName, PeerFacts>,
    /// What the leader tries to fence; empty elsewhere.
    pub(crate) suspects: BTreeSet<FenceTarget>,
    /// Time left of this voter's promises.
    pub(crate) promises: BTreeMap<SessionId, Duration>,
    /// What stands against a grant, by ticket and site; `Ok`: nothing.
    pub(crate) eligible: BTreeMap<TicketId, BTreeMap<MemberName, Result<SessionId, String>>>,
    /// Fence votes that this voter has given.
    pub(crate) fence_votes: u64,
}

impl Facts {
    /// Copies what is needed. Runs on the member's task.
    pub(crate) fn gather(member: &Member, now: Now, which: &Eligibility) -> Self {
        let docket = member.docket();
        let holder = member.holder();
        let configuration = member.ledger().map(|l| l.configuration().0.clone());
        let names = configuration.iter().flat_map(|c| c.members().map(|(_, m)| m.name.clone()));
        let planned =
            member.settings().plan.iter().flat_map(|p| &p.members).map(|m| m.name.clone());
        let peers = names.chain(planned).filter_map(|name| {
            let hello = member.peer_hello(&name)?;
            Some((name, PeerFacts { digest: hello.digest, wall_ms: hello.wall_ms }))
        });
        let promises = docket
            .into_iter()
            .flat_map(Docket::open_sessions)
            .filter_map(|(id, _)| member.promises().map(|p| (id, p.remaining(now.voter, id))));
        Self {
            now,
            me: member.settings().name.clone(),
            digest: member.settings().digest,
            standing: member.standing().clone(),
            identity: member.identity(),
            leader: member.leader().cloned(),
            leads: member.leads(),
            session: holder.and_then(Holder::session),
            deadline: holder.and_then(Holder::deadline_d),
            distrusted: holder.and_then(Holder::distrusted).map(ToOwned::to_owned),
            voters: holder.map(|h| h.voters().collect()).unwrap_or_default(),
            peers: peers.collect(),
            suspects: member.steward().map(|s| s.suspects().collect()).unwrap_or_default(),
            promises: promises.collect(),
            eligible: eligibility(member, now, which),
            fence_votes: member.promises().map_or(0, |p| p.votes().count() as u64),
            docket: docket.cloned(),
            configuration,
        }
    }

    /// Whether this member reaches a majority: it takes part, knows a leader, and is connected to
    /// enough voters.
    pub(crate) fn quorate(&self) -> bool {
        let Some(c) = &self.configuration else { return false };
        let voters = c.voter_ids();
        let reached = c
            .voters
            .iter()
            .filter(|(_, m)| m.name == self.me || self.peers.contains_key(&m.name))
            .map(|(id, _)| id);
        self.standing == Standing::TakingPart
            && self.leader.is_some()
            && quorum::has_majority(&voters, reached)
    }

    /// Why this member says `unknown`.
    pub(crate) fn why_not_quorate(&self) -> String {
        match &self.standing {
            Standing::Unformed => "this member has no cluster yet".to_owned(),
            Standing::Confirming => "no other member has confirmed this store yet (R5)".to_owned(),
            Standing::Out(alarm) => alarm.to_string(),
            Standing::TakingPart => {
                let missing = self.missing().join(", ");
                let none = missing.is_empty();
                if none {
                    "no leader is known".to_owned()
                } else {
                    format!("{missing} cannot be reached")
                }
            }
        }
    }

    /// Voters that are not connected.
    pub(crate) fn missing(&self) -> Vec<String> {
        let voters = self.configuration.iter().flat_map(|c| c.voters.values());
        voters
            .filter(|m| m.name != self.me && !self.peers.contains_key(&m.name))
            .map(|m| m.name.to_string())
            .collect()
    }

    /// The lease times in force.
    pub(crate) fn timing(&self) -> Option<tierce_ticket::timing::Timing> {
        self.configuration.as_ref().map(|c| c.timing)
    }

    /// The ticket of this name.
    pub(crate) fn ticket(&self, name: &str) -> Option<&Ticket> {
        self.docket.as_ref().and_then(|d| d.tickets().find(|t| t.name.as_str() == name))
    }

    /// Number of the voter of this name.
    pub(crate) fn voter(&self, name: &MemberName) -> Option<&VoterView> {
        let id = self.configuration.as_ref()?.id_of(name)?;
        self.voters.iter().find(|v| v.voter == id)
    }

    /// Round trip to the slowest voter that a majority needs: own answers count as zero.
    pub(crate) fn majority_rtt(&self) -> Option<Duration> {
        let c = self.configuration.as_ref()?;
        let mut rtts: Vec<Duration> = self.voters.iter().filter_map(|v| v.rtt).collect();
        rtts.sort_unstable();
        rtts.get(quorum::majority(c.voters.len()) - 1).copied()
    }
}

fn eligibility(
    member: &Member,
    now: Now,
    which: &Eligibility,
) -> BTreeMap<TicketId, BTreeMap<MemberName, Result<SessionId, String>>> {
    let Some(docket) = member.docket() else { return BTreeMap::new() };
    let tickets: Vec<TicketId> = match which {
        Eligibility::None => Vec::new(),
        Eligibility::Of(name) => docket.ticket_named(name).map(|t| t.id).into_iter().collect(),
        Eligibility::All => docket.tickets().take(MAX_ELIGIBILITY + 1).map(|t| t.id).collect(),
    };
    if tickets.len() > MAX_ELIGIBILITY {
        return BTreeMap::new();
    }
    let sites = docket.site_names();
    let of = |id: TicketId| {
        sites
            .iter()
            .map(|s| (s.clone(), member.eligibility(now, id, s)))
            .collect::<BTreeMap<_, _>>()
    };
    tickets.into_iter().map(|id| (id, of(id))).collect()
}

/// What a waiting client needs to know of one ticket.
#[derive(Clone, Debug)]
pub(crate) struct TicketFacts {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) quorate: bool,
    pub(crate) why_not: String,
}

impl TicketFacts {
    /// Copies it. Runs on the member's task.
    pub(crate) fn gather(member: &Member, name: &TicketName) -> Self {
        let led = member.leader().is_some() && *member.standing() == Standing::TakingPart;
        Self {
            ticket: member.docket().and_then(|d| d.ticket_named(name)).cloned(),
            quorate: led,
            why_not: if led { String::new() } else { "no majority is reached".to_owned() },
        }
    }

    /// Holder, term, if any.
    pub(crate) fn holder(&self) -> Option<(MemberName, Term)> {
        let t = self.ticket.as_ref()?;
        t.holder().map(|(_, site, term)| (site.clone(), term))
    }
}
