//! How a member finds its place: hello, founding, admission, and the refusal of older stores (R5).
//!
//! *Founding*: the first site by name waits until every planned member has said hello with a store
//! that has no cluster yet; it writes the founding configuration, with all their stores in it, and
//! brings it to them. The ledger's first leader needs the vote of every founding voter, so a cluster
//! comes to life only when all of them have it on disk.
//!
//! *Admission*: a member whose store is not in the configuration (lost, or new) waits. The leader,
//! on an operator's word, removes the old store's number, adds the new one as a learner, brings it
//! up to date, and lets it vote: three steps of one change each (R11).
//!
//! *Older stores*: `stores.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commands::Origin;
use super::{Alarm, Formed, Member, PlannedMember, Standing};
use crate::command::{Outcome, Refusal, RefusalCode};
use crate::configuration::{Configuration, MemberInfo, Role};
use crate::durable::{Durable, Record};
use crate::entry::{Entry, Payload};
use crate::ids::{
    Ballot, ClusterId, ConfigIndex, Generation, Incarnation, LogIndex, MemberId, MemberName,
    StoreId,
};
use crate::ledger::{LedgerRecord, Snapshot};
use crate::limits;
use crate::message::{Hello, HelloReply, Lane, Message};
use crate::time::{Now, VoterTime};

/// Wall clocks that differ by more are reported.
const WALL_SKEW_MS: u64 = 5_000;

/// An admission or removal under way at the leader.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) origin: Origin,
    pub(super) name: MemberName,
    /// Role and addresses; `None`: the member is being removed.
    pub(super) join: Option<(Role, StoreId, Vec<String>)>,
    pub(super) asked: Option<VoterTime>,
    pub(super) until: VoterTime,
    /// The state that a learner without a cluster is being given.
    pub(super) brings: Option<Arc<Snapshot>>,
}

impl Member {
    pub(super) fn peer_up(&mut self, name: &MemberName) {
        let peer = self.peers.entry(name.clone()).or_default();
        peer.up = true;
        peer.hello = None;
        let hello = self.own_hello(None);
        self.send(name, Lane::Stream, Message::Hello(hello), false);
        self.tell_readiness(Some(name));
    }

    pub(super) fn peer_down(&mut self, name: &MemberName) {
        if let Some(p) = self.peers.get_mut(name) {
            p.up = false;
            p.hello = None;
        }
    }

    fn own_hello(&self, reply: Option<(Incarnation, HelloReply)>) -> Hello {
        Hello {
            role: self.settings.role,
            store: self.settings.store,
            opened: self.settings.age.opened,
            boot: self.settings.boot,
            digest: self.settings.digest,
            config_index: self.ledger().map(|l| l.committed_configuration().1).unwrap_or_default(),
            wall_ms: self.wall_ms,
            reply,
        }
    }

    pub(super) fn hello(
        &mut self,
        now: Now,
        from: &MemberName,
        cluster: ClusterId,
        id: MemberId,
        written: u64,
        hello: &Hello,
    ) {
        if self.peers.len() > 4 * limits::MAX_VOTERS && !self.peers.contains_key(from) {
            return;
        }
        // One from before the peer's restart may come late, or it comes with an older copy.
        let there = self.peers.get(from).and_then(|p| p.hello.as_ref());
        let overtaken = there.is_some_and(|h| h.store == hello.store && h.opened > hello.opened);
        if self.stores.is_newest(hello) && !overtaken {
            let peer = self.peers.entry(from.clone()).or_default();
            peer.hello = Some(hello.clone());
            peer.cluster = cluster;
            self.compare_files(now, from, hello);
            self.try_to_found(now); // first: the answer below leaves with the standing after it
        }
        // What a hello tells is remembered, be it an answer or not: what is said next may rest on it.
        let reply = self.judge(from, cluster, id, written, hello);
        match hello.reply {
            None => {
                let own = self.own_hello(Some((hello.boot, reply)));
                self.send(from, Lane::Stream, Message::Hello(own), true);
                self.offer_founding(from, cluster, hello);
            }
            Some((boot, _)) if boot != self.settings.boot => {}
            Some((_, HelloReply::Known)) => self.vouched_by(now, from),
            Some((_, HelloReply::Older { seen })) => {
                self.found_older(seen, from.clone());
            }
            Some((_, HelloReply::Stranger)) => {
                let new = self.standing == Standing::Unformed && cluster != ClusterId::default();
                if new || self.standing == Standing::Confirming {
                    self.alarm_once("stranger", Alarm::NotAdmitted { by: from.clone() });
                }
                self.hear_of_removal(cluster, hello.config_index);
            }
        }
    }

    /// A peer does not know this store, by its final configuration nor by one that may become it. If
    /// that is as new as all that is known here, this member was removed while it heard nothing.
    fn hear_of_removal(&mut self, cluster: ClusterId, at: ConfigIndex) {
        let known = |f: &Formed| f.cluster == cluster && at >= f.ledger.configuration().1;
        if self.standing == Standing::TakingPart && self.formed.as_ref().is_some_and(known) {
            self.out(Alarm::Removed);
        }
    }

