//! What ledgers want done is done: the driver's part, as its contract has it.

use std::collections::VecDeque;
use std::sync::Arc;

use tierce_ticket::ids::MemberId;
use tierce_ticket::ledger::{LedgerEffect, LedgerMessage};

use super::mail::{Mail, in_small_parts, is_useful};
use super::node::{Node, SILENCE_MIN};
use super::past::{Breach, Sign};
use super::scope::{Fault, Scope};
use super::state::Cluster;
use crate::mutant::Mutant;

impl Cluster {
    /// Carries out what a member's ledger wants. Messages that the scope does not let travel by
    /// themselves are put into `at_once`.
    pub(super) fn absorb(
        &mut self,
        i: usize,
        syncs: bool,
        mutant: Option<Mutant>,
        at_once: &mut VecDeque<Mail>,
    ) {
        loop {
            while let Some(effect) = self.node(i).ledger.poll_effect() {
                self.carry_out(i, effect, mutant);
                if self.broken.is_some() {
                    return;
                }
            }
            self.release(i, mutant, at_once);
            let early = mutant == Some(Mutant::WrittenIsDurable);
            let n = self.node(i);
            if early {
                n.ledger.persisted(n.clock, n.written());
            }
            if syncs && !n.unsynced.is_empty() {
                self.sync(i);
            } else if !self.nodes[i].ledger.has_effects() {
                return;
            }
        }
    }

    /// The oldest record is durable, and the ledger is told.
    pub fn sync(&mut self, i: usize) {
        let n = self.node(i);
        let fine = n.land();
        n.ledger.persisted(n.clock, n.synced);
        if !fine {
            self.broken = Some(Breach::NoReplay);
        }
    }

    fn carry_out(&mut self, i: usize, effect: LedgerEffect, mutant: Option<Mutant>) {
        match effect {
            LedgerEffect::Persist(record) => self.node(i).unsynced.push_back(record),
            LedgerEffect::Send { to, message, needs_persist } => {
                let planted = match message {
                    LedgerMessage::VoteReply { .. } => Mutant::BallotVoteHeardFirst,
                    _ => Mutant::AppendAnsweredFirst,
                };
                let n = self.node(i);
                let waits = needs_persist && mutant != Some(planted);
                let after = if waits { n.written() } else { 0 };
                n.held.push_back((after, to, message));
            }
            LedgerEffect::Commit { upto } => self.committed(i, upto),
            LedgerEffect::InstallSnapshot(snapshot) => self.installed(i, &snapshot),
            LedgerEffect::Led { ballot } => {
                let (id, past) = (self.nodes[i].id, Arc::make_mut(&mut self.past));
                if past.leaders.insert(ballot, id).is_some() {
                    self.broken = Some(Breach::TwoLeaders);
                } else if past.leaders.len() > 1 {
                    self.sign(Sign::SecondLeader);
                }
                self.node(i).rounds = 0;
            }
            LedgerEffect::ReadReady { context, index } => {
                let asked = Arc::make_mut(&mut self.past).reads.remove(&context);
                self.sign(Sign::ReadAnswered);
                if asked.is_some_and(|floor| index < floor) {
                    self.broken = Some(Breach::OldRead);
                }
            }
            LedgerEffect::ReadFailed { context } => {
                Arc::make_mut(&mut self.past).reads.remove(&context);
                self.sign(Sign::ReadFailed);
            }
            LedgerEffect::Alarm(_) => self.broken = Some(Breach::Alarm),
            LedgerEffect::Followed { .. } => {}
        }
    }

    /// Lets go of messages whose records are durable.
    fn release(&mut self, i: usize, mutant: Option<Mutant>, at_once: &mut VecDeque<Mail>) {
        let n = self.node(i);
        let (from, synced) = (n.id, n.synced);
        let synced = if mutant == Some(Mutant::WrittenIsDurable) { n.written() } else { synced };
        let (free, held) = std::mem::take(&mut n.held).into_iter().partition(|h| h.0 <= synced);
        n.held = held;
        let free: VecDeque<(u64, MemberId, LedgerMessage)> = free;
        at_once.extend(free.into_iter().map(|(_, to, m)| Mail::new(from, to, in_small_parts(m))));
    }

    /// Does something to one member, and all that follows from it in the same step.
    pub fn act(
        &mut self,
        scope: &Scope,
        i: usize,
        mutant: Option<Mutant>,
        what: impl FnOnce(&mut Node),
    ) {
        what(self.node(i));
        let mut at_once = VecDeque::new();
        self.after(scope, i, mutant, &mut at_once);
        while let Some(mail) = at_once.pop_front()
            && self.broken.is_none()
        {
            let asks = matches!(mail.message, LedgerMessage::PreVote { .. });
            let answers = matches!(mail.message, LedgerMessage::PreVoteReply { .. });
            if scope.pre_votes_travel || !(asks || answers) {
                self.post(scope, mail);
                continue;
            }
            let to = mail.to.0 as usize - 1;
            let Mail { from, message, .. } = mail;
            let n = self.node(to);
            if asks {
                n.pass(SILENCE_MIN);
            }
            n.ledger.receive(n.clock, from, message);
            self.after(scope, to, mutant, &mut at_once);
        }
        self.purge();
        self.judge_leaders();
    }

    fn after(
        &mut self,
        scope: &Scope,
        i: usize,
        mutant: Option<Mutant>,
        at_once: &mut VecDeque<Mail>,
    ) {
        let syncs = scope.syncs_at_once || !self.may_crash(scope, i);
        self.absorb(i, syncs, mutant, at_once);
        if self.broken.is_some() {
            return;
        }
        if mutant.is_none() {
            self.nodes[i].ledger.invariants();
        }
        self.node(i).settle();
    }

    /// Whether what its journal does not hold yet could still be lost.
    pub fn may_crash(&self, scope: &Scope, i: usize) -> bool {
        self.budget[Fault::Crash as usize] > 0 && scope.active.contains(&i)
    }

    fn post(&mut self, scope: &Scope, mail: Mail) {
        if scope.newest_only {
            self.net.retain(|old| !mail.says_all_of(old));
        }
        if !self.net.iter().any(|m| m.digest == mail.digest) {
            self.net.push(Arc::new(mail));
        }
    }

    /// Drops messages that can have no effect any more.
    fn purge(&mut self) {
        let nodes = &self.nodes;
        self.net.retain(|m| {
            let at = |id: MemberId| &nodes[id.0 as usize - 1];
            is_useful(m, at(m.from), at(m.to))
        });
    }
}
