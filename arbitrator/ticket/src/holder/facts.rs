//! What a holder's future depends on, for whoever compares holders: the model checker.
//!
//! Instants count relative to now, and those that have passed count as passed: two holders with the
//! same facts do the same from here on. A new field must be put here or be said to be without effect:
//! that is why the fields are named one by one.

use std::hash::{Hash, Hasher};

use super::{HeldTicket, Holder, Phase, VoterLease};
use crate::ids::MemberId;
use crate::time::HolderTime;

impl Holder {
    /// Everything but what belongs to a single voter.
    pub fn digest(&self, now: HolderTime, into: &mut impl Hasher) {
        let Self {
            site: _,
            incarnation,
            timing,
            voters,
            config_index,
            newest_named,
            settled: _, // the log's, of which this is a prefix
            settled_config,
            session,
            supersede,
            inherited,
            deadline,
            told,
            leases: _, // digest_of_voter
            tickets,
            prepared,
            next_seq: _, // only its order counts
            next_renewal,
            next_open,
            able: _,  // evidence is given anew before each tick
            audit: _, // needs clock readings, which a model without audit does not give
            distrusted,
            leaving,
            left,
            restless: _, // said by `rests` of each ticket
            resting: _,
            releases: _,
            orders: _, // drained after each call
            requests: _,
            findings: _,
        } = self;
        let left_of = |t: Option<HolderTime>| t.map(|t| t.since(now));
        (incarnation, voters.len(), timing.promise, config_index).hash(into);
        newest_named.max(settled_config).hash(into);
        (session, supersede, left_of(*inherited), left_of(*deadline)).hash(into);
        (deadline == told, prepared, distrusted.is_some(), leaving, left).hash(into);
        (next_renewal.since(now), next_open.since(now)).hash(into);
        for (id, ticket) in tickets {
            let HeldTicket {
                term,
                stop_budget,
                freeze,
                phase,
                frozen,
                capped,
                release_asked,
                told_deadline,
                rests,
            } = ticket;
            let phase = match phase {
                Phase::Inherited => 0_u8,
                Phase::Stopped => 1,
                Phase::Running => 2,
                Phase::Stopping => 3,
            };
            (id, term, stop_budget, freeze, phase, frozen.len(), left_of(*capped)).hash(into);
            let again = self.timing.renew_every * 2;
            release_asked.map(|t| now.since(t).min(again)).hash(into);
            (*told_deadline == self.ticket_deadline(ticket), rests.is_some()).hash(into);
        }
    }

    /// What belongs to one voter: its lease, and the leases frozen there.
    pub fn digest_of_voter(&self, now: HolderTime, voter: MemberId, into: &mut impl Hasher) {
        let left_of = |t: Option<HolderTime>| t.map(|t| t.since(now));
        self.voters.contains(&voter).hash(into);
        if let Some(VoterLease { sent: _, until, rtt: _, last_refusal, answered: _ }) =
            self.leases.get(&voter)
        {
            // Open renewals count with the messages on their way, which the caller compares.
            (left_of(*until), last_refusal.map(|r| r as u8)).hash(into);
        }
        for (id, ticket) in &self.tickets {
            if let Some(until) = ticket.frozen.get(&voter) {
                (id, left_of(*until)).hash(into);
            }
        }
    }
}
