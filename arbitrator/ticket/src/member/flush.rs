//! Effects out: alarms, the write of this step, and the messages that may leave before or after it.

use super::{Alarm, Batch, Effect, Member, Standing};
use crate::durable::{Age, Record};
use crate::ids::{ClusterId, MemberId, PersistId};
use crate::ledger::LedgerRecord;
use crate::message::Envelope;
use crate::time::Now;

impl Member {
    pub(super) fn alarm(&mut self, alarm: Alarm) {
        self.effects.push_back(Effect::Alarm(alarm));
    }

    pub(super) fn alarm_once(&mut self, key: &str, alarm: Alarm) {
        if self.alarms_given.len() < 1_000 && self.alarms_given.insert(key.to_owned()) {
            self.alarm(alarm);
        }
    }

    /// Takes no part from here on; what depends on the tickets is stopped.
    pub(super) fn out(&mut self, why: Alarm) {
        if self.standing != Standing::Out(why.clone()) {
            self.standing = Standing::Out(why.clone());
            if let Some(h) = self.holder_mut() {
                h.distrust(&why.to_string());
            }
            self.alarm(why);
            self.set_leader(None);
        }
    }

    /// Turns collected records and messages into effects: one write, then what may leave after it.
    pub(super) fn flush(&mut self) {
        // R5: a store that nobody has confirmed is not written to. Each record would bring an older
        // copy nearer to what others have seen of the newer one, and in the end past it.
        let confirmed = self.standing == Standing::TakingPart;
        if confirmed && self.checkpoint {
            self.checkpoint = false;
            self.flush_checkpoint();
        } else if confirmed && !self.records.is_empty() {
            self.note_sightings();
            let records = std::mem::take(&mut self.records);
            let id = self.new_batch(&records);
            self.effects.push_back(Effect::Persist { id, records });
        }
        let Some((cluster, me)) = self.identity().or(Some((ClusterId::default(), MemberId(0))))
        else {
            return;
        };
        let pending = (self.last_persist > self.acked).then_some(self.last_persist);
        for o in std::mem::take(&mut self.outbox) {
            let after = pending.filter(|_| o.needs_persist);
            let written = if after.is_some() { self.telling } else { self.written };
            let age = Age { written, ..self.settings.age };
            let envelope = Envelope { cluster, from: me, age, message: o.message };
            self.effects.push_back(Effect::Send { to: o.to, lane: o.lane, envelope, after });
        }
    }

    pub(super) fn new_batch(&mut self, records: &[Record]) -> PersistId {
        self.last_persist = PersistId(self.last_persist.0 + 1);
        let fences = records.iter().filter_map(|r| match r {
            Record::Fence(v) => Some(v.target),
            _ => None,
        });
        let max_promise = records.iter().filter_map(|r| match r {
            Record::MaxPromise(p) => Some(*p),
            _ => None,
        });
        self.writing += records.len() as u64;
        // What only says how far others have come is not told to them, or they would write that
        // down, and so on for ever.
        if records.iter().any(|r| !matches!(r, Record::Seen { .. })) {
            self.telling = self.writing;
        }
        self.batches.push_back(Batch {
            id: self.last_persist,
            records: self.writing,
            written: self.telling,
            ledger_records: self.ledger_records,
            fences: fences.collect(),
            max_promise: max_promise.max(),
        });
        self.last_persist
    }

    /// Everything durable in one write, from which recovery begins.
    pub(super) fn flush_checkpoint(&mut self) {
        let pending = std::mem::take(&mut self.records);
        let Some(f) = &self.formed else { return };
        let mut max_promise = f.promises.max_promise();
        for r in &pending {
            if let Record::MaxPromise(p) = r {
                max_promise = max_promise.max(*p);
            }
        }
        let mut records = vec![
            Record::Identity { cluster: f.cluster, me: f.me },
            Record::MaxPromise(max_promise),
        ];
        records.extend(self.stores.note_all());
        records.extend(f.promises.votes().map(Record::Fence));
        let durable = f.ledger.durable();
        records.extend(durable.snapshot.map(LedgerRecord::Snapshot).map(Record::Ledger));
        if !durable.entries.is_empty() {
            records.push(Record::Ledger(LedgerRecord::Entries(durable.entries)));
        }
        records.push(Record::Ledger(LedgerRecord::HardState(durable.hard)));
        let id = self.new_batch(&records);
        self.effects.push_back(Effect::Checkpoint { id, records });
    }

    /// Asserts what must hold between steps.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn invariants(&self, now: Now) {
        if let Some(f) = &self.formed {
            f.ledger.invariants();
            f.docket.invariants();
            if let Some(h) = &f.holder
                && self.standing == Standing::TakingPart
            {
                h.invariants(now.holder, &f.docket);
            }
            assert!(f.docket.applied() <= f.ledger.commit(), "applied_is_committed (R7)");
        }
    }
}