    /// The own file was read again: the peers learn its digest, and it is compared with theirs.
    pub(super) fn file_changed(&mut self, now: Now, digest: [u8; 16]) {
        if digest == self.settings.digest {
            return;
        }
        self.settings.digest = digest;
        let up = self.peers.iter().filter(|(_, p)| p.up);
        let up: Vec<(MemberName, Option<Hello>)> =
            up.map(|(n, p)| (n.clone(), p.hello.clone())).collect();
        for (name, theirs) in up {
            let hello = self.own_hello(None);
            self.send(&name, Lane::Stream, Message::Hello(hello), false);
            if let Some(theirs) = theirs {
                self.compare_files(now, &name, &theirs);
            }
        }
    }

    fn compare_files(&mut self, now: Now, from: &MemberName, hello: &Hello) {
        let zero = [0u8; 16];
        if hello.digest != self.settings.digest
            && hello.digest != zero
            && self.settings.digest != zero
        {
            let hex = |d: &[u8; 16]| StoreId(*d).to_string().chars().take(12).collect::<String>();
            let alarm = Alarm::DigestDiffers {
                member: from.clone(),
                theirs: hex(&hello.digest),
                ours: hex(&self.settings.digest),
            };
            self.alarm_once(&format!("digest {from} {}", hex(&hello.digest)), alarm);
        }
        if hello.wall_ms != 0 && now.wall_ms.abs_diff(hello.wall_ms) > WALL_SKEW_MS {
            let by_ms = hello.wall_ms.cast_signed().wrapping_sub(now.wall_ms.cast_signed());
            self.alarm_once(
                &format!("skew {from}"),
                Alarm::WallSkew { member: from.clone(), by_ms },
            );
        }
    }

    // ----- founding ----------------------------------------------------------------------

    fn try_to_found(&mut self, now: Now) {
        if self.formed.is_some() {
            return;
        }
        let Some(plan) = &self.settings.plan else { return };
        let first = plan.members.iter().filter(|m| m.role == Role::Site).map(|m| &m.name).min();
        if first != Some(&self.settings.name) {
            return;
        }
        let mut members: Vec<&PlannedMember> = plan.members.iter().collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let mut voters = BTreeMap::new();
        for (n, m) in members.iter().enumerate() {
            let Some(store) = self.founding_store(m) else { return };
            let info = MemberInfo {
                name: m.name.clone(),
                role: m.role,
                store,
                addresses: m.addresses.clone(),
            };
            voters.insert(MemberId(n as u32 + 1), info);
        }
        let configuration = Configuration {
            cluster: self.settings.new_cluster,
            generation: Generation(0),
            next_member: MemberId(voters.len() as u32 + 1),
            voters,
            learners: BTreeMap::new(),
            timing: plan.timing,
            digest: self.settings.digest,
        };
        if configuration.check().is_ok() && configuration.timing.check().is_ok() {
            self.found(now, &configuration);
        }
    }

    /// The store of a planned member that is here and has no cluster, with an equal file.
    fn founding_store(&self, m: &PlannedMember) -> Option<StoreId> {
        if m.name == self.settings.name {
            return (m.role == self.settings.role).then_some(self.settings.store);
        }
        let peer = self.peers.get(&m.name).filter(|p| p.up && p.cluster == ClusterId::default())?;
        let hello = peer.hello.as_ref()?;
        let equal = m.role == Role::Arbitrator || hello.digest == self.settings.digest;
        (hello.role == m.role && equal).then_some(hello.store)
    }

    /// Makes the founding configuration durable and begins life in it.
    fn found(&mut self, now: Now, configuration: &Configuration) {
        let own = (&self.settings.name, self.settings.store, self.settings.role);
        let me = configuration
            .voters
            .iter()
            .find(|(_, m)| (&m.name, m.store, m.role) == own)
            .map(|(id, _)| *id);
        let Some(me) = me else { return };
        let cluster = configuration.cluster;
        let entry = Entry {
            index: LogIndex(1),
            ballot: Ballot(0),
            wall_ms: 0,
            payload: Payload::Configuration(Box::new(configuration.clone())),
        };
        let records = vec![
            Record::Identity { cluster, me },
            Record::Ledger(LedgerRecord::Entries(vec![entry])),
        ];
        if self.begin(now, records) {
            let own = self.settings.name.clone();
            let others = configuration.voters.values().map(|m| &m.name).filter(|n| **n != own);
            for to in others {
                self.send(to, Lane::Stream, Message::Founding(configuration.clone()), true);
            }
        }
    }

    /// Makes first records durable and sets the member up from them.
    pub(super) fn begin(&mut self, now: Now, records: Vec<Record>) -> bool {
        let mut durable = Durable::default();
        for r in &records {
            if let Err(e) = durable.replay(r.clone()) {
                self.alarm(Alarm::Ledger(e.to_string()));
                return false;
            }
        }
        self.records.extend(records);
        if let Err(e) = self.form(durable, now) {
            self.out(Alarm::Ledger(e.to_string()));
            return false;
        }
        self.standing = Standing::TakingPart;
        // Peers learn the new standing by a fresh hello.
        let up: Vec<MemberName> =
            self.peers.iter().filter(|(_, p)| p.up).map(|(n, _)| n.clone()).collect();
        for name in up {
            let hello = self.own_hello(None);
            self.send(&name, Lane::Stream, Message::Hello(hello), true);
        }
        true
    }

