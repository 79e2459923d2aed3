//! Bringing up a store that has been admitted and has no cluster yet: its number and a state to
//! begin with, from the leader.
//!
//! A small state goes as one message. A large one (thousands of tickets with their history exceed
//! any frame) goes in the parts that the ledger sends snapshots in, each asked for by the answer to
//! the last; the configuration in them names the receiver's store, and so its number. The leader
//! begins again from the first part when nothing has been asked for T.

use std::sync::Arc;

use super::join::Admission;
use super::{Member, Standing};
use crate::durable::Record;
use crate::ids::{ClusterId, LogIndex, MemberId, MemberName};
use crate::ledger::{LedgerMessage, LedgerRecord, Round, Snapshot, SnapshotPart};
use crate::limits::SNAPSHOT_PART_BYTES;
use crate::message::{Lane, Message};
use crate::time::Now;

/// The parts that have come so far.
#[derive(Debug)]
pub(super) struct Arriving {
    from: MemberName,
    last_index: LogIndex,
    total: u64,
    bytes: Vec<u8>,
}

impl Member {
    // ----- at the leader -----------------------------------------------------------------

    /// Gives a learner without a cluster its number and a state to begin with.
    pub(super) fn bring_up(&mut self, now: Now, id: MemberId, a: &mut Admission) {
        let Some(f) = &self.formed else { return };
        if a.asked.is_some_and(|t| now.voter.since(t) < f.config_seen.timing.promise) {
            return;
        }
        let unformed =
            self.peers.get(&a.name).is_some_and(|p| p.up && p.cluster == ClusterId::default());
        let in_docket = f.docket.configuration().learners.contains_key(&id);
        if !unformed || !in_docket {
            return;
        }
        a.asked = Some(now.voter);
        let applied = f.docket.applied();
        let Some(ballot) = f.ledger.ballot_at(applied) else { return };
        let snapshot = Snapshot {
            last_index: applied,
            last_ballot: ballot,
            configuration: f.docket.configuration().clone(),
            config_index: f.docket.config_index(),
            state: f.docket.to_bytes(),
        };
        if snapshot.state.len() <= SNAPSHOT_PART_BYTES {
            self.send(&a.name, Lane::Stream, Message::Admitted { you: id, snapshot }, true);
            return;
        }
        let snapshot = Arc::new(snapshot);
        a.brings = Some(Arc::clone(&snapshot));
        self.send_state(&a.name, &snapshot, 0);
    }

    /// The learner asks for the next part.
    pub(super) fn learner_wants(&mut self, now: Now, from: &MemberName, of: LogIndex, offset: u64) {
        let Some(mut a) = self.commands.take_admission() else { return };
        if a.name == *from
            && let Some(snapshot) = a.brings.clone().filter(|s| s.last_index == of)
            && offset < snapshot.state.len() as u64
        {
            a.asked = Some(now.voter);
            self.send_state(from, &snapshot, offset);
        }
        self.commands.put_admission(a);
    }

    fn send_state(&mut self, to: &MemberName, snapshot: &Snapshot, offset: u64) {
        let Some(f) = &self.formed else { return };
        let begin = offset as usize;
        let end = (begin + SNAPSHOT_PART_BYTES).min(snapshot.state.len());
        let part = SnapshotPart {
            ballot: f.ledger.ballot(),
            round: Round(0),
            last_index: snapshot.last_index,
            last_ballot: snapshot.last_ballot,
            configuration: snapshot.configuration.clone(),
            config_index: snapshot.config_index,
            offset,
            total: snapshot.state.len() as u64,
            bytes: snapshot.state[begin..end].to_vec(),
        };
        let message = Message::Ledger(LedgerMessage::SnapshotPart(Box::new(part)));
        self.send(to, Lane::Stream, message, true);
    }

    // ----- at the admitted store ---------------------------------------------------------

    /// The leader's word that this store is admitted.
    pub(super) fn admitted(
        &mut self,
        now: Now,
        cluster: ClusterId,
        you: MemberId,
        snapshot: Snapshot,
    ) {
        if self.standing != Standing::Unformed {
            return;
        }
        let ours = snapshot
            .configuration
            .member(you)
            .is_some_and(|m| m.name == self.settings.name && m.store == self.settings.store);
        if !ours || snapshot.configuration.cluster != cluster {
            return;
        }
        let records = vec![
            Record::Identity { cluster, me: you },
            Record::Ledger(LedgerRecord::Snapshot(snapshot)),
        ];
        self.begin(now, records);
    }

    /// A part of the state to begin with; the last one completes the admission.
    pub(super) fn admitted_part(
        &mut self,
        now: Now,
        from: &MemberName,
        cluster: ClusterId,
        part: SnapshotPart,
    ) {
        if self.standing != Standing::Unformed || part.check().is_err() {
            return;
        }
        let identity = (from, part.last_index, part.total);
        let arriving = self
            .arriving
            .take()
            .filter(|a| (&a.from, a.last_index, a.total) == identity && part.offset > 0);
        let mut arriving = arriving.unwrap_or(Arriving {
            from: from.clone(),
            last_index: part.last_index,
            total: part.total,
            bytes: Vec::new(),
        });
        if part.offset == arriving.bytes.len() as u64 {
            arriving.bytes.extend_from_slice(&part.bytes);
        }
        let offset = arriving.bytes.len() as u64;
        if offset < part.total {
            self.arriving = Some(arriving);
            let (ballot, last_index) = (part.ballot, part.last_index);
            let reply =
                LedgerMessage::SnapshotReply { ballot, round: part.round, last_index, offset };
            self.send(from, Lane::Stream, Message::Ledger(reply), false);
            return;
        }
        let (name, store) = (&self.settings.name, self.settings.store);
        let own = part.configuration.id_of(name);
        let Some(you) =
            own.filter(|id| part.configuration.member(*id).is_some_and(|m| m.store == store))
        else {
            return;
        };
        let snapshot = Snapshot {
            last_index: part.last_index,
            last_ballot: part.last_ballot,
            configuration: part.configuration,
            config_index: part.config_index,
            state: arriving.bytes,
        };
        self.admitted(now, cluster, you, snapshot);
    }
}
