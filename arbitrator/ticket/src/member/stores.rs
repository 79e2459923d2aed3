//! How far each member's store has come, as this one knows it: what R5 rests on.
//!
//! Openings are told in the hello, records with every message; both are remembered, and written
//! down before or with what rests on them. A store that comes with less than was seen is an older
//! copy. After a start this member asks the same of the others before it takes part, and writes
//! nothing before: else an older copy would grow with every start until it passed for the newer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Alarm, Effect, Member, Standing};
use crate::configuration::MemberInfo;
use crate::durable::{Age, Durable, Record};
use crate::ids::{ClusterId, Incarnation, MemberId, MemberName, StoreId};
use crate::message::{Hello, HelloReply};
use crate::planted::{Bug, is_planted};
use crate::time::{Now, VoterTime};

/// What is known of another member's store.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    age: Age,
    /// In which start of that member.
    boot: Incarnation,
    /// What of it is on disk here.
    noted: Age,
}

/// All stores, and what the others have said of this one.
#[derive(Debug)]
pub(super) struct Stores {
    seen: BTreeMap<StoreId, Sighting>,
    /// When news of others is written down even if nothing else is.
    pub(super) note_at: Option<VoterTime>,
    /// Who has confirmed this store, while that counts.
    vouched: BTreeSet<MemberName>,
    /// From then on one who confirms is enough: what this store had promised has ended.
    alone_from: VoterTime,
}

impl Stores {
    /// With what the journal remembers, at the start of the process.
    pub(super) fn new(durable: &Durable, now: VoterTime) -> Self {
        let noted = |(store, (age, boot)): (&StoreId, &(Age, Incarnation))| {
            (*store, Sighting { age: *age, boot: *boot, noted: *age })
        };
        Self {
            seen: durable.seen.iter().map(noted).collect(),
            note_at: None,
            vouched: BTreeSet::new(),
            alone_from: now + durable.max_promise,
        }
    }

    /// When one voter's word becomes enough, while this member waits with at least one.
    pub(super) fn enough_from(&self) -> Option<VoterTime> {
        (!self.vouched.is_empty()).then_some(self.alone_from)
    }

    /// Whether this hello is from the newest known opening of its store, or a newer one.
    pub(super) fn is_newest(&self, hello: &Hello) -> bool {
        self.seen.get(&hello.store).is_none_or(|s| s.age.opened <= hello.opened)
    }

    /// All sightings as records, which from now on count as noted.
    pub(super) fn note_all(&mut self) -> impl Iterator<Item = Record> {
        self.note_at = None;
        self.seen.iter_mut().map(|(store, s)| s.note(*store))
    }

    /// The same for those that have changed since they were noted last.
    fn note_changed(&mut self) -> impl Iterator<Item = Record> {
        self.note_at = None;
        self.seen.iter_mut().filter(|(_, s)| s.age != s.noted).map(|(store, s)| s.note(*store))
    }
}

impl Sighting {
    fn note(&mut self, store: StoreId) -> Record {
        self.noted = self.age;
        Record::Seen { store, age: self.age, boot: self.boot }
    }
}

impl Member {
    /// A voter says that it has not seen this store further on than it is.
    pub(super) fn vouched_by(&mut self, now: Now, from: &MemberName) {
        if self.standing == Standing::Confirming {
            self.stores.vouched.insert(from.clone());
            self.confirm(now);
        }
    }

    /// Takes part once it is sure that nothing is missing from this store. Who could know of what
    /// is missing is another voter, so all of them are asked. The word of one is enough where the
    /// machine itself knows, and after T: by then every promise that a newer copy may have given has
    /// run out, so a voter that is down for long keeps nobody from starting.
    pub(super) fn confirm(&mut self, now: Now) {
        let Some(f) = &self.formed else { return };
        if self.standing != Standing::Confirming || self.stores.vouched.is_empty() {
            return;
        }
        let voters = f.ledger.configuration().0.voters.values().map(|m| &m.name);
        let mut others = voters.filter(|n| **n != self.settings.name);
        let enough = self.settings.continued
            || now.voter >= self.stores.alone_from
            || is_planted(Bug::OlderStoreTakesPart);
        if enough || others.all(|n| self.stores.vouched.contains(n)) {
            self.standing = Standing::TakingPart;
            self.stores.vouched.clear();
            self.note_sightings();
        }
    }