    pub(super) fn founding(&mut self, now: Now, from: &MemberName, configuration: &Configuration) {
        if self.standing != Standing::Unformed {
            return;
        }
        let from_a_site =
            configuration.voters.values().any(|m| m.name == *from && m.role == Role::Site);
        let same_file =
            self.settings.plan.is_none() || configuration.digest == self.settings.digest;
        let sound = configuration.check().is_ok()
            && configuration.timing.check().is_ok()
            && configuration.learners.is_empty()
            && configuration.cluster != ClusterId::default();
        if from_a_site && same_file && sound {
            self.found(now, configuration);
        }
    }

    /// A founding member that was away when the founder called gets the configuration now.
    fn offer_founding(&mut self, to: &MemberName, cluster: ClusterId, hello: &Hello) {
        let Some(f) = &self.formed else { return };
        if cluster != ClusterId::default() || f.ledger.last_index() != LogIndex(1) {
            return;
        }
        let configuration = f.ledger.configuration().0.clone();
        if configuration.voters.values().any(|m| m.name == *to && m.store == hello.store) {
            self.send(to, Lane::Stream, Message::Founding(configuration), true);
        }
    }

    // ----- admission ---------------------------------------------------------------------

    /// The next step of an admission or removal, at the leader.
    pub(super) fn run_admission(&mut self, now: Now) -> bool {
        let Some(a) = self.commands.take_admission() else { return false };
        if !self.leads() {
            self.finish(a.origin, Outcome::Unknown { why: "this member leads no more".to_owned() });
            return false;
        }
        if now.voter >= a.until {
            let why = "the change did not end in time; ask for the list of sites".to_owned();
            self.finish(a.origin, Outcome::Unknown { why });
            return false;
        }
        match self.admission_step(now, a) {
            Some(again) => {
                self.commands.put_admission(again);
                false
            }
            None => true,
        }
    }

    fn admission_step(&mut self, now: Now, mut a: Admission) -> Option<Admission> {
        let f = self.formed.as_mut()?;
        let newest = f.ledger.configuration().0.clone();
        let settled = *f.docket.configuration() == newest;
        let present = newest.id_of(&a.name);
        let mut next = newest.clone();
        let index = f.docket.applied();
        match (&a.join, present) {
            (None, None) if settled => {
                self.finish(a.origin, Outcome::Done { index, term: None });
                return None;
            }
            (None, Some(id)) => {
                next.voters.remove(&id);
                next.learners.remove(&id);
            }
            (Some((_, store, _)), Some(id))
                if newest.member(id).is_some_and(|m| m.store != *store) =>
            {
                next.voters.remove(&id);
                next.learners.remove(&id);
            }
            (Some((role, store, addresses)), None) => {
                let info = MemberInfo {
                    name: a.name.clone(),
                    role: *role,
                    store: *store,
                    addresses: addresses.clone(),
                };
                next.learners.insert(newest.next_member, info);
                next.next_member = MemberId(newest.next_member.0 + 1);
            }
            (Some(_), Some(id)) if newest.is_voter(id) && settled => {
                self.finish(a.origin, Outcome::Done { index, term: None });
                return None;
            }
            (Some(_), Some(id)) if newest.learners.contains_key(&id) => {
                let caught_up =
                    f.ledger.follower_progress(id).is_some_and(|(m, _)| m >= f.ledger.commit());
                if !caught_up {
                    self.bring_up(now, id, &mut a);
                    return Some(a);
                }
                if let Some(info) = next.learners.remove(&id) {
                    next.voters.insert(id, info);
                }
            }
            _ => return Some(a),
        }
        if settled && let Some(f) = &mut self.formed {
            // Refused means "not yet" here: R11's wait, or a change still under way.
            let _ = f.ledger.propose_configuration(now.voter, now.wall_ms, next);
        }
        Some(a)
    }

    pub(super) fn admission_refusal(&self, name: &MemberName) -> Option<Refusal> {
        if self.commands.has_admission() {
            let what = "another change of members is under way";
            return Some(Refusal::new(RefusalCode::NotNow, what, "wait until it has ended"));
        }
        if *name == self.settings.name {
            let what = "a leader does not replace itself";
            return Some(Refusal::new(
                RefusalCode::NotNow,
                what,
                "ask at another member after it leads",
            ));
        }
        None
    }

    /// The store that a peer of this name presents now.
    pub(super) fn presented_store(&self, name: &MemberName) -> Option<(Role, StoreId)> {
        self.peers
            .get(name)
            .filter(|p| p.up)
            .and_then(|p| p.hello.as_ref())
            .map(|h| (h.role, h.store))
    }
}