    /// Somebody has seen this store further on. That is written into it: after its next start the one
    /// who knows may be out of reach.
    pub(super) fn found_older(&mut self, seen: Age, by: MemberName) {
        let own = Age { written: self.written, ..self.settings.age };
        let news = !matches!(self.standing, Standing::Out(Alarm::OlderStore { .. }));
        self.out(Alarm::OlderStore { own, seen, by });
        if news && self.formed.is_some() && !is_planted(Bug::FoundOutForgotten) {
            let (store, boot) = (self.settings.store, self.settings.boot);
            let records = vec![Record::Seen { store, age: seen, boot }];
            let id = self.new_batch(&records);
            self.effects.push_back(Effect::Persist { id, records });
        }
    }

    /// Remembers how far a peer's store has come, by what it says with each message.
    /// That is written down with the next record, or after a moment. A message may come late, from
    /// before its sender lost its store: the number that it had then is another one. A store that
    /// was admitted over a standing connection is met here first: its hello was a stranger's. What the
    /// process before said comes late as well, and tells nothing of this one.
    pub(super) fn sight(&mut self, now: Now, from: &MemberName, id: MemberId, told: Age) {
        let Some(f) = &self.formed else { return };
        let Some(hello) = self.peers.get(from).and_then(|p| p.hello.as_ref()) else { return };
        let its = f.ledger.configuration().0.member(id).map(|m| m.store);
        if its != Some(hello.store) && !is_planted(Bug::LateWordsCount) {
            return;
        }
        if told != Age::default() && told.opened != hello.opened {
            return;
        }
        let written = told.written;
        let news = match self.stores.seen.entry(hello.store) {
            Entry::Occupied(mut known) => {
                let s = known.get_mut();
                let same = s.age.opened == hello.opened && s.boot == hello.boot;
                let more = same && s.age.written < written;
                s.age.written = if more { written } else { s.age.written };
                more
            }
            Entry::Vacant(place) if !is_planted(Bug::AdmittedUnseen) => {
                let age = Age { opened: hello.opened, written };
                place.insert(Sighting { age, boot: hello.boot, noted: Age::default() });
                true
            }
            Entry::Vacant(_) => false,
        };
        if news {
            let soon = now.voter + f.config_seen.timing.election / 4;
            self.stores.note_at.get_or_insert(soon);
        }
    }

    /// Writes down how far other stores have come since that was last done. What a peer says may
    /// make something of ours durable that rests on it (an expiry on its vote), so both go together.
    pub(super) fn note_sightings(&mut self) {
        if self.standing != Standing::TakingPart {
            self.stores.note_at = None; // later, if ever
            return;
        }
        let changed = self.stores.note_changed();
        self.records.extend(changed);
    }

    /// Says what the peer's store is to this member, and remembers how far it has come.
    pub(super) fn judge(
        &mut self,
        from: &MemberName,
        cluster: ClusterId,
        id: MemberId,
        written: u64,
        hello: &Hello,
    ) -> HelloReply {
        let told = Age { opened: hello.opened, written };
        let known = self.stores.seen.get(&hello.store).copied();
        let same = known.is_some_and(|s| s.age.opened == told.opened && s.boot == hello.boot);
        if let Some(s) = known
            && !same
            && !s.age.may_become(told)
            && !is_planted(Bug::OlderStoreTakesPart)
        {
            let alarm = Alarm::PeerOlder { member: from.clone(), told, seen: s.age };
            self.alarm_once(&format!("older {from} {}", hello.boot), alarm);
            return HelloReply::Older { seen: s.age };
        }
        let Some(f) = &self.formed else { return HelloReply::Stranger };
        // One that is being removed is known until that is final.
        let its = [f.ledger.configuration().0, f.ledger.committed_configuration().0];
        let shown = |m: &MemberInfo| m.name == *from && m.store == hello.store;
        let in_it = its.iter().any(|c| c.members().any(|(_, m)| shown(m)));
        let its = its.iter().filter_map(|c| c.member(id));
        let ours = f.cluster == cluster && its.map(|m| m.store).any(|s| s == hello.store);
        if in_it && !same {
            let (store, boot) = (hello.store, hello.boot);
            // One that does not tell (version 1) has at least what it had.
            let least = known.map_or(0, |s| s.age.written);
            let age = Age { written: told.written.max(least), ..told };
            let noted = Age::default();
            self.stores.seen.insert(store, Sighting { age, boot, noted });
            self.note_sightings();
        }
        // A founding or admitted member may not have its configuration yet: it is on its way. Else a
        // good store names its own number.
        let on_its_way = in_it && cluster == ClusterId::default();
        if ours || on_its_way { HelloReply::Known } else { HelloReply::Stranger }
    }
}
